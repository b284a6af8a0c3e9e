package smtp_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/smtp"
	"github.com/postrider/postrider/internal/smtptest"
)

// putOff are temporary refusals of MAIL that do not name the sender.
var putOff = []string{
	"451 4.7.1 Service unavailable - try again later", "452 Space shortage, please try later", "450", "451 4.7.1 try again later", "454 4.7.0 not now", "452 4.4.5 Insufficient disk space; try again later",
}

// TestATemporaryRefusalOfMAILIsTheRelays: the recipients are as they were, and the next
// relay gets the mail.
func TestATemporaryRefusalOfMAILIsTheRelays(t *testing.T) {
	t.Parallel()
	for _, answer := range putOff {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			var broken atomic.Bool
			broken.Store(true)
			first := (&smtptest.Peer{Answer: func(line string) string {
				if broken.Load() && strings.HasPrefix(line, "MAIL") {
					return answer
				}
				return ""
			}}).Start(t)
			second := (&smtptest.Peer{}).Start(t)
			rs := relays(t, smtp.Options{Now: c.now}, url(first, "name=first"), url(second, "name=second"))
			ex := send(t, rs, envelope("a@y.test", "b@z.test"), noMark)
			require.True(t, ex.RelayFault)
			for _, o := range ex.Outcomes {
				requireHeld(t, o)
				require.Empty(t, o.Reason)
				require.True(t, o.Elsewhere)
			}
			send(t, rs, envelope("a@y.test", "b@z.test"), noMark)
			require.Len(t, second.Messages(), 1)

			// Alone, it is probed with MAIL, less and less often.
			alone := relays(t, smtp.Options{Now: c.now}, url(first, "name=first"))
			require.True(t, send(t, alone, envelope("a@y.test"), noMark).RelayFault)
			for _, wait := range []time.Duration{20 * time.Second, 40 * time.Second} {
				c.move(wait)
				_, err := alone.Session(t.Context(), email.Route{})
				require.ErrorContains(t, err, "refused")
				require.Equal(t, wait, alone.Down(email.Route{}).RetryAfter)
			}
			broken.Store(false)
			c.move(time.Minute)
			require.Equal(t, email.RecipientDelivered, send(t, alone, envelope("a@y.test"), noMark).Outcomes[0].Status)
		})
	}
}

// TestASenderWhomTheRelayPutsOffHoldsBackNobody: the relay takes MAIL of others.
func TestASenderWhomTheRelayPutsOffHoldsBackNobody(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"451 4.7.1 try again later", "450 4.1.8 Domain not found", "450 <odd@x.test>: Sender address rejected: Domain not found"} {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			p := (&smtptest.Peer{Answer: answers(map[string]string{"MAIL FROM:<odd@": answer})}).Start(t)
			rs := relays(t, smtp.Options{}, url(p, "name=primary"))
			for range 4 {
				env := envelope("a@y.test")
				env.From = "odd@x.test"
				o := send(t, rs, env, noMark).Outcomes[0]
				require.Equal(t, email.RecipientDeferred, o.Status)
				require.Equal(t, email.DetailSenderRejected, o.Reason)
				require.False(t, o.RelayFault || o.Uncounted, "%+v", o)
				require.Equal(t, map[string]bool{"primary": true}, rs.Up())
				require.Equal(t, email.RecipientDelivered, send(t, rs, envelope("a@y.test"), noMark).Outcomes[0].Status)
			}
		})
	}
}

// TestASenderWhomTheRelayStillPutsOffAfterAnOutage does not keep the relay down.
func TestASenderWhomTheRelayStillPutsOffAfterAnOutage(t *testing.T) {
	t.Parallel()
	c := newClock()
	var works atomic.Bool
	p := (&smtptest.Peer{Answer: func(line string) string {
		if strings.HasPrefix(line, "MAIL FROM:<odd@") || strings.HasPrefix(line, "MAIL") && !works.Load() {
			return "451 4.7.1 try again later"
		}
		return ""
	}}).Start(t)
	rs := relays(t, smtp.Options{Now: c.now}, url(p, "name=primary"))
	env := envelope("a@y.test")
	env.From = "odd@x.test"
	requireHeld(t, send(t, rs, env, noMark).Outcomes[0])
	require.NotNil(t, rs.Down(email.Route{}))
	works.Store(true)
	c.move(10 * time.Second)
	require.Equal(t, email.RecipientDelivered, send(t, rs, envelope("a@y.test"), noMark).Outcomes[0].Status)
}

// TestARelayThatSaysInWordsThatItHasAFault at DATA or the final dot gives the mail back, as
// with 4.3.x.
func TestARelayThatSaysInWordsThatItHasAFault(t *testing.T) {
	t.Parallel()
	for where, answer := range map[string]string{"RCPT": "452 space shortage", "DATA": "452 Insufficient system storage", ".": "451 4.7.1 Service unavailable - try again later"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			first := (&smtptest.Peer{Answer: answers(map[string]string{where: answer})}).Start(t)
			second := (&smtptest.Peer{}).Start(t)
			rs := relays(t, smtp.Options{}, url(first, "name=first"), url(second, "name=second"))
			o := send(t, rs, envelope("a@y.test"), noMark).Outcomes[0]
			requireHeld(t, o)
			require.True(t, o.Elsewhere)
		})
	}
}
