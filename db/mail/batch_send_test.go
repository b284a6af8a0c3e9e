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
	none, err := b.Mail.ClaimStarts(b.Ctx, uuid.NewString(), time.Minute, 10)
	require.NoError(t, err)
	require.Empty(t, none, "not before it is due")
	b.Exec("UPDATE outbox SET lease_until = now() - interval '1 second'")
	starts, err := b.Mail.ClaimStarts(b.Ctx, uuid.NewString(), time.Minute, 10)
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
	b.Exec("UPDATE delivery_attempts SET lease_until = now() - interval '1 second'")
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
