package delivery_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

func TestDerive(t *testing.T) {
	t.Parallel()
	type r = delivery.RecipientFact
	queued, sending := r{Status: email.RecipientQueued}, r{Status: email.RecipientSending}
	deferred := r{Status: email.RecipientDeferred}
	delivered, complained := r{Status: email.RecipientDelivered}, r{Status: email.RecipientComplained}
	hard := r{Status: email.RecipientBounced, Reason: email.DetailHard}
	block := r{Status: email.RecipientBounced, Reason: email.DetailBlock}
	suppressed := r{Status: email.RecipientSuppressed, Reason: email.DetailSuppressed}
	expired := r{Status: email.RecipientExpired, Reason: email.DetailExpired}
	attachment := r{Status: email.RecipientFailed, Reason: email.DetailAttachment}
	ambiguous := r{Status: email.RecipientFailed, Reason: email.DetailAmbiguous}
	canceled := r{Status: email.RecipientCanceled}

	for name, tc := range map[string]struct {
		facts  delivery.Facts
		status email.Status
		detail email.Detail
	}{
		"new":                           {delivery.Facts{Recipients: []r{queued}}, email.StatusQueued, ""},
		"new and due later":             {delivery.Facts{Recipients: []r{queued}, Scheduled: true}, email.StatusQueued, email.DetailScheduled},
		"held wins over all":            {delivery.Facts{Recipients: []r{queued}, Held: true, Scheduled: true, RelayDown: true}, email.StatusQueued, email.DetailHeld},
		"no relay":                      {delivery.Facts{Recipients: []r{queued}, RelayDown: true, Throttled: true}, email.StatusQueued, email.DetailRelayDown},
		"throttled":                     {delivery.Facts{Recipients: []r{deferred, delivered}, Attempted: true, Throttled: true}, email.StatusSending, email.DetailThrottled},
		"first attempt":                 {delivery.Facts{Recipients: []r{sending}, Attempted: true}, email.StatusSending, ""},
		"never back to queued":          {delivery.Facts{Recipients: []r{queued}, Attempted: true}, email.StatusSending, ""},
		"waiting for a retry":           {delivery.Facts{Recipients: []r{deferred}, Attempted: true}, email.StatusSending, email.DetailDeferred},
		"one done, one waiting":         {delivery.Facts{Recipients: []r{delivered, deferred}, Attempted: true}, email.StatusSending, email.DetailPartial},
		"all delivered":                 {delivery.Facts{Recipients: []r{delivered, delivered}, Attempted: true}, email.StatusDelivered, ""},
		"a complaint was a delivery":    {delivery.Facts{Recipients: []r{complained}, Attempted: true}, email.StatusDelivered, ""},
		"one of two delivered":          {delivery.Facts{Recipients: []r{delivered, hard}, Attempted: true}, email.StatusDelivered, email.DetailPartial},
		"delivered and ambiguous":       {delivery.Facts{Recipients: []r{delivered, ambiguous}, Attempted: true}, email.StatusDelivered, email.DetailAmbiguous},
		"all bounced alike":             {delivery.Facts{Recipients: []r{hard, hard}, Attempted: true}, email.StatusBounced, email.DetailHard},
		"all bounced, for other reason": {delivery.Facts{Recipients: []r{hard, block}, Attempted: true}, email.StatusBounced, email.DetailOther},
		"suppressed":                    {delivery.Facts{Recipients: []r{suppressed}}, email.StatusBounced, email.DetailSuppressed},
		"bounced and failed":            {delivery.Facts{Recipients: []r{hard, expired}, Attempted: true}, email.StatusBounced, email.DetailPartial},
		"expired":                       {delivery.Facts{Recipients: []r{expired}, Attempted: true}, email.StatusFailed, email.DetailExpired},
		"no attachment":                 {delivery.Facts{Recipients: []r{attachment, attachment}}, email.StatusFailed, email.DetailAttachment},
		"failed and canceled":           {delivery.Facts{Recipients: []r{expired, canceled}, Attempted: true}, email.StatusFailed, email.DetailPartial},
		"canceled":                      {delivery.Facts{Recipients: []r{canceled, canceled}}, email.StatusCanceled, ""},
		"canceled, held flag stays out": {delivery.Facts{Recipients: []r{canceled}, Held: true}, email.StatusCanceled, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, detail := delivery.Derive(tc.facts)
			require.Equal(t, tc.status, status)
			require.Equal(t, tc.detail, detail)
		})
	}
}
