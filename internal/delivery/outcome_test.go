package delivery_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// A relay closes the connection at one recipient: the others say how far they came, and the fault is
// the relay's reply to that one.
func TestShowingFault(t *testing.T) {
	t.Parallel()
	outcome := func(code int, text string, fault, unasked bool) delivery.Outcome {
		return delivery.Outcome{Reply: email.Reply{Code: code, Text: text}, RelayFault: fault, Unasked: unasked}
	}
	accepted := outcome(0, "accepted by the relay, but …", true, true)
	closed := outcome(421, "closing", true, false)
	lost := outcome(0, "the connection ended at RCPT TO: EOF", true, false)
	untried := outcome(0, "not tried yet: …", true, true)
	refused := outcome(550, "no such user", false, false)
	for want, outcomes := range map[string][]delivery.Outcome{
		"closing":                              {accepted, closed, untried},
		"the connection ended at RCPT TO: EOF": {refused, accepted, lost, untried},
		"not tried yet: …":                     {refused, untried},
	} {
		require.Equal(t, want, delivery.ShowingFault(outcomes).Text)
	}
	require.Nil(t, delivery.ShowingFault([]delivery.Outcome{refused}))
	require.Nil(t, delivery.ShowingFault(nil))
}
