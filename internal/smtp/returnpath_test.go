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
		"at MAIL, of its SPF":      {"MAIL", "550 5.7.23 SPF check failed, client host rejected"},
		"on a list, at DATA":       {"DATA", "554 5.7.1 Service unavailable; Sender address [%] blocked using dbl.test; listed, see https://dbl.test/query"},
		"on a list, at the dot":    {".", "554 5.7.1 Service unavailable; Sender address [%] blocked using dbl.test"},
		"on a list, at RCPT":       {"RCPT", "554 5.7.1 Service unavailable; Sender address [%] blocked using dbl.test"},
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

// TestAReplyThatNamesOurReturnPathIsAboutIt, in any words and at any stage. A footer with it changes nothing.
func TestAReplyThatNamesOurReturnPathIsAboutIt(t *testing.T) {
	t.Parallel()
	own := delivery.ReturnPath(delivery.NewToken(), "bounce.mail.test")
	local, _, _ := strings.Cut(own, "@")
	for answer, about := range map[string]bool{
		"550 5.7.1 sender @ is listed in the dbl":                                                          true,
		"550 5.7.1 sender {} is listed in the dbl":                                                         true,
		"550 5.7.26 DMARC policy of mail.test: mail of {} refused":                                         true,
		"550 5.7.1 (@) denied by content policy":                                                           true,
		"550-5.7.1 We do not take mail\r\n550 5.7.1 of \"@\"":                                              true,
		"451 4.7.1 <@>: not now":                                                                           true,
		"554 5.7.1 <b@y.test>: Recipient address rejected: {} is not welcome":                              true,
		"550 5.1.1 <@>: user unknown":                                                                      true,
		"550 5.7.1 <b@y.test>: Recipient address rejected: SPF fail. See http://spf.test/Why?s=mfrom;id=@": true,

		"550 5.7.1 spam; from=<@> to=<b@y.test> proto=ESMTP helo=<a.test>":                       false,
		"550 5.7.1 spam; sender: @, recipient: b@y.test, client: 192.0.2.1":                      false,
		"550 5.7.1 spam (sender @ recipient b@y.test)":                                           false,
		"550 5.7.1 spam | client 192.0.2.1 sender @ recipient b@y.test":                          false,
		"550 5.7.1 spam. See https://help.test/?s=@&r=b@y.test":                                  false,
		"550 5.7.1 message content rejected; sender @":                                           false,
		"552 5.3.4 Message size exceeds fixed limit. Sender @ rejected, recipient b@y.test":      false,
		"550 5.7.1 <b@y.test>: Recipient address rejected: Access denied; mail of @ to b@y.test": false,
		"550 5.7.1 <b@y.test>: Recipient address rejected: spam | sender @ recipient b@y.test":   false,
		"550 5.7.1 this is spam - mail of @ refused":                                             false,
		"550 5.7.1 this is spam | sender @ not accepted":                                         false,
		"550 5.7.1 this is spam. Sender: <@>":                                                    false,
		"550 5.7.1 this is spam [sender @]":                                                      false,
		"550 5.7.1 no thanks | sender @":                                                         false,
		"550 5.7.1 Rejected as spam: sender @ is on our list":                                    true,
		"550 5.7.1 Message refused. Mail of @ is not welcome":                                    true,
		"550 5.1.1 <b@y.test>: User unknown; mail of <@>":                                        false,
		"450 4.2.0 <b@y.test>: Recipient address rejected: Greylisted: 192.0.2.1/@/b@y.test":     false,
	} {
		for _, verb := range []string{"DATA", "."} {
			t.Run(verb+" "+answer, func(t *testing.T) {
				t.Parallel()
				p := (&smtptest.Peer{Answer: func(line string) string {
					if strings.HasPrefix(line, verb) {
						// "b@y.test" has an @ as well.
						text := strings.ReplaceAll(strings.ReplaceAll(answer, "b@y", "b%y"), "@", own)
						return strings.ReplaceAll(strings.ReplaceAll(text, "b%y", "b@y"), "{}", local)
					}
					return ""
				}}).Start(t)
				env := envelope("b@y.test")
				env.From = own
				o := send(t, relays(t, relay.Options{}, url(p, "")), env, noMark).Outcomes[0]
				require.Equal(t, about, o.RelayFault, "%+v", o)
				require.Equal(t, about, o.Uncounted, "%+v", o)
				require.Equal(t, about, o.Accepted)
			})
		}
	}
}
