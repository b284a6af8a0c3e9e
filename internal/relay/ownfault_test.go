package relay_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtptest"
)

// failsFor is a relay that has a fault at the mail to bad@y.test alone: where is RCPT, DATA
// or the final dot.
func failsFor(t *testing.T, where, answer string) *smtptest.Peer {
	t.Helper()
	var mu sync.Mutex
	bad := false
	return (&smtptest.Peer{Answer: func(line string) string {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasPrefix(line, "RCPT") {
			bad = strings.Contains(line, "bad@y.test")
		}
		if bad && strings.HasPrefix(line, where) {
			return answer
		}
		return ""
	}}).Start(t)
}

// TestAFaultAtOneMailIsItsOwnWhereOthersGo: the relay works, so the mail is deferred as
// others are, with its time until expiry, and the relay stays up.
func TestAFaultAtOneMailIsItsOwnWhereOthersGo(t *testing.T) {
	t.Parallel()
	for name, where := range map[string]string{"at RCPT": "RCPT", "at DATA": "DATA", "at the final dot": "."} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			rs := relays(t, relay.Options{Now: c.now}, url(failsFor(t, where, "451 4.3.0 Temporary lookup failure"), "name=primary"))
			to := func(address string) delivery.Outcome {
				env := envelope(address)
				env.ID = address
				c.move(6 * time.Minute)
				return send(t, rs, env, noMark).Outcomes[0]
			}
			for range 3 {
				require.True(t, to("bad@y.test").RelayFault, "nothing else is known")
			}
			for range 2 {
				require.Equal(t, email.RecipientDelivered, to("good@y.test").Status)
				to("bad@y.test")
			}
			for range 3 {
				own := to("bad@y.test")
				require.Equal(t, email.RecipientDeferred, own.Status)
				require.False(t, own.RelayFault || own.Uncounted, "%+v", own)
				require.Equal(t, 451, own.Code)
				require.Zero(t, own.RetryAfter, "by the schedule")
			}
			require.Equal(t, map[string]bool{"primary": true}, rs.Up())
		})
	}
}

// TestAFaultAtOneRecipientIsItsOwnWhereOthersAreAccepted, at once.
func TestAFaultAtOneRecipientIsItsOwnWhereOthersAreAccepted(t *testing.T) {
	t.Parallel()
	rs := relays(t, relay.Options{}, url(failsFor(t, "RCPT", "451 4.3.2 Internal error"), "name=primary"))
	for _, order := range [][]string{{"bad@y.test", "good@y.test"}, {"good@y.test", "bad@y.test"}} {
		byAddress := map[string]delivery.Outcome{}
		for i, o := range send(t, rs, envelope(order...), noMark).Outcomes {
			byAddress[order[i]] = o
		}
		require.Equal(t, email.RecipientDelivered, byAddress["good@y.test"].Status)
		bad := byAddress["bad@y.test"]
		require.Equal(t, email.RecipientDeferred, bad.Status)
		require.False(t, bad.RelayFault || bad.Uncounted, "%+v", bad)
	}
}

// TestWhatARelayRefusesGoesToTheNextThatWorks: the mail that finds out that a relay still
// refuses us does not wait for it where another works.
func TestWhatARelayRefusesGoesToTheNextThatWorks(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{accessDenied, "554 5.7.1 <x[127.0.0.1]>: Client host rejected: blocked", "450 4.7.1 too much mail from you", "451 4.3.0 Error: queue file write error"} {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			where := "RCPT"
			if strings.HasPrefix(answer, "451") {
				where = "."
			}
			first := (&smtptest.Peer{Answer: func(line string) string {
				if strings.HasPrefix(line, where) {
					return answer
				}
				return ""
			}}).Start(t)
			second := (&smtptest.Peer{}).Start(t)
			c := newClock()
			rs := relays(t, relay.Options{Now: c.now}, url(first, "name=first"), url(second, "name=second"))
			for n := range 6 {
				env := envelope("b@y.test")
				env.ID = string(rune('a' + n))
				s, err := rs.Session(t.Context(), delivery.Route{})
				require.NoError(t, err)
				o := s.Send(t.Context(), env, []byte("\r\n"), noMark).Outcomes[0]
				s.Close()
				if o.Status != email.RecipientDelivered {
					require.True(t, o.RelayFault && o.Elsewhere, "%+v", o)
					s, err = rs.Session(t.Context(), delivery.Route{Avoid: "first"})
					require.NoError(t, err)
					o = s.Send(t.Context(), env, []byte("\r\n"), noMark).Outcomes[0]
					s.Close()
				}
				require.Equal(t, email.RecipientDelivered, o.Status)
				c.move(6 * time.Minute) // the next probes the first
			}
			require.Len(t, second.Messages(), 6)
		})
	}
}

// TestARefusalThatIsMostLikelyTheRecipientsIsNotHeldAgainstTheRelay: it accepts others.
func TestARefusalThatIsMostLikelyTheRecipientsIsNotHeldAgainstTheRelay(t *testing.T) {
	t.Parallel()
	c := newClock()
	rs := relays(t, relay.Options{Now: c.now}, url(failsFor(t, "RCPT", "554 5.7.1 not here"), "name=primary"))
	to := func(id, address string) delivery.Outcome {
		env := envelope(address)
		env.ID = id
		return send(t, rs, env, noMark).Outcomes[0]
	}
	held := []string{"1", "2", "3", "4"}
	for _, id := range held {
		require.Equal(t, email.RecipientDeferred, to(id, "bad@y.test").Status)
		c.move(time.Second)
		require.Equal(t, email.RecipientDelivered, to("good", "good@y.test").Status)
	}
	for _, id := range held {
		requireHeld(t, to(id, "bad@y.test"))
		require.Equal(t, map[string]bool{"primary": true}, rs.Up(), "the relay is not down for others")
	}
}
