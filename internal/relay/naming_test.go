package relay_test

import (
	"fmt"
	"math/bits"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtptest"
)

// openRecipient is a recipient's row, as far as an attempt depends on it.
type openRecipient struct {
	address string
	last    email.Reply
	counted int
}

// apply is what package db/mail makes of an outcome.
func (r *openRecipient) apply(o delivery.Outcome) {
	switch {
	case o.RelayFault && !o.AtRcpt:
	case o.RelayFault:
		r.last = o.Reply
	case o.Unasked:
		if delivery.WasAccepted(o.Reply) || r.counted == 0 && (o.Code != 0 || !delivery.SaysMore(r.last)) {
			r.last = o.Reply
		}
	default:
		r.last = o.Reply
		r.counted++
	}
}

// TestRecipientsAtWhomTheRelayClosesHoldBackNoOther, though all are due at the same time: of up to ten
// recipients, the relay accepts each other one in at most three transactions. With one such recipient
// the others have the message within three transactions of the e-mail.
func TestRecipientsAtWhomTheRelayClosesHoldBackNoOther(t *testing.T) {
	t.Parallel()
	for way, answer := range map[string]string{
		"421 and is gone": smtptest.ThenDrop(closesAtRcpt), "421 and waits for QUIT": closesAtRcpt, "no reply": smtptest.Drop,
		"several processes": smtptest.ThenDrop(closesAtRcpt),
	} {
		for _, n := range []int{2, 3, 5, 10} {
			t.Run(fmt.Sprint(n, " ", way), func(t *testing.T) {
				t.Parallel()
				for closers := uint(1); closers < 1<<n-1; closers++ {
					if n == 10 && bits.OnesCount(closers) > 1 && closers%37 != 0 {
						continue // each place of one, and a part of the others
					}
					closeAt(t, n, closers, answer, way == "several processes")
				}
			})
		}
	}
}

// closeAt sends an e-mail to n recipients. The relay closes the connection at those in the bit set
// closers, each time.
func closeAt(t *testing.T, n int, closers uint, answer string, processes bool) {
	t.Helper()
	answers, good := map[string]string{}, 0
	var open []*openRecipient
	for i := range n {
		r := &openRecipient{address: fmt.Sprintf("r%d@y.test", i)}
		open = append(open, r)
		if closers&(1<<i) != 0 {
			answers["RCPT TO:<"+r.address+">"] = answer
		} else {
			good++
		}
	}
	accepted := map[string]int{}
	p := (&smtptest.Peer{Stays: answer == closesAtRcpt, Answer: func(line string) string { return answers[line] }}).Start(t)
	defer p.Close()
	c := newClock()
	rs := relays(t, relay.Options{Now: c.now}, url(p, "name=primary"))
	closedInARow, transactions := 0, 0
	for ; good > 0; transactions++ {
		require.Less(t, transactions, 2*n+2, "%b: nothing comes of it", closers)
		if processes {
			rs = relays(t, relay.Options{Now: c.now}, url(p, "name=primary"))
		}
		last, env := make([]email.Reply, len(open)), envelope()
		for i, r := range open {
			last[i] = r.last
		}
		for i, g := range delivery.NamingGroups(last) {
			env.Recipients = append(env.Recipients, delivery.EnvelopeRecipient{ID: open[i].address, Address: open[i].address, Group: g})
		}
		s, err := rs.Session(t.Context(), delivery.Route{})
		require.NoError(t, err)
		ex := s.Send(t.Context(), env, []byte("\r\n"), noMark)
		outcomes := ex.Outcomes
		s.Close()
		took := map[string]bool{} // a group that got no reply is named again, one by one
		for _, st := range ex.Transcript {
			if to, ok := strings.CutPrefix(st.Command, "RCPT TO:<"); ok && st.Code == 250 && !took[to] {
				took[to] = true
				accepted[to]++
			}
		}
		var left []*openRecipient
		wait := time.Duration(0)
		for i, o := range outcomes {
			r := open[i]
			require.Equal(t, env.Recipients[i].ID, o.RecipientID)
			if o.Status == email.RecipientDelivered {
				good--
				continue
			}
			require.Equal(t, email.RecipientDeferred, o.Status, "%+v", o)
			r.apply(o)
			left = append(left, r)
			if answers["RCPT TO:<"+r.address+">"] == "" {
				require.True(t, o.Uncounted && (o.Unasked || o.RelayFault), "%+v", o)
				wait = max(wait, o.RetryAfter)
			}
		}
		if processes {
			closedInARow = 0
		}
		// 10, 20, 40 … s for each closed connection in a row, a rested one included.
		step := func(n int) time.Duration { return min(10*time.Second<<n, 5*time.Minute) }
		waits := []time.Duration{step(closedInARow), step(closedInARow + 1)}
		if len(left) < len(open) {
			closedInARow, waits = 0, append(waits, 0, time.Second)
		} else {
			closedInARow++
		}
		require.Contains(t, waits, wait, "%b after %d", closers, transactions)
		open = left
		c.move(max(wait, time.Second))
	}
	for a, times := range accepted {
		require.LessOrEqual(t, times, 3, "%b: %s", closers, a)
	}
	if bits.OnesCount(closers) == 1 {
		require.LessOrEqual(t, transactions, 3, "%b", closers)
	}
}
