package mail_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

func TestWhatABatchDefersGoesOnInRunsOfItsOwn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, items := b.acceptBatch(batchOf(3, nil))
	owner, opened, _ := b.openBatch(batch.ID, 10)
	endings := endingsOf(owner, opened, dbsetup.Deferred)
	endings[1] = endingsOf(owner, opened[1:2], dbsetup.Delivered)[0]
	relayDown := endingsOf(owner, opened[2:3], dbsetup.Deferred)[0]
	relayDown.Outcomes[0].Uncounted, relayDown.Outcomes[0].RetryAfter = true, time.Minute
	endings[2] = relayDown
	rec, err := b.Mail.RecordBatch(b.Ctx, endings)
	require.NoError(t, err)
	require.Equal(t, 1, rec.HandedOver)
	again, err := b.Mail.RecordBatch(b.Ctx, endings)
	require.NoError(t, err)
	require.Zero(t, again.HandedOver, "recording again changes nothing")

	own := b.Get(opened[0].EmailID)
	require.Equal(t, "email-"+own.ID, own.WorkflowID)
	require.Equal(t, "batch-"+batch.ID, b.Get(opened[2].EmailID).WorkflowID, "a relay's fault is the batch's to wait for")
	none, err := b.Mail.ClaimStarts(b.Ctx, delivery.Claim{Stream: email.StreamTransactional, Owner: uuid.NewString(), Lease: time.Minute, Limit: 10})
	require.NoError(t, err)
	require.Empty(t, none, "not before it is due")
	b.Exec("UPDATE outbox SET lease_until = now() - interval '1 second'")
	starts, err := b.Mail.ClaimStarts(b.Ctx, delivery.Claim{Stream: email.StreamTransactional, Owner: uuid.NewString(), Lease: time.Minute, Limit: 10})
	require.NoError(t, err)
	require.Equal(t, []delivery.Start{{EmailID: own.ID, WorkflowID: own.WorkflowID, CustomerID: b.Customer, Stream: email.StreamTransactional}}, starts)

	b.DueNow(own.ID)
	b.Attempt(own.ID, 2, dbsetup.Delivered)
	plan, err := b.Mail.PlanBatch(b.Ctx, batch.ID)
	require.NoError(t, err)
	require.Equal(t, 1, plan.Open)
	require.Zero(t, plan.Due)
	require.False(t, plan.NextAt.IsZero())
	b.DueNow(opened[2].EmailID)
	owner, opened, _ = b.openBatch(batch.ID, 10)
	require.Len(t, opened, 1)
	require.Equal(t, 2, opened[0].Attempt)
	_, err = b.Mail.RecordBatch(b.Ctx, endingsOf(owner, opened, dbsetup.Delivered))
	require.NoError(t, err)
	require.Equal(t, email.StatusCounts{email.StatusDelivered: 3}, b.progress(batch.ID).Emails)
	require.Len(t, items, 3)
}

func TestChunksAreRecordedTogether(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, reversed := range []bool{false, true} {
		batch, _ := b.acceptBatch(batchOf(6, nil))
		owner, opened, _ := b.openBatch(batch.ID, 6)
		chunks := [][]delivery.Ending{endingsOf(owner, opened[:3], dbsetup.Delivered), endingsOf(uuid.NewString(), opened[:3], dbsetup.Deferred), endingsOf(owner, opened[3:], dbsetup.Deferred)}
		want := []delivery.BatchRecorded{{Statuses: email.StatusCounts{email.StatusDelivered: 3}}, {Statuses: email.StatusCounts{}},
			{Statuses: email.StatusCounts{email.StatusSending: 3}, HandedOver: 3}}
		if reversed {
			slices.Reverse(chunks)
			slices.Reverse(want)
		}
		got, err := b.Mail.RecordChunks(b.Ctx, chunks)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, email.StatusCounts{email.StatusDelivered: 3, email.StatusSending: 3}, b.progress(batch.ID).Emails)
	}
}

func TestOutcomesOfABatchWaitForNobody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, _ := b.acceptBatch(batchOf(3, nil))
	owner, opened, _ := b.openBatch(batch.ID, 3)
	release := b.locked(opened[1].EmailID)
	free, err := b.Mail.RecordFree(b.Ctx, endingsOf(owner, opened[1:2], dbsetup.Delivered))
	require.NoError(t, err)
	require.Equal(t, delivery.BatchRecorded{Statuses: email.StatusCounts{}, Left: endingsOf(owner, opened[1:2], dbsetup.Delivered)}, free)
	require.Equal(t, 1, b.Count("SELECT count(*) FROM delivery_attempts WHERE phase = 'done'"))
	type recorded struct {
		delivery.BatchRecorded
		err error
	}
	answer := make(chan recorded, 1)
	go func() {
		rec, err := b.Mail.RecordBatch(b.Ctx, endingsOf(owner, opened, dbsetup.Delivered))
		answer <- recorded{rec, err}
	}()
	require.Eventually(t, b.waits, 30*time.Second, time.Millisecond)
	require.Equal(t, 3, b.Count("SELECT count(*) FROM delivery_attempts WHERE phase = 'done'"))
	require.Equal(t, email.StatusCounts{email.StatusDelivered: 2, email.StatusSending: 1}, b.progress(batch.ID).Emails)
	release()
	got := <-answer
	require.NoError(t, got.err)
	require.Equal(t, email.StatusCounts{email.StatusDelivered: 3}, got.Statuses)
	require.Equal(t, email.StatusCounts{email.StatusDelivered: 3}, b.progress(batch.ID).Emails)
}

func TestBatchClaimsNeverMeet(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, _ := b.acceptBatch(batchOf(200, nil))
	var mu sync.Mutex
	seen := map[string]int{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				opened, _, err := b.Mail.OpenBatch(b.Ctx, delivery.BatchOpenRequest{BatchID: batch.ID, Owner: uuid.NewString(), Relay: dbsetup.Relay, Route: batchRoute, Limit: 7})
				if err != nil || len(opened) == 0 {
					return
				}
				mu.Lock()
				for _, o := range opened {
					seen[o.EmailID]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Len(t, seen, 200)
	for id, n := range seen {
		require.Equal(t, 1, n, id)
	}
}

func TestABatchsDeadAttemptsAreTakenOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, _ := b.acceptBatch(batchOf(3, nil))
	first, opened, _ := b.openBatch(batch.ID, 10)
	require.Len(t, opened, 3)
	b.Exec("UPDATE emails SET next_action_at = now()")
	_, none, _ := b.openBatch(batch.ID, 10)
	require.Empty(t, none, "the leases are alive")
	plan, err := b.Mail.PlanBatch(b.Ctx, batch.ID)
	require.NoError(t, err)
	require.Zero(t, plan.Due)
	require.InDelta(t, delivery.Lease.Seconds(), time.Until(plan.NextAt).Seconds(), 5)
	require.NoError(t, b.Mail.RenewMany(b.Ctx, []string{opened[0].EmailID, opened[1].EmailID, opened[2].EmailID}, first))

	// One never got to its dot, one did, and of one the answer is known.
	require.NoError(t, b.Mark(opened[1].EmailID, 1, first, dbsetup.Ambiguous(opened[1].Opening)...))
	require.NoError(t, b.Mark(opened[2].EmailID, 1, first, dbsetup.Ambiguous(opened[2].Opening)...))
	require.NoError(t, b.Finish(opened[2].EmailID, 1, first, endingsOf(first, opened[2:3], dbsetup.Delivered)[0].Outcomes...))
	b.Exec("UPDATE delivery_attempts SET recalled = true, lease_until = now() - interval '1 second'")
	plan, err = b.Mail.PlanBatch(b.Ctx, batch.ID)
	require.NoError(t, err)
	require.Equal(t, 3, plan.Due, "what was begun and given up is due")
	second, taken, _ := b.openBatch(batch.ID, 10)
	require.Len(t, taken, 3)
	verdicts := map[string]delivery.Verdict{}
	for _, o := range taken {
		verdicts[o.EmailID] = o.Verdict
	}
	require.Equal(t, map[string]delivery.Verdict{opened[0].EmailID: delivery.VerdictOpened, opened[1].EmailID: delivery.VerdictRecorded, opened[2].EmailID: delivery.VerdictRecorded}, verdicts)
	late, err := b.Mail.RecordBatch(b.Ctx, endingsOf(first, opened[:1], dbsetup.Delivered))
	require.NoError(t, err)
	require.Empty(t, late.Statuses, "who was taken over says nothing any more")
	_, err = b.Mail.RecordBatch(b.Ctx, endingsOf(second, taken, dbsetup.Delivered))
	require.NoError(t, err)
	require.Equal(t, email.StatusDelivered, b.Get(opened[0].EmailID).Status)
	ambiguousOne := b.Get(opened[1].EmailID)
	require.Equal(t, email.RecipientDeferred, ambiguousOne.Recipients[0].Status)
	require.Equal(t, "email-"+ambiguousOne.ID, ambiguousOne.WorkflowID)
	require.Equal(t, email.StatusDelivered, b.Get(opened[2].EmailID).Status)
}

// TestAHeldBatchsPlanEndsWhatHasExpired, on all routes, and names the first time at which one of the
// others does. Open attempts and mail of another run are left alone.
func TestAHeldBatchsPlanEndsWhatHasExpired(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, items := b.acceptBatch(batchOf(8, func(i int, m *email.Message) error {
		m.ExpiresAt = time.Now().Add(time.Hour)
		switch i {
		case 2:
			m.From.Email = "shop@other.test"
		case 3, 4, 7:
			m.ExpiresAt = time.Time{}
		case 5:
			m.ExpiresAt = time.Now().Add(30 * time.Minute)
		}
		return nil
	}))
	id := func(i int) string { return items[i].EmailID }
	plan := func() delivery.BatchPlan {
		t.Helper()
		p, err := b.Mail.PlanBatch(b.Ctx, batch.ID)
		require.NoError(t, err)
		return p
	}
	b.Exec("UPDATE emails SET next_action_at = now() - interval '1 hour' WHERE id = ?", id(0))
	_, opened, _ := b.openBatch(batch.ID, 1)
	require.Len(t, opened, 1)
	b.Exec("UPDATE emails SET date_at = now(), attempts = 1, status = 'sending' WHERE id IN (?, ?)", id(3), id(4)) // a relay took them up, and has put them off
	b.Exec("UPDATE emails SET relay_down = true, relay_down_by = 'primary' WHERE id = ?", id(4))
	b.Exec("UPDATE emails SET workflow_id = 'email-' || id WHERE id = ?", id(6))
	_, err := b.Mail.ControlBatch(b.Ctx, batch.ID, email.ActionHold)
	require.NoError(t, err)

	// The row of one names a time that is past.
	b.Exec("UPDATE emails SET next_action_at = now() - interval '1 second' WHERE id = ?", id(5))
	p := plan()
	require.True(t, p.Held)
	require.Equal(t, []int{7, 0}, []int{p.Open, p.Due})
	b.Exec("UPDATE delivery_attempts SET lease_until = now() + interval '2 days'")
	require.Equal(t, b.Get(id(5)).ExpiresAt, plan().NextAt)

	release := b.locked(id(5))
	b.Exec("UPDATE emails SET expires_at = now() - interval '1 second' WHERE id IN (?, ?, ?, ?)", id(0), id(1), id(2), id(6))
	b.Exec("UPDATE emails SET date_at = now() - interval '73 hours' WHERE id IN (?, ?)", id(3), id(4))
	require.Equal(t, b.Get(id(5)).ExpiresAt, plan().NextAt, "it waits for no lock")
	release()
	for i, want := range map[int]email.Status{0: email.StatusSending, 1: email.StatusFailed, 2: email.StatusFailed, 3: email.StatusFailed, 4: email.StatusSending,
		5: email.StatusQueued, 6: email.StatusQueued, 7: email.StatusQueued} {
		e := b.Get(id(i))
		require.Equal(t, want, e.Status, "the %d. e-mail", i)
		if want == email.StatusFailed {
			require.Equal(t, email.DetailExpired, e.Detail)
		}
	}
	require.Equal(t, 3, b.Count("SELECT count(*) FROM email_events WHERE type = 'email.expired'"))
	b.Exec("UPDATE emails SET expires_at = now() WHERE id = ?", id(5))
	p = plan()
	require.Equal(t, 3, p.Open, "one is being sent, one waits for a relay, one was never attempted")
	require.Greater(t, time.Until(p.NextAt), 24*time.Hour, "the lease of what is being sent")
}
