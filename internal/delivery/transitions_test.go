package delivery_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

func TestTransitions(t *testing.T) {
	t.Parallel()
	// The whole table: a transition that is not listed is refused.
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
			require.Equal(t, want, delivery.CanMove(from, to), "%s -> %s", from, to)
		}
	}
}

func TestEnteredFromIsACopy(t *testing.T) {
	t.Parallel()
	from := delivery.EnteredFrom(email.RecipientSending)
	require.Equal(t, []email.RecipientStatus{email.RecipientQueued, email.RecipientDeferred}, from)
	from[0] = email.RecipientComplained
	require.False(t, delivery.CanMove(email.RecipientComplained, email.RecipientSending))
}
