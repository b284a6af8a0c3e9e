package relay_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtptest"
)

// fits is a peer that answers the RCPT behind the n-th of a transaction.
func fits(t *testing.T, n int, answer string, stays ...bool) *smtptest.Peer {
	var asked atomic.Int64
	return (&smtptest.Peer{Stays: len(stays) > 0, Answer: func(line string) string {
		switch {
		case strings.HasPrefix(line, "MAIL"):
			asked.Store(0)
		case strings.HasPrefix(line, "RCPT"):
			if asked.Add(1) > int64(n) {
				return answer
			}
		}
		return ""
	}}).Start(t)
}

// deliver sends until no recipient is open, and returns the number of transactions. The clock
// moves by the waits of the outcomes.
func deliver(t *testing.T, rs *relay.Relays, c *clock, to ...string) (transactions int) {
	t.Helper()
	for len(to) > 0 {
		require.Less(t, transactions, 20)
		ex := send(t, rs, envelope(to...), noMark)
		transactions++
		var open []string
		wait := time.Duration(0)
		for i, o := range ex.Outcomes {
			if o.Status == email.RecipientDelivered {
				continue
			}
			require.Equal(t, email.RecipientDeferred, o.Status, "%+v", o)
			open = append(open, to[i])
			wait = max(wait, o.RetryAfter)
		}
		to = open
		c.move(wait)
	}
	return transactions
}

func TestTooManyRecipientsInAnyCode(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		"552 Too many recipients", "550 5.5.3 Too many recipients", "554 5.5.3 Too many recipients specified", "452 4.5.3 Too many recipients", "450 too many recipients",
		"552 5.5.3 Maximum limit of 2 recipients reached", "452 too many recipients (#4.5.3)",
	} {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			p := fits(t, 2, answer)
			rs := relays(t, relay.Options{Now: c.now}, url(p, ""))
			require.Equal(t, 3, deliver(t, rs, c, "r0@y.test", "r1@y.test", "r2@y.test", "r3@y.test", "r4@y.test"), "2+2+1")
			refused := func() (n int) {
				rcpts := 0
				for _, l := range p.Lines() {
					if strings.HasPrefix(l, "MAIL") {
						rcpts = 0
					}
					if strings.HasPrefix(l, "RCPT") {
						if rcpts++; rcpts > 2 {
							n++
						}
					}
				}
				return n
			}
			said := refused()
			if !smtptest.OffersPipelining() {
				require.Equal(t, 1, said, "once it has said so, no more are named")
			}
			require.Equal(t, 2, deliver(t, rs, c, "r5@y.test", "r6@y.test", "r7@y.test"))
			require.Equal(t, said, refused(), "nor by the next mail")
			c.move(2 * time.Hour)
			deliver(t, rs, c, "r8@y.test", "r9@y.test", "ra@y.test")
			require.Equal(t, said+1, refused(), "the limit is found out anew when it is old")
			for _, a := range []string{"r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "ra"} {
				require.Equal(t, 1, p.Copies("m@x.test", a+"@y.test"), a)
			}
		})
	}
}

func TestTooManyRecipientsSaidOfTheMessage(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"DATA", "."} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			var rcpts atomic.Int64
			p := (&smtptest.Peer{Answer: func(line string) string {
				switch {
				case strings.HasPrefix(line, "MAIL"):
					rcpts.Store(0)
				case strings.HasPrefix(line, "RCPT"):
					rcpts.Add(1)
				case line == at && rcpts.Load() > 2:
					return "552 5.5.3 too many recipients"
				}
				return ""
			}}).Start(t)
			require.Equal(t, 3, deliver(t, relays(t, relay.Options{Now: c.now}, url(p, "")), c, "r0@y.test", "r1@y.test", "r2@y.test", "r3@y.test"), "none, 2, 2")
		})
	}
}

func TestARelayThatClosesAfterSomeRecipients(t *testing.T) {
	t.Parallel()
	// Two RCPT a connection: the third is answered with 421, and that was it.
	perConnection := func(t *testing.T, answer string) *smtptest.Peer {
		var asked atomic.Int64
		return (&smtptest.Peer{Answer: func(line string) string {
			switch {
			case strings.HasPrefix(line, "EHLO"):
				asked.Store(0)
			case strings.HasPrefix(line, "RCPT"):
				if asked.Add(1) > 2 {
					return answer
				}
			}
			return ""
		}}).Start(t)
	}
	t.Run("gets fewer in the next transactions", func(t *testing.T) {
		t.Parallel()
		c := newClock()
		p := perConnection(t, smtptest.ThenDrop("421 4.7.0 too many for you"))
		rs := relays(t, relay.Options{Now: c.now}, url(p, ""))
		require.LessOrEqual(t, deliver(t, rs, c, "r0@y.test", "r1@y.test", "r2@y.test", "r3@y.test"), 3)
		dialed := p.Dialed()
		require.LessOrEqual(t, dialed, 3)
		require.Equal(t, 2, deliver(t, rs, c, "r4@y.test", "r5@y.test", "r6@y.test", "r7@y.test"), "the next mail knows it")
		require.Equal(t, dialed+2, p.Dialed())
	})
	t.Run("and leaves the connection open gets the message for those", func(t *testing.T) {
		t.Parallel()
		p := fits(t, 2, "421 4.7.0 too many for you", true)
		ex := send(t, relays(t, relay.Options{}, url(p, "")), envelope("r0@y.test", "r1@y.test", "r2@y.test", "r3@y.test"), noMark)
		require.Equal(t, []string{"r0@y.test", "r1@y.test"}, p.Messages()[0].To)
		require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status)
		require.False(t, ex.RelayFault)
		p.Await("the socket's end", func() bool { return p.Open() == 0 })
		require.False(t, ex.Outcomes[2].Uncounted, "who got the 421 waits by the schedule")
		require.True(t, ex.Outcomes[3].Uncounted)
	})
	t.Run("and takes none at all is asked less and less often", func(t *testing.T) {
		t.Parallel()
		c := newClock()
		rs := relays(t, relay.Options{Now: c.now}, url(fits(t, 0, smtptest.ThenDrop("421 4.7.0 not now")), ""))
		var waits []time.Duration
		for range 7 {
			ex := send(t, rs, envelope("r0@y.test", "r1@y.test"), noMark)
			waits = append(waits, ex.Outcomes[1].RetryAfter)
			c.move(time.Hour)
		}
		require.Equal(t, []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 5 * time.Minute, 5 * time.Minute}, waits)
	})
}

// TestASendingQuotaIsNoRecipientsFault: the refused recipients wait, and those accepted behind
// them get the message.
func TestASendingQuotaIsNoRecipientsFault(t *testing.T) {
	t.Parallel()
	const quota = "550 5.4.5 Daily user sending limit exceeded"
	requireWaits := func(t *testing.T, o delivery.Outcome) {
		t.Helper()
		requireHeld(t, o)
		require.Equal(t, 30*time.Minute, o.RetryAfter)
		require.Equal(t, 550, o.Code, "it was asked")
	}
	for name, refused := range map[string][]int{
		"the last ones": {2, 3}, "the first one": {0}, "one between others": {1}, "all but one": {0, 1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script := map[string]string{}
			for _, i := range refused {
				script[fmt.Sprintf("RCPT TO:<r%d@", i)] = quota
			}
			p := (&smtptest.Peer{Answer: answers(script)}).Start(t)
			rs := relays(t, relay.Options{}, url(p, "name=primary"))
			ex := send(t, rs, envelope("r0@y.test", "r1@y.test", "r2@y.test", "r3@y.test"), noMark)
			for i, o := range ex.Outcomes {
				if slices.Contains(refused, i) {
					requireWaits(t, o)
				} else {
					require.Equal(t, email.RecipientDelivered, o.Status)
				}
			}
			require.False(t, ex.RelayFault, "it took mail")
			require.True(t, rs.Up()["primary"])
		})
	}
	t.Run("all", func(t *testing.T) {
		t.Parallel()
		c := newClock()
		p := fits(t, 0, quota)
		rs := relays(t, relay.Options{Now: c.now}, url(p, "name=primary"))
		for n := range 3 {
			ex := send(t, rs, to(fmt.Sprint(n), "r0@y.test", "r1@y.test"), noMark)
			for _, o := range ex.Outcomes {
				requireWaits(t, o)
			}
			require.True(t, ex.RelayFault)
			require.Equal(t, n < 2, rs.Up()["primary"], "three such transactions in a row close it")
		}
		require.Empty(t, p.Messages())
	})
	t.Run("until the relay closes for the number of refusals", func(t *testing.T) {
		t.Parallel()
		var asked atomic.Int64
		p := (&smtptest.Peer{Answer: func(line string) string {
			if !strings.HasPrefix(line, "RCPT") {
				return ""
			}
			if asked.Add(1) > 2 {
				return smtptest.ThenDrop("421 4.7.0 too many errors")
			}
			return quota
		}}).Start(t)
		for i, o := range send(t, relays(t, relay.Options{}, url(p, "")), envelope("r0@y.test", "r1@y.test", "r2@y.test", "r3@y.test"), noMark).Outcomes {
			requireHeld(t, o)
			require.Equal(t, 30*time.Minute, o.RetryAfter, "recipient %d", i)
		}
	})
}

func TestOneAnswerForSeveralRecipientsSuppressesNone(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Answer: answers(map[string]string{".": "550 5.1.1 user unknown"})}).Start(t)
	rs := relays(t, relay.Options{}, url(p, ""))
	for _, o := range send(t, rs, envelope("a@y.test", "b@y.test"), noMark).Outcomes {
		require.Equal(t, email.DetailOther, o.Reason)
		require.False(t, o.Suppress)
	}
	require.True(t, send(t, rs, envelope("a@y.test"), noMark).Outcomes[0].Suppress)
}
