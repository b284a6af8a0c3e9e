package db_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
)

func TestTheBacklog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got, err := b.Backlog(b.ctx)
	require.NoError(t, err)
	require.Zero(t, got)

	old := b.accept(message("bob@x.test"))
	b.exec("UPDATE emails SET created_at = now() - interval '2 hours', next_action_at = now() - interval '1 hour'")
	later := message("bob@x.test")
	later.SendAt = time.Now().Add(24 * time.Hour)
	scheduled := b.accept(later)
	b.exec("UPDATE emails SET created_at = now() - interval '3 days' WHERE id = '" + scheduled.ID + "'")
	e := b.accept(message("bob@x.test"))
	_, err = b.Control(b.ctx, e.ID, email.Control{Action: email.ActionCancel})
	require.NoError(t, err)
	got, err = b.Backlog(b.ctx)
	require.NoError(t, err)
	require.Equal(t, []email.OpenEmails{{Status: email.StatusQueued, Emails: 1}, {Status: email.StatusQueued, Detail: email.DetailScheduled, Emails: 1}}, got.Open)
	require.InDelta(t, 2*time.Hour, got.OldestOpen, float64(time.Minute), "what is scheduled is not old")
	require.InDelta(t, time.Hour, got.Overdue, float64(time.Minute))
	require.Equal(t, 3, got.Starts)
	b.open(old.ID, 1)
	got, err = b.Backlog(b.ctx)
	require.NoError(t, err)
	require.Zero(t, got.Overdue)
	require.Equal(t, 2, got.Starts)
}
