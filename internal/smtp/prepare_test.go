package smtp_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtptest"
)

// Servers announce extensions whose parameters they, or a proxy in front of them, refuse.
func TestParametersThatWereOfferedAndAreRefusedAreLeftOut(t *testing.T) {
	t.Parallel()
	const plain = "MAIL FROM:<a@x.test>"
	eight := strings.Replace(rendered, "end", "gr\xc3\xbc\xc3\x9fe", 1)
	for name, tc := range map[string]struct {
		refuse  string // a parameter; every one, if empty
		answer  string
		message string
		mails   []string
		status  email.RecipientStatus
	}{
		"one is named":                   {" ENVID", "555 5.5.4 Unsupported option: ENVID", rendered, []string{plain + " SIZE=91 RET=HDRS ENVID=e-1", plain + " SIZE=91"}, email.RecipientDelivered},
		"SIZE is named":                  {" SIZE", "501 5.5.4 SIZE=91: bad parameter", rendered, []string{plain + " SIZE=91 RET=HDRS ENVID=e-1", plain + " RET=HDRS ENVID=e-1"}, email.RecipientDelivered},
		"BODY is named":                  {" BODY", "555 5.5.4 unknown BODY", eight, []string{plain + " SIZE=95 BODY=8BITMIME RET=HDRS ENVID=e-1", plain + " SIZE=95 RET=HDRS ENVID=e-1"}, email.RecipientDelivered},
		"one after the other":            {"", "555 5.5.4 unknown: SIZE", rendered, []string{plain + " SIZE=91 RET=HDRS ENVID=e-1", plain + " RET=HDRS ENVID=e-1", plain}, email.RecipientDelivered},
		"none is named":                  {"", "555 parameters not recognized", eight, []string{plain + " SIZE=95 BODY=8BITMIME RET=HDRS ENVID=e-1", plain}, email.RecipientDelivered},
		"the address is refused as well": {"=", "501 5.5.4 Syntax: MAIL FROM:<address>", rendered, []string{plain + " SIZE=91 RET=HDRS ENVID=e-1", plain}, email.RecipientDelivered},
		"it is about the sender":         {"", "501 5.1.7 bad sender address", rendered, []string{plain + " SIZE=91 RET=HDRS ENVID=e-1"}, email.RecipientFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := (&smtptest.Peer{Extensions: []string{"SIZE 1000000", "8BITMIME", "DSN"}, Answer: func(line string) string {
				if strings.HasPrefix(line, "MAIL") && line != plain && strings.Contains(line, tc.refuse) {
					return tc.answer
				}
				return ""
			}}).Start(t)
			rs := relays(t, relay.Options{}, url(p, ""))
			var mails []string
			for range 2 {
				s, err := rs.Session(t.Context(), delivery.Route{})
				require.NoError(t, err)
				ex := s.Send(t.Context(), envelope("b@y.test"), []byte(tc.message), noMark)
				s.Close()
				require.Equal(t, tc.status, ex.Outcomes[0].Status, "%+v", ex.Outcomes)
			}
			for _, line := range p.Lines() {
				if strings.HasPrefix(line, "MAIL") {
					mails = append(mails, line)
				}
			}
			want := append(slices.Clone(tc.mails), tc.mails[len(tc.mails)-1])
			require.Equal(t, want, mails, "the second message does without at once")
		})
	}
}
