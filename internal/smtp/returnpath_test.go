package smtp_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtptest"
)

// TestARefusalOfOurOwnReturnPathIsTheRelaysFault: the sender has not chosen that address, so its mail waits. A refusal
// of the sender's own address ends it.
func TestARefusalOfOurOwnReturnPathIsTheRelaysFault(t *testing.T) {
	t.Parallel()
	own := delivery.ReturnPath(delivery.NewToken(), "bounce.mail.test")
	for name, refused := range map[string]struct{ verb, answer string }{
		"at MAIL":                  {"MAIL", "553 5.1.8 <%>: Sender address rejected: Domain not found"},
		"at MAIL, for now":         {"MAIL", "450 4.1.8 <%>: Sender address rejected: Domain not found"},
		"at RCPT, access table":    {"RCPT", "554 5.7.1 <%>: Sender address rejected: not our domain"},
		"at DATA":                  {"DATA", "554 5.7.1 <%>: Sender address rejected: not our domain"},
		"at DATA, for now":         {"DATA", "450 4.1.8 <%>: Sender address rejected: Domain not found"},
		"at the final dot":         {".", "554 5.7.1 <%>: Sender address rejected: not our domain"},
		"at DATA, for its SPF":     {"DATA", "550 5.7.23 <%>: Sender address rejected: Message rejected due to: SPF fail"},
		"with the code of a size":  {"RCPT", "552 5.2.3 <%>: Sender address rejected: not our domain"},
		"at RCPT, another's login": {"RCPT", "553 5.7.1 <%>: Sender address rejected: not owned by user postrider"},
	} {
		for from, ours := range map[string]bool{own: true, "a@x.test": false} {
			t.Run(name+"/"+map[bool]string{true: "ours", false: "the sender's"}[ours], func(t *testing.T) {
				t.Parallel()
				p := (&smtptest.Peer{Answer: func(line string) string {
					if strings.HasPrefix(line, refused.verb) {
						return strings.Replace(refused.answer, "%", from, 1)
					}
					return ""
				}}).Start(t)
				s, err := relays(t, relay.Options{}, url(p, "")).Session(t.Context(), delivery.Route{})
				require.NoError(t, err)
				defer s.Close()
				env := envelope("b@y.test")
				env.From = from
				o := s.Send(t.Context(), env, []byte(rendered), noMark).Outcomes[0]
				if ours {
					require.True(t, o.RelayFault, "%+v", o)
					require.Equal(t, email.RecipientDeferred, o.Status)
					require.True(t, o.Uncounted)
					return
				}
				require.False(t, o.RelayFault, "%+v", o)
				require.NotEqual(t, email.RecipientDelivered, o.Status)
			})
		}
	}
}
