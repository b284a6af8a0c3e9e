package mail_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// TestARefusedReturnPathIsNotedOncePerBackoff: an e-mail that waits for it shows the reply and the time of the next try.
// The same wait noted again writes nothing. Another fault of the relay's, and an attempt, remove it.
func TestARefusedReturnPathIsNotedOncePerBackoff(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("a@x.test"))
	refused := func(after time.Duration) delivery.Obstacle {
		return delivery.Obstacle{RelayDown: true, Relay: "primary", RefusedPath: &delivery.RefusedPath{
			Reply: email.Reply{Code: 550, Enhanced: "5.1.8", Text: "Domain not found"}, RetryAfter: after,
		}}
	}
	check := func(o delivery.Obstacle) (row string) {
		c, err := b.Mail.Check(t.Context(), e.ID, o)
		require.NoError(t, err)
		require.Nil(t, c.State, "an attempt is due")
		require.NoError(t, b.Raw.NewRaw("SELECT xmin::text FROM emails WHERE id = ?", e.ID).Scan(t.Context(), &row))
		return row
	}
	first := check(refused(time.Hour))
	got := b.Get(e.ID)
	require.Equal(t, email.DetailRelayDown, got.Detail)
	require.Equal(t, email.Reply{Code: 550, Enhanced: "5.1.8", Text: "Domain not found"}, got.RelayFault.Reply)
	require.Greater(t, got.NextAttemptAt.Sub(got.RelayFault.Since), 59*time.Minute)
	require.Equal(t, got.NextAttemptAt, got.RelayFault.NextAttemptAt)
	require.Equal(t, got.NextAttemptAt, got.Recipients[0].NextAttemptAt)
	var left float64
	require.NoError(t, b.Raw.NewRaw("SELECT extract(epoch FROM (refused_path->>'next_at')::timestamptz - clock_timestamp()) FROM emails WHERE id = ?", e.ID).Scan(t.Context(), &left))
	require.Positive(t, left)

	b.Exec(`UPDATE emails SET refused_path = jsonb_set(refused_path, '{next_at}', to_jsonb(now() + interval '2 hours')) WHERE id = ?`, e.ID)
	later := check(refused(3 * time.Hour))
	require.NotEqual(t, first, later, "another step of the backoff")
	require.Equal(t, got.RelayFault.Since, b.Get(e.ID).RelayFault.Since, "it has waited since the first")

	check(delivery.Obstacle{RelayDown: true, Relay: "primary"})
	require.Equal(t, 1, b.Count("SELECT count(*) FROM emails WHERE refused_path IS NULL"))
	check(refused(time.Hour))
	b.Open(e.ID, 1)
	require.Equal(t, 1, b.Count("SELECT count(*) FROM emails WHERE refused_path IS NULL"))
}

// TestABatchNotesARefusedReturnPathInItsOwnRow: all its e-mails that wait show it, and none is written again for it.
func TestABatchNotesARefusedReturnPathInItsOwnRow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, items := b.acceptBatch(batchOf(3, nil))
	refused := func(after time.Duration) delivery.Obstacle {
		return delivery.Obstacle{RelayDown: true, Relay: "primary", RefusedPath: &delivery.RefusedPath{Reply: email.Reply{Code: 450, Text: "later"}, RetryAfter: after}}
	}
	obstruct := func(o delivery.Obstacle) int {
		n, err := b.Mail.ObstructBatch(t.Context(), batch.ID, batchRoute, o, 10)
		require.NoError(t, err)
		return n
	}
	require.Equal(t, 3, obstruct(refused(time.Hour)))
	before := b.Get(items[0].EmailID)
	require.Zero(t, obstruct(refused(2*time.Hour)))
	for _, it := range items {
		got := b.Get(it.EmailID)
		require.Equal(t, email.Reply{Code: 450, Text: "later"}, got.RelayFault.Reply)
		require.Greater(t, got.NextAttemptAt.Sub(before.NextAttemptAt), 50*time.Minute)
		require.Equal(t, before.RelayFault.Since, got.RelayFault.Since)
	}
	require.Zero(t, obstruct(delivery.Obstacle{RelayDown: true, Relay: "primary"}))
	require.Equal(t, 1, b.Count("SELECT count(*) FROM batches WHERE refused_paths IS NULL"))
}
