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

// ways are how a relay ends a connection at RCPT: it waits for DATA and QUIT, or it does not.
var ways = map[string]bool{"and waits for QUIT": true, "and is gone": false}

const closesAtRcpt = "421 4.7.0 closing the connection"

func closing(stays bool) string {
	if stays {
		return closesAtRcpt
	}
	return smtptest.ThenDrop(closesAtRcpt)
}

// closesAfter is a relay that closes the connection at the RCPT behind the n-th. It counts from
// the last line that begins with since.
func closesAfter(t *testing.T, n *atomic.Int64, since string, stays bool) *smtptest.Peer {
	var asked atomic.Int64
	return (&smtptest.Peer{Stays: stays, Answer: func(line string) string {
		switch {
		case strings.HasPrefix(line, since):
			asked.Store(0)
		case strings.HasPrefix(line, "RCPT") && asked.Add(1) > n.Load():
			return closing(stays)
		}
		return ""
	}}).Start(t)
}

func people(n int) []string {
	to := make([]string, n)
	for i := range to {
		to[i] = fmt.Sprintf("r%d@y.test", i)
	}
	return to
}

// never is a recipient at whom a relay closes the connection each time.
const never = "never@z.test"

// carried is what became of an e-mail that was sent until no recipient was open.
type carried struct {
	// transactions are the recipients delivered in each.
	transactions []int
	// within is the number of transactions after which a recipient had the message.
	within map[string]int
	// counted are the recipients whose deferral counted, once for each time.
	counted []string
}

// carry sends an e-mail as the service does. Each recipient waits for the time that its outcome
// asks for, 5 minutes where it leaves that to the schedule. A recipient without an answer of its
// own is not counted. It ends when no recipient is open but never@z.test.
func carry(t *testing.T, rs *relay.Relays, c *clock, id string, to ...string) carried {
	t.Helper()
	out := carried{within: map[string]int{}}
	due, tries := map[string]time.Time{}, map[string]int{}
	for len(to) > 0 && !slices.Equal(to, []string{never}) {
		require.Less(t, len(out.transactions), 100, "nothing comes of it")
		next := slices.MinFunc(to, func(a, b string) int { return due[a].Compare(due[b]) })
		c.move(max(0, due[next].Sub(c.now())))
		now := slices.DeleteFunc(slices.Clone(to), func(a string) bool { return due[a].After(c.now()) })
		slices.SortStableFunc(now, func(a, b string) int { return tries[a] - tries[b] })
		s, err := rs.Session(t.Context(), delivery.Route{})
		if err != nil {
			c.move(time.Minute)
			continue
		}
		outcomes := s.Send(t.Context(), recipients(id, now), []byte("\r\n"), noMark).Outcomes
		s.Close()
		n := 0
		out.transactions = append(out.transactions, 0)
		for i, o := range outcomes {
			a := now[i]
			switch {
			case o.Status == email.RecipientDelivered:
				n++
				out.within[a] = len(out.transactions)
				to = slices.DeleteFunc(slices.Clone(to), func(b string) bool { return a == b })
				continue
			case !o.Uncounted:
				out.counted = append(out.counted, a)
				tries[a]++
			case o.Code == 0:
				require.True(t, o.Unasked || o.RelayFault, "%+v", o)
			}
			require.Equal(t, email.RecipientDeferred, o.Status, "%+v", o)
			if o.RetryAfter == 0 {
				o.RetryAfter = 5 * time.Minute
			}
			due[a] = c.now().Add(o.RetryAfter)
		}
		out.transactions[len(out.transactions)-1] = n
	}
	return out
}

func recipients(id string, addresses []string) delivery.Envelope { return to(id, addresses...) }

// TestARecipientAtWhomTheRelayClosesIsNoLimit: the others do not go one at a time.
func TestARecipientAtWhomTheRelayClosesIsNoLimit(t *testing.T) {
	t.Parallel()
	for way, stays := range ways {
		for _, place := range []int{0, 1, 2, 20, 39} {
			t.Run(fmt.Sprint("at place ", place+1, " ", way), func(t *testing.T) {
				t.Parallel()
				c := newClock()
				p := (&smtptest.Peer{Stays: stays, Answer: answers(map[string]string{"RCPT TO:<never@": closing(stays)})}).Start(t)
				rs := relays(t, relay.Options{Now: c.now}, url(p, "name=primary"))
				to := people(40)
				to[place] = never
				got := carry(t, rs, c, "1", to...)
				require.Len(t, got.within, 39)
				for a, n := range got.within {
					require.LessOrEqual(t, n, 3, "%s: %v", a, got.transactions)
				}
				require.LessOrEqual(t, len(got.counted), 1)
				require.NotContains(t, got.within, never)

				c.move(5 * time.Minute)
				require.Equal(t, email.RecipientDeferred, send(t, rs, recipients("1", []string{never}), noMark).Outcomes[0].Status)
				next := carry(t, rs, c, "2", people(40)...)
				require.Equal(t, []int{40}, next.transactions, "named by itself it is closed at as well: so it is no limit")
			})
		}
	}
}

// TestARelayThatClosesAfterSoManyRecipientsGetsThatMany, in any order of recipients.
func TestARelayThatClosesAfterSoManyRecipientsGetsThatMany(t *testing.T) {
	t.Parallel()
	for way, stays := range ways {
		for _, n := range []int64{1, 2, 7, 15, 25, 39} {
			t.Run(fmt.Sprint(n, " ", way), func(t *testing.T) {
				t.Parallel()
				c := newClock()
				var limit atomic.Int64
				limit.Store(n)
				rs := relays(t, relay.Options{Now: c.now}, url(closesAfter(t, &limit, "MAIL", stays), "name=primary"))
				got := carry(t, rs, c, "1", people(40)...)
				require.Len(t, got.within, 40)
				fewest := (40 + int(n) - 1) / int(n)
				require.LessOrEqual(t, len(got.transactions), fewest+fewest/provedTries+4, "%v", got.transactions)
				require.LessOrEqual(t, len(got.counted), 2, "once it is proved, nobody is counted because of the limit: %v", got.counted)
			})
		}
	}
}

// provedTries is provedLimitTries.
const provedTries = 8

// TestALimitThatIsLiftedIsFoundOut without waiting for its time to end.
func TestALimitThatIsLiftedIsFoundOut(t *testing.T) {
	t.Parallel()
	for way, stays := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			var limit atomic.Int64
			limit.Store(2)
			rs := relays(t, relay.Options{Now: c.now}, url(closesAfter(t, &limit, "MAIL", stays), "name=primary"))
			carry(t, rs, c, "1", people(6)...)
			limit.Store(1000)
			c.move(time.Second)
			got := carry(t, rs, c, "2", people(40)...)
			require.LessOrEqual(t, len(got.transactions), provedTries+2)
			require.Greater(t, slices.Max(got.transactions), 4, "it grows")
			require.Empty(t, got.counted)
		})
	}
}

// TestARelayThatClosesAfterSoManyRecipientsOfAConnection gets the rest on the next one.
func TestARelayThatClosesAfterSoManyRecipientsOfAConnection(t *testing.T) {
	t.Parallel()
	for way, stays := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			var limit atomic.Int64
			limit.Store(50)
			p := closesAfter(t, &limit, "EHLO", stays)
			rs := relays(t, relay.Options{Now: c.now}, url(p, "name=primary"))
			for n := range 6 {
				got := carry(t, rs, c, fmt.Sprint(n), people(40)...)
				require.Len(t, got.within, 40)
				require.LessOrEqual(t, len(got.transactions), 3)
				require.Empty(t, got.counted, "a new connection takes them")
			}
		})
	}
}

// closesForErrors is a relay that refuses recipients of b.test, and closes the connection at the
// RCPT behind the n-th refusal of a connection.
func closesForErrors(t *testing.T, n int64) *smtptest.Peer {
	var errors atomic.Int64
	return (&smtptest.Peer{Answer: func(line string) string {
		switch {
		case strings.HasPrefix(line, "EHLO"):
			errors.Store(0)
		case strings.HasPrefix(line, "RCPT") && errors.Load() >= n:
			return smtptest.ThenDrop("421 4.7.0 Error: too many errors")
		case strings.HasPrefix(line, "RCPT") && strings.HasSuffix(line, "@b.test>"):
			errors.Add(1)
			return "554 5.7.1 " + strings.TrimPrefix(line, "RCPT TO:") + ": Recipient address rejected: policy for this domain"
		}
		return ""
	}}).Start(t)
}

// TestAConnectionClosedForItsRefusalsIsNoLimit: no outcome says that the relay takes as many
// recipients as were accepted before, and the next mail goes in one transaction.
func TestAConnectionClosedForItsRefusalsIsNoLimit(t *testing.T) {
	t.Parallel()
	for _, taken := range []int{15, 30} { // fewer than the refusals, and more
		t.Run(fmt.Sprint(taken), func(t *testing.T) {
			t.Parallel()
			c := newClock()
			rs := relays(t, relay.Options{Now: c.now}, url(closesForErrors(t, 20), "name=primary"))
			to := people(taken)
			for n := range 30 {
				to = append(to, fmt.Sprintf("u%d@b.test", n))
			}
			ended := map[email.RecipientStatus]int{}
			var bounced []delivery.BounceReply
			for n := 0; len(to) > 0; n++ {
				require.Less(t, n, 4, "%d are left", len(to))
				env := recipients("1", to)
				env.Bounced = bounced
				var open []string
				for i, o := range send(t, rs, env, noMark).Outcomes {
					require.NotContains(t, o.Text, "recipients at a time")
					switch o.Status {
					case email.RecipientDeferred:
						open = append(open, to[i])
					case email.RecipientBounced:
						bounced = append(bounced, delivery.NewBounceReply(to[i], o.Reply))
						fallthrough
					default:
						ended[o.Status]++
					}
				}
				to = open
				c.move(time.Minute)
			}
			require.Equal(t, map[email.RecipientStatus]int{email.RecipientDelivered: taken, email.RecipientBounced: 30}, ended)
			require.Equal(t, []int{50}, carry(t, rs, c, "2", people(50)...).transactions)
		})
	}
}
