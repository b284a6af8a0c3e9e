package mail_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// A batch that is held takes up nothing: the attempts that a dead worker left open are ended by its
// plan, and do not outlive their expiry.
func TestAHeldBatchsAbandonedAttemptsEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, _ := b.acceptBatch(batchOf(5, func(_ int, m *email.Message) error {
		m.ExpiresAt = time.Now().Add(time.Hour)
		return nil
	}))
	owner, opened, _ := b.openBatch(batch.ID, 5)
	id := func(i int) string { return opened[i].EmailID }
	for _, i := range []int{1, 2} {
		require.NoError(t, b.Mark(id(i), 1, owner, dbsetup.Ambiguous(opened[i].Opening)...))
	}
	require.NoError(t, b.Finish(id(2), 1, owner, endingsOf(owner, opened[2:3], dbsetup.Delivered)[0].Outcomes...))
	_, err := b.Mail.ControlBatch(b.Ctx, batch.ID, email.ActionHold)
	require.NoError(t, err)
	plan := func() delivery.BatchPlan {
		t.Helper()
		p, err := b.Mail.PlanBatch(b.Ctx, batch.ID)
		require.NoError(t, err)
		require.True(t, p.Held)
		return p
	}
	b.Exec("UPDATE delivery_attempts SET lease_until = now() + interval '30 minutes'")
	p := plan()
	require.Equal(t, 5, p.Open)
	require.Equal(t, 5, b.Count("SELECT count(*) FROM delivery_attempts WHERE lease_until = ?", p.NextAt), "the run looks again when the leases end")

	// The worker of all but the last dies. The row of one is locked at the time.
	b.Exec("UPDATE delivery_attempts SET recalled = true, lease_until = now() - interval '1 second' WHERE email_id <> ?", id(4))
	b.Exec("UPDATE emails SET expires_at = now() - interval '1 second' WHERE id IN (?, ?, ?)", id(3), id(4), opened[0].EmailID)
	release := b.locked(id(3))
	p = plan()
	release()
	require.False(t, p.NextAt.After(time.Now()), "the run looks again for the one that was locked")
	got := func(i int) []any { e := b.Get(id(i)); return []any{e.Status, e.Detail, e.WorkflowID} }
	require.Equal(t, []any{email.StatusFailed, email.DetailExpired, batch.WorkflowID}, got(0))
	require.Equal(t, []any{email.StatusSending, email.DetailHeld, "email-" + id(1)}, got(1), "it may have arrived: its own run goes on when it is resumed")
	require.Equal(t, []any{email.StatusDelivered, email.Detail(""), batch.WorkflowID}, got(2))
	require.Equal(t, []any{email.StatusSending, email.DetailHeld, batch.WorkflowID}, got(3))
	p = plan()
	require.Equal(t, []any{email.StatusFailed, email.DetailExpired, batch.WorkflowID}, got(3))
	require.Equal(t, []any{email.StatusSending, email.DetailHeld, batch.WorkflowID}, got(4), "its worker is at it")
	require.Equal(t, 1, p.Open)
	require.True(t, p.NextAt.After(time.Now()))
}

// TestABatchsAbandonedAttemptsNeedNoRelayToEnd: the relay is away, so the batch asks only what waits.
func TestABatchsAbandonedAttemptsNeedNoRelayToEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, _ := b.acceptBatch(batchOf(3, func(i int, m *email.Message) error {
		m.ExpiresAt = time.Now().Add(time.Hour)
		return nil
	}))
	owner, opened, _ := b.openBatch(batch.ID, 2)
	require.NoError(t, b.Mark(opened[0].EmailID, 1, owner, dbsetup.Ambiguous(opened[0].Opening)...))
	waits := func() delivery.BatchWaiting {
		t.Helper()
		w, err := b.Mail.ExpireBatch(b.Ctx, batch.ID, batchRoute)
		require.NoError(t, err)
		return w
	}
	w := waits()
	require.LessOrEqual(t, w.LookIn, delivery.Lease, "it looks again when the leases end")
	require.Greater(t, w.LookIn, time.Second)
	b.leasesEnd()
	w = waits()
	require.LessOrEqual(t, w.LookIn, delivery.RecallTime, "one owner is recalled")
	require.Equal(t, email.StatusSending, b.Get(opened[0].EmailID).Status)
	require.Equal(t, email.RecipientDeferred, b.Get(opened[1].EmailID).Recipients[0].Status, "the other has sent nothing")
	b.leasesEnd()
	w = waits()
	require.Greater(t, w.LookIn, 50*time.Minute, "no attempt is open")
	got := b.Get(opened[0].EmailID)
	require.Equal(t, email.DetailAmbiguous, got.Recipients[0].Reason)
	require.Equal(t, "email-"+got.ID, got.WorkflowID, "its own run goes on")
}
