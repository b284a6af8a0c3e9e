package mail_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

func TestTheBacklog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got, err := b.Mail.Backlog(b.Ctx)
	require.NoError(t, err)
	require.Equal(t, delivery.Backlog{Reputations: map[string]int{"unknown": 0, "good": 0, "warning": 0, "critical": 0}}, got)

	old := b.Accept(dbsetup.Message("bob@x.test"))
	b.Exec("UPDATE emails SET created_at = now() - interval '2 hours', next_action_at = now() - interval '1 hour'")
	later := dbsetup.Message("bob@x.test")
	later.SendAt = time.Now().Add(24 * time.Hour)
	scheduled := b.Accept(later)
	b.Exec("UPDATE emails SET created_at = now() - interval '3 days' WHERE id = '" + scheduled.ID + "'")
	e := b.Accept(dbsetup.Message("bob@x.test"))
	_, err = b.Mail.Control(b.Ctx, e.ID, email.Control{Action: email.ActionCancel})
	require.NoError(t, err)
	got, err = b.Mail.Backlog(b.Ctx)
	require.NoError(t, err)
	require.Equal(t, []delivery.OpenEmails{{Status: email.StatusQueued, Emails: 1}, {Status: email.StatusQueued, Detail: email.DetailScheduled, Emails: 1}}, got.Open)
	require.InDelta(t, 2*time.Hour, got.OldestOpen, float64(time.Minute), "what is scheduled is not old")
	require.InDelta(t, time.Hour, got.Overdue, float64(time.Minute))
	require.Equal(t, 3, got.Starts)
	b.Open(old.ID, 1)
	got, err = b.Mail.Backlog(b.Ctx)
	require.NoError(t, err)
	require.Zero(t, got.Overdue)
	require.Equal(t, 2, got.Starts)
}

// A relay's outage shows in postrider_relay_up and relay_down: neither is mail overdue nor are runs
// missing.
func TestAnOutageIsNoBacklogOfRuns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	backlog := func() delivery.Backlog {
		t.Helper()
		got, err := b.Mail.Backlog(b.Ctx)
		require.NoError(t, err)
		return got
	}
	require.Equal(t, 1, backlog().Starts)
	_, err := b.Mail.RelayFailed(b.Ctx, delivery.RelayState{Name: "primary", Address: "mx.test:25"}, uuid.NewString())
	require.NoError(t, err)
	_, err = b.Mail.Check(b.Ctx, e.ID, delivery.Obstacle{RelayDown: true, Relay: "primary"})
	require.NoError(t, err)
	b.Exec("UPDATE emails SET next_action_at = now() - interval '1 day'")
	got := backlog()
	require.Zero(t, got.Starts, "its run has asked")
	require.Zero(t, got.Overdue)
	require.Equal(t, []delivery.OpenEmails{{Status: email.StatusQueued, Detail: email.DetailRelayDown, Emails: 1}}, got.Open)

	b.Exec("UPDATE relay_states SET changed_at = now() - interval '2 days', next_at = now() - interval '11 minutes'")
	require.InDelta(t, 24*time.Hour, backlog().Overdue, float64(time.Minute), "no worker has the relay any more")

	require.NoError(t, b.Mail.RelayRecovered(b.Ctx, "primary", "mx.test:25"))
	require.Zero(t, backlog().Overdue, "it follows the relay within minutes")
	b.Exec("UPDATE relay_states SET changed_at = now() - interval '1 hour'")
	require.InDelta(t, 54*time.Minute, backlog().Overdue, float64(time.Minute), "what does not follow is stuck")

	_, err = b.Mail.Check(b.Ctx, e.ID, delivery.Obstacle{RelayDown: true, NoRelay: true})
	require.NoError(t, err)
	require.Zero(t, backlog().Overdue, "nor is mail late that no relay is configured for")

	// An order for a run that is to start later is no start that waits.
	b.Exec("INSERT INTO outbox (email_id, lease_owner, lease_until, attempts, created_at) VALUES (?, '00000000-0000-0000-0000-000000000000', now() + interval '1 hour', 0, now())", e.ID)
	require.Zero(t, backlog().Starts)
	b.Exec("UPDATE outbox SET lease_until = now()")
	require.Equal(t, 1, backlog().Starts)
}
