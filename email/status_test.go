package email_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
)

func TestTransitions(t *testing.T) {
	t.Parallel()
	// The whole table of DESIGN: what is not listed is refused.
	allowed := map[email.RecipientStatus][]email.RecipientStatus{
		email.RecipientQueued:    {email.RecipientSending, email.RecipientCanceled, email.RecipientExpired, email.RecipientSuppressed, email.RecipientFailed},
		email.RecipientDeferred:  {email.RecipientSending, email.RecipientCanceled, email.RecipientExpired, email.RecipientSuppressed, email.RecipientFailed},
		email.RecipientSending:   {email.RecipientQueued, email.RecipientDeferred, email.RecipientDelivered, email.RecipientBounced, email.RecipientFailed},
		email.RecipientDelivered: {email.RecipientBounced, email.RecipientComplained},
	}
	for _, from := range email.RecipientStatuses() {
		for _, to := range email.RecipientStatuses() {
			want := false
			for _, s := range allowed[from] {
				want = want || s == to
			}
			require.Equal(t, want, email.CanMove(from, to), "%s -> %s", from, to)
		}
	}
}

func TestEnteredFromIsACopy(t *testing.T) {
	t.Parallel()
	from := email.EnteredFrom(email.RecipientSending)
	require.Equal(t, []email.RecipientStatus{email.RecipientQueued, email.RecipientDeferred}, from)
	from[0] = email.RecipientComplained
	require.False(t, email.CanMove(email.RecipientComplained, email.RecipientSending))
}

func TestDerive(t *testing.T) {
	t.Parallel()
	type r = email.RecipientFact
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
		facts  email.Facts
		status email.Status
		detail email.Detail
	}{
		"new":                           {email.Facts{Recipients: []r{queued}}, email.StatusQueued, ""},
		"new and due later":             {email.Facts{Recipients: []r{queued}, Scheduled: true}, email.StatusQueued, email.DetailScheduled},
		"held wins over all":            {email.Facts{Recipients: []r{queued}, Held: true, Scheduled: true, RelayDown: true}, email.StatusQueued, email.DetailHeld},
		"no relay":                      {email.Facts{Recipients: []r{queued}, RelayDown: true, Throttled: true}, email.StatusQueued, email.DetailRelayDown},
		"throttled":                     {email.Facts{Recipients: []r{deferred, delivered}, Attempted: true, Throttled: true}, email.StatusSending, email.DetailThrottled},
		"first attempt":                 {email.Facts{Recipients: []r{sending}, Attempted: true}, email.StatusSending, ""},
		"never back to queued":          {email.Facts{Recipients: []r{queued}, Attempted: true}, email.StatusSending, ""},
		"waiting for a retry":           {email.Facts{Recipients: []r{deferred}, Attempted: true}, email.StatusSending, email.DetailDeferred},
		"one done, one waiting":         {email.Facts{Recipients: []r{delivered, deferred}, Attempted: true}, email.StatusSending, email.DetailPartial},
		"all delivered":                 {email.Facts{Recipients: []r{delivered, delivered}, Attempted: true}, email.StatusDelivered, ""},
		"a complaint was a delivery":    {email.Facts{Recipients: []r{complained}, Attempted: true}, email.StatusDelivered, ""},
		"one of two delivered":          {email.Facts{Recipients: []r{delivered, hard}, Attempted: true}, email.StatusDelivered, email.DetailPartial},
		"delivered and ambiguous":       {email.Facts{Recipients: []r{delivered, ambiguous}, Attempted: true}, email.StatusDelivered, email.DetailAmbiguous},
		"all bounced alike":             {email.Facts{Recipients: []r{hard, hard}, Attempted: true}, email.StatusBounced, email.DetailHard},
		"all bounced, for other reason": {email.Facts{Recipients: []r{hard, block}, Attempted: true}, email.StatusBounced, email.DetailOther},
		"suppressed":                    {email.Facts{Recipients: []r{suppressed}}, email.StatusBounced, email.DetailSuppressed},
		"bounced and failed":            {email.Facts{Recipients: []r{hard, expired}, Attempted: true}, email.StatusBounced, email.DetailPartial},
		"expired":                       {email.Facts{Recipients: []r{expired}, Attempted: true}, email.StatusFailed, email.DetailExpired},
		"no attachment":                 {email.Facts{Recipients: []r{attachment, attachment}}, email.StatusFailed, email.DetailAttachment},
		"failed and canceled":           {email.Facts{Recipients: []r{expired, canceled}, Attempted: true}, email.StatusFailed, email.DetailPartial},
		"canceled":                      {email.Facts{Recipients: []r{canceled, canceled}}, email.StatusCanceled, ""},
		"canceled, held flag stays out": {email.Facts{Recipients: []r{canceled}, Held: true}, email.StatusCanceled, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, detail := email.Derive(tc.facts)
			require.Equal(t, tc.status, status)
			require.Equal(t, tc.detail, detail)
		})
	}
}

func TestParseStatusReadsBothVocabularies(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]email.Status{"initiated": email.StatusQueued, "processed": email.StatusSending, "delivered": email.StatusDelivered} {
		got, ok := email.ParseStatus(in)
		require.True(t, ok, in)
		require.Equal(t, want, got)
	}
	_, ok := email.ParseStatus("deferred")
	require.False(t, ok, "a recipient's state is not an e-mail's")
}
