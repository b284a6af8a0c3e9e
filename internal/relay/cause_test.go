package relay

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/smtptest"
)

// TestARelayThatIsDownSaysWhy: which command it refused, or where the connection ended. So says the
// process that met it, and one that heard of it. Nothing says that a transaction was refused where
// there was none.
func TestARelayThatIsDownSaysWhy(t *testing.T) {
	t.Parallel()
	answer := func(verb, answer string) *smtptest.Peer {
		return &smtptest.Peer{Answer: func(line string) string {
			if strings.HasPrefix(line, verb) {
				return answer
			}
			return ""
		}}
	}
	login := answer("AUTH", "535 5.7.8 Error: authentication failed")
	login.User, login.Password = "user", "secret"
	for name, tt := range map[string]struct {
		peer    *smtptest.Peer
		options string
		user    string
		want    string
		// alone: the fault is of this process alone.
		alone bool
	}{
		"no connection":      {nil, "tls=none", "", "connection refused", true},
		"greeting":           {&smtptest.Peer{Greeting: "554 5.3.2 no service"}, "tls=none", "", "554 5.3.2 no service: the connection was answered 554 5.3.2 no service", true},
		"greeting, closed":   {&smtptest.Peer{Greeting: smtptest.Drop}, "tls=none", "", "read the greeting: ", true},
		"EHLO":               {answer("EHLO", "421 4.3.2 no"), "tls=none", "", "421 4.3.2 no: EHLO was answered 421 4.3.2 no", true},
		"STARTTLS":           {&smtptest.Peer{Extensions: []string{"STARTTLS"}, Answer: answer("STARTTLS", "454 4.7.0 TLS not available").Answer}, "tls=starttls", "", "454 4.7.0 TLS not available: STARTTLS was answered 454 4.7.0 TLS not available", false},
		"AUTH":               {login, "tls=none", "user:secret@", "535 5.7.8 Error: authentication failed: AUTH PLAIN was answered 535 5.7.8 Error: authentication failed", false},
		"MAIL":               {answer("MAIL", "452 4.3.1 Insufficient system storage"), "tls=none", "", "452 4.3.1 Insufficient system storage: it refused MAIL FROM", false},
		"MAIL, 421":          {answer("MAIL", "421 4.3.2 closing"), "tls=none", "", "421 4.3.2 closing: it refused MAIL FROM", false},
		"MAIL, closed":       {answer("MAIL", smtptest.Drop), "tls=none", "", "the connection ended at MAIL FROM: ", false},
		"RCPT":               {answer("RCPT", "554 5.7.1 Relay access denied"), "tls=none", "", "554 5.7.1 Relay access denied: it refused RCPT TO", true},
		"RCPT, 421":          {answer("RCPT", "421 4.3.2 closing"), "tls=none", "", "421 4.3.2 closing: it refused RCPT TO", true},
		"RCPT, closed":       {answer("RCPT", smtptest.Drop), "tls=none", "", "the connection ended at RCPT TO: ", true},
		"DATA":               {answer("DATA", "451 4.3.0 trouble"), "tls=none", "", "451 4.3.0 trouble: it refused DATA", true},
		"DATA, closed":       {answer("DATA", smtptest.Drop), "tls=none", "", "the connection ended at DATA: ", true},
		"the message":        {answer(".", "452 4.3.1 Insufficient system storage"), "tls=none", "", "452 4.3.1 Insufficient system storage: it refused the message", true},
		"the message, 421":   {answer(".", "421 4.3.2 closing"), "tls=none", "", "421 4.3.2 closing: it refused the message", true},
		"the dot, no answer": {answer(".", smtptest.Drop), "tls=none", "", "the connection ended at the final dot: ", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := "127.0.0.1:1"
			if tt.peer != nil {
				addr = tt.peer.Start(t).Addr()
			}
			now, b := time.Unix(1000, 0), &board{}
			start := func() *Relays {
				r, err := Parse("smtp://" + tt.user + addr + "?name=primary&" + tt.options)
				require.NoError(t, err)
				rs := New([]Relay{r}, Options{Board: b, Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)})
				t.Cleanup(rs.Close)
				return rs
			}
			one, two := start(), start()
			require.NoError(t, two.sync(t.Context())) // the first time, it asks itself
			for n := 0; n < 3 && one.Down(delivery.Route{}) == nil; n++ {
				s, err := one.Session(t.Context(), delivery.Route{})
				if err != nil {
					continue
				}
				s.Send(t.Context(), delivery.Envelope{ID: strconv.Itoa(n), From: "a@x.test", Recipients: []delivery.EnvelopeRecipient{{ID: "r", Address: "b@y" + strconv.Itoa(n) + ".test"}}},
					[]byte("Subject: s\r\n\r\nt\r\n"), func(context.Context, []delivery.Outcome) error { return nil })
				s.Close()
			}
			says := func(rs *Relays) {
				down := rs.Down(delivery.Route{})
				require.NotNil(t, down)
				require.Contains(t, down.Error(), tt.want)
			}
			says(one)
			require.NoError(t, one.sync(t.Context()))
			says(one)
			require.NoError(t, two.sync(t.Context()))
			if tt.alone {
				require.Nil(t, two.Down(delivery.Route{}))
				return
			}
			says(two)
			// A probe says why as well.
			now = now.Add(lastBackoff)
			_, err := two.Session(t.Context(), delivery.Route{})
			if err != nil {
				require.ErrorContains(t, err, tt.want)
				says(two)
			}
		})
	}
}
