// Package relaytest sends mail to scripted servers (internal/smtptest) through real relays, for
// the tests of internal/smtp and internal/relay.
package relaytest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtptest"
)

// Rendered is a message of 91 bytes with lines that begin with dots.
const Rendered = "From: a@x.test\r\nTo: b@y.test\r\nMessage-ID: <m@x.test>\r\n\r\n.a line with a dot\r\n..two\r\n.\r\nend\r\n"

// New makes relays of URLs; they are closed at the end of the test.
func New(t *testing.T, opts relay.Options, urls ...string) *relay.Relays {
	t.Helper()
	var list []relay.Relay
	for _, u := range urls {
		r, err := relay.Parse(u)
		require.NoError(t, err)
		list = append(list, r)
	}
	rs := relay.New(list, opts)
	t.Cleanup(rs.Close)
	return rs
}

// URL is a relay's URL without TLS, with further options.
func URL(p *smtptest.Peer, options string) string {
	return "smtp://" + p.Addr() + "?tls=none&" + options
}

// Envelope is from a@x.test to some addresses, whose recipients are r1, r2 and so on.
func Envelope(to ...string) delivery.Envelope {
	env := delivery.Envelope{ID: "e-1", From: "a@x.test"}
	for i, a := range to {
		env.Recipients = append(env.Recipients, delivery.EnvelopeRecipient{ID: fmt.Sprintf("r%d", i+1), Address: a})
	}
	return env
}

// NoMark is a journal that takes every mark.
func NoMark(context.Context, []delivery.Outcome) error { return nil }

// Send takes a session and runs one transaction with Rendered. Each recipient has an outcome.
func Send(t *testing.T, rs *relay.Relays, env delivery.Envelope, mark func(context.Context, []delivery.Outcome) error) delivery.Exchange {
	t.Helper()
	s, err := rs.Session(t.Context(), delivery.Route{Stream: email.StreamTransactional, SenderDomain: "x.test"})
	require.NoError(t, err)
	defer s.Close()
	ex := s.Send(t.Context(), env, []byte(Rendered), mark)
	require.Len(t, ex.Outcomes, len(env.Recipients))
	for i, o := range ex.Outcomes {
		require.Equal(t, env.Recipients[i].ID, o.RecipientID)
		require.NotEmpty(t, o.Status)
	}
	return ex
}

// Transaction is a transcript from MAIL on.
func Transaction(ex delivery.Exchange) []email.Step {
	return ex.Transcript[max(slices.IndexFunc(ex.Transcript, func(s email.Step) bool { return strings.HasPrefix(s.Command, "MAIL") }), 0):]
}

// Answers are replies of a peer by the prefix of the line; others get its own.
func Answers(m map[string]string) func(string) string {
	return func(line string) string {
		for prefix, a := range m {
			if strings.HasPrefix(line, prefix) {
				return a
			}
		}
		return ""
	}
}
