package mail_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// TestARelaysFaultKeepsWhyARecipientIsDeferred: an attempt that says nothing of a recipient leaves its reason.
func TestARelaysFaultKeepsWhyARecipientIsDeferred(t *testing.T) {
	t.Parallel()
	for _, reason := range []email.Detail{email.DetailIPBlocked, email.DetailUnauthenticated, email.DetailAmbiguous} {
		for name, unasked := range map[string]bool{"a relay's fault": false, "not named": true} {
			t.Run(string(reason)+"/"+name, func(t *testing.T) {
				t.Parallel()
				b := setup(t)
				e := b.Accept(dbsetup.Message("bob@x.test"))
				b.Attempt(e.ID, 1, func(delivery.EnvelopeRecipient) delivery.Outcome {
					return delivery.Outcome{Status: email.RecipientDeferred, Reason: reason, Reply: email.Reply{Code: 550, Enhanced: "5.7.1", Text: "blocked"}}
				})
				b.DueNow(e.ID)
				b.Attempt(e.ID, 2, func(delivery.EnvelopeRecipient) delivery.Outcome {
					return delivery.Outcome{Status: email.RecipientDeferred, Uncounted: true, Unasked: unasked, RelayFault: !unasked, Reply: email.Reply{Text: "later"}}
				})
				r := b.Get(e.ID).Recipients[0]
				require.Equal(t, []any{email.RecipientDeferred, reason, 1}, []any{r.Status, r.Reason, r.Attempts})
			})
		}
	}
}
