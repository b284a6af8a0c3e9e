package smtp_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtptest"
)

// A server that says 250 has the message: were it sent again because of the text, each try
// would make another copy.
func TestTheCodeDecidesAnEndlessReplyToTheDot(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("x", 10<<20)
	for name, tc := range map[string]struct {
		answer string
		status email.RecipientStatus
		reason email.Detail
	}{
		"one line":                {"250 2.0.0 " + text, email.RecipientDelivered, ""},
		"more than is read":       {"250 2.0.0 " + strings.Repeat(text, 4), email.RecipientDelivered, ""},
		"many lines":              {strings.Repeat("250-2.0.0 queued\r\n", 1<<19) + "250 ok", email.RecipientDelivered, ""},
		"a refusal":               {"550 5.7.1 " + text, email.RecipientBounced, email.DetailBlock},
		"a deferral":              {"451 4.7.1 " + text, email.RecipientDeferred, ""},
		"broken off behind 512":   {smtptest.ThenDrop("250-2.0.0 " + text[:600]), email.RecipientDelivered, ""},
		"broken off, a line":      {smtptest.ThenDrop("250-2.0.0 ok"), email.RecipientDeferred, email.DetailAmbiguous},
		"a line that is no reply": {text, email.RecipientDeferred, email.DetailAmbiguous},
		"two codes":               {"250-ok\r\n251 ok", email.RecipientDeferred, email.DetailAmbiguous},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := (&smtptest.Peer{Answer: answers(map[string]string{".": tc.answer})}).Start(t)
			rs := relays(t, relay.Options{}, url(p, ""))
			o := send(t, rs, envelope("a@y.test"), noMark).Outcomes[0]
			require.Equal(t, tc.status, o.Status)
			require.Equal(t, tc.reason, o.Reason)
			require.LessOrEqual(t, len(o.Text), email.MaxReplyText)
			p.Await("the socket's end", func() bool { return p.Open() == 0 })
		})
	}
}
