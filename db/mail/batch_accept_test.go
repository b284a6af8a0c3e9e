package mail_test

import (
	"fmt"
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

// batchOf asks for one message to each of n recipients.
func batchOf(n int, change func(i int, m *email.Message) error) email.BatchRequest {
	return email.BatchRequest{
		Mode: email.BatchStrict, Len: n,
		Message: func(i int) (email.Message, error) {
			m := dbsetup.Message(fmt.Sprintf("r%d@x.test", i))
			if change != nil {
				if err := change(i, &m); err != nil {
					return m, err
				}
			}
			return m, nil
		},
		Place:  func(i int) string { return fmt.Sprintf("/messages/%d", i) },
		Sender: func(i int) string { return fmt.Sprintf("/messages/%d/from", i) },
	}
}

func (b *bench) acceptBatch(req email.BatchRequest) (email.Batch, []email.BatchItem) {
	b.T.Helper()
	batch, items, _, err := b.Mail.AcceptBatch(b.Ctx, b.Customer, req, uuid.NewString(), email.Idempotency{})
	require.NoError(b.T, err)
	return batch, items
}

var batchRoute = delivery.Route{Stream: email.StreamTransactional, SenderDomain: "acme.test"}

func (b *bench) openBatch(id string, limit int) (owner string, opened []delivery.BatchOpening, more bool) {
	b.T.Helper()
	return b.openBatchAt(id, batchRoute, limit)
}

func (b *bench) openBatchAt(id string, route delivery.Route, limit int) (owner string, opened []delivery.BatchOpening, more bool) {
	b.T.Helper()
	owner = uuid.NewString()
	opened, more, err := b.Mail.OpenBatch(b.Ctx, delivery.BatchOpenRequest{BatchID: id, Owner: owner, Relay: dbsetup.Relay, Route: route, Limit: limit})
	require.NoError(b.T, err)
	return owner, opened, more
}

// endingsOf ends opened attempts with an outcome each.
func endingsOf(owner string, opened []delivery.BatchOpening, outcome func(delivery.EnvelopeRecipient) delivery.Outcome) []delivery.Ending {
	out := make([]delivery.Ending, len(opened))
	for i, o := range opened {
		out[i] = delivery.Ending{EmailID: o.EmailID, Attempt: o.Attempt, Owner: owner, Relay: dbsetup.Relay, Transcript: []email.Step{{Command: "DATA"}}}
		for _, r := range o.Recipients {
			oc := outcome(r)
			oc.RecipientID = r.ID
			out[i].Outcomes = append(out[i].Outcomes, oc)
		}
	}
	return out
}

func (b *bench) progress(id string) email.BatchProgress {
	b.T.Helper()
	p, err := b.Mail.Batch(b.Ctx, b.Customer, id)
	require.NoError(b.T, err)
	return p
}

func TestABatchIsManyEmails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, items := b.acceptBatch(batchOf(600, nil))
	require.Len(t, items, 600)
	for i, it := range items {
		require.Equal(t, i, it.Index)
	}
	require.Equal(t, 600, b.Count("SELECT count(*) FROM emails WHERE workflow_id = 'batch-' || batch_id AND status = 'queued'"))
	require.Equal(t, 600, b.Count("SELECT emails FROM usage"), "one row, whose shard does not matter")
	e := b.Get(items[7].EmailID)
	require.Equal(t, "r7@x.test", e.To[0].Email)
	require.Equal(t, batch.ID, e.BatchID)
	require.Equal(t, []string{"email.queued"}, b.Events(e.ID))

	for _, unknown := range []string{"", "my-batch", uuid.NewString()} {
		_, err := b.Mail.PlanBatch(b.Ctx, unknown)
		require.Equal(t, email.CodeNotFound, email.FailureCode(err))
	}
	plan, err := b.Mail.PlanBatch(b.Ctx, batch.ID)
	require.NoError(t, err)
	require.Equal(t, delivery.BatchPlan{CustomerID: b.Customer, Stream: email.StreamTransactional, Total: 600, Open: 600, Due: 600, Routes: []delivery.Route{batchRoute}}, plan)

	var all []string
	for {
		owner, opened, more := b.openBatch(batch.ID, 250)
		for _, o := range opened {
			all = append(all, o.EmailID)
			require.Equal(t, delivery.VerdictOpened, o.Verdict)
			require.Equal(t, "shop@acme.test", o.From)
		}
		rec, err := b.Mail.RecordBatch(b.Ctx, endingsOf(owner, opened, dbsetup.Delivered))
		require.NoError(t, err)
		require.Equal(t, len(opened), rec.Statuses[email.StatusDelivered])
		if !more {
			break
		}
	}
	slices.Sort(all)
	require.Len(t, slices.Compact(all), 600, "each once")
	p := b.progress(batch.ID)
	require.Equal(t, email.StatusCounts{email.StatusDelivered: 600}, p.Emails)
	require.False(t, p.FinishedAt.IsZero())
	require.Positive(t, p.Rate)
	require.Equal(t, []string{"email.queued", "email.sending", "email.delivered", "email.completed"}, b.Events(items[3].EmailID))
	attempts, _, err := b.Mail.Attempts(b.Ctx, b.Customer, items[3].EmailID, 0)
	require.NoError(t, err)
	require.Equal(t, email.PhaseDone, attempts[0].Phase)
	require.NotEmpty(t, attempts[0].Transcript)
	plan, err = b.Mail.PlanBatch(b.Ctx, batch.ID)
	require.NoError(t, err)
	require.Zero(t, plan.Open)
}

func TestABatchIsAllOrWhatIsGood(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bad := func(i int, _ *email.Message) error {
		if i%2 == 0 {
			f := email.Fail(email.CodeInvalidRequest, "not good")
			f.Fields = []email.FieldError{{Pointer: fmt.Sprintf("/messages/%d/subject", i), Code: "missing", Detail: "give it"}}
			return f
		}
		return nil
	}
	req := batchOf(5, bad)
	_, _, _, err := b.Mail.AcceptBatch(b.Ctx, b.Customer, req, uuid.NewString(), email.Idempotency{})
	require.Equal(t, email.CodeInvalidRequest, email.FailureCode(err))
	require.Zero(t, b.Count("SELECT count(*) FROM emails"))
	require.Zero(t, b.Count("SELECT count(*) FROM batches"))

	req.Mode = email.BatchPermissive
	batch, items := b.acceptBatch(req)
	require.Equal(t, 2, batch.Accepted())
	require.Equal(t, []int{1, 3}, []int{items[0].Index, items[1].Index})
	require.Equal(t, email.RefusedItem{Index: 4, Code: email.CodeInvalidRequest, Detail: "not good",
		Fields: []email.FieldError{{Pointer: "/messages/4/subject", Code: "missing", Detail: "give it"}}}, batch.Refused[2])
	require.Equal(t, len(batch.Refused), b.progress(batch.ID).RefusedCount, "it is kept")

	req.Len = 1
	_, _, _, err = b.Mail.AcceptBatch(b.Ctx, b.Customer, req, uuid.NewString(), email.Idempotency{})
	require.ErrorContains(t, err, "the one item cannot be accepted")

	_, err = b.Raw.ExecContext(b.Ctx, "UPDATE customers SET credits = 3")
	require.NoError(t, err)
	_, _, _, err = b.Mail.AcceptBatch(b.Ctx, b.Customer, batchOf(4, nil), uuid.NewString(), email.Idempotency{})
	require.Equal(t, email.CodeCredits, email.FailureCode(err))
	b.acceptBatch(batchOf(3, nil))
	require.Zero(t, b.Count("SELECT credits FROM customers"))
}

func TestOneKeyIsOneBatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	idem := email.Idempotency{Key: "k", Fingerprint: "f"}
	var wg sync.WaitGroup
	var mu sync.Mutex
	answers := map[string]int{}
	for range 10 {
		wg.Go(func() {
			batch, items, _, err := b.Mail.AcceptBatch(b.Ctx, b.Customer, batchOf(20, nil), uuid.NewString(), idem)
			mu.Lock()
			defer mu.Unlock()
			answers[fmt.Sprint(batch.ID, items, err)]++
		})
	}
	wg.Wait()
	require.Len(t, answers, 1, "ten equal answers")
	require.Equal(t, 20, b.Count("SELECT count(*) FROM emails"))
	_, _, _, err := b.Mail.AcceptBatch(b.Ctx, b.Customer, batchOf(20, nil), uuid.NewString(), email.Idempotency{Key: "k", Fingerprint: "g"})
	require.Equal(t, email.CodeIdempotencyConflict, email.FailureCode(err))
}

// Chunks that record at the same time keep apart what each did, and whose an attempt is. A server's
// reply is recorded although another transaction, as one that cancels a batch, has the e-mail's row
// lock.
func TestABatchIsSteered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, items := b.acceptBatch(batchOf(300, nil))
	held, _, err := b.Mail.ControlBatchFor(b.Ctx, b.Customer, batch.ID, email.ActionHold)
	require.NoError(t, err)
	require.True(t, held.Held)
	require.Equal(t, map[email.Detail]int{email.DetailHeld: 300}, held.Details)
	_, none, _ := b.openBatch(batch.ID, 10)
	require.Empty(t, none)
	plan, err := b.Mail.PlanBatch(b.Ctx, batch.ID)
	require.NoError(t, err)
	require.True(t, plan.Held)
	require.Zero(t, plan.Due)
	for _, action := range []email.Action{email.ActionResume, email.ActionRetryNow} {
		err = b.as(items[0].EmailID, action)
		require.Equal(t, email.CodeConflict, email.FailureCode(err), "%s of one of them would do nothing", action)
		require.ErrorContains(t, err, "resume the batch, "+batch.ID)
	}
	require.Equal(t, []string{"email.queued", "email.held"}, b.Events(items[0].EmailID))
	require.NoError(t, b.Control(items[299].EmailID, email.ActionCancel))
	_, _, err = b.Mail.ControlBatchFor(b.Ctx, b.Customer, batch.ID, email.ActionResume)
	require.NoError(t, err)
	_, opened, _ := b.openBatch(batch.ID, 10)
	require.Len(t, opened, 10)
	canceled, _, err := b.Mail.ControlBatchFor(b.Ctx, b.Customer, batch.ID, email.ActionCancel)
	require.NoError(t, err)
	require.Equal(t, 290, canceled.Emails[email.StatusCanceled]) // the one of before included
	require.False(t, canceled.Held)
	_, _, err = b.Mail.ControlBatchFor(b.Ctx, uuid.NewString(), batch.ID, email.ActionCancel)
	require.Equal(t, email.CodeNotFound, email.FailureCode(err))
	require.Equal(t, 3, b.Count("SELECT count(*) FROM audit WHERE action LIKE 'batch.%'"))
	_, _, err = b.Mail.ControlFor(b.Ctx, b.Customer, items[0].EmailID, email.Control{Action: email.ActionHold})
	if err != nil {
		require.Equal(t, email.CodeConflict, email.FailureCode(err))
	}
}

// An e-mail that was put off has a run of its own, which needs a signal.
func TestWhatABatchHandedOverIsSteeredWithIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, _ := b.acceptBatch(batchOf(2, nil))
	owner, opened, _ := b.openBatch(batch.ID, 1)
	_, err := b.Mail.RecordBatch(b.Ctx, endingsOf(owner, opened, dbsetup.Deferred))
	require.NoError(t, err)
	for _, tt := range []struct {
		action email.Action
		status email.Status
		detail email.Detail
	}{{email.ActionHold, email.StatusSending, email.DetailHeld}, {email.ActionResume, email.StatusSending, email.DetailDeferred}, {email.ActionCancel, email.StatusCanceled, ""}} {
		orders, err := b.Mail.ControlBatch(b.Ctx, batch.ID, tt.action)
		require.NoError(t, err)
		require.Len(t, orders, 1, "the other is the batch's")
		wakes, err := b.Mail.Wakes(b.Ctx, orders)
		require.NoError(t, err)
		own := b.Get(opened[0].EmailID)
		require.Equal(t, []delivery.Wake{{IDs: orders, Ended: tt.status == email.StatusCanceled,
			Start: delivery.Start{EmailID: own.ID, WorkflowID: "email-" + own.ID, CustomerID: b.Customer, Stream: own.Stream}}}, wakes)
		require.Equal(t, []any{tt.status, tt.detail}, []any{own.Status, own.Detail})
	}
}

// A process that controls a batch may die in the middle of it. Then no e-mail was changed: a batch
// half canceled and half held would wait for another command.
func TestABatchIsSteeredAsAWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, items := b.acceptBatch(batchOf(300, nil))
	for _, action := range []email.Action{email.ActionHold, email.ActionCancel} {
		release := b.locked(items[299].EmailID)
		done := make(chan error, 1)
		go func() {
			_, err := b.Mail.ControlBatch(b.Ctx, batch.ID, action)
			done <- err
		}()
		require.Eventually(t, b.waits, 30*time.Second, 5*time.Millisecond)
		b.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
		require.Error(t, <-done)
		release()
		p := b.progress(batch.ID)
		require.False(t, p.Held)
		require.Equal(t, 300, p.Emails[email.StatusQueued], "after a broken-off %s: %v", action, p.Emails)
		require.Empty(t, p.Details)
	}
}

func TestABatchsPauseExpiryAndSchedule(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, items := b.acceptBatch(batchOf(3, func(i int, m *email.Message) error {
		if i == 2 {
			m.SendAt = time.Now().Add(time.Hour)
		}
		return nil
	}))
	require.Equal(t, email.DetailScheduled, items[2].Detail)
	_, err := b.Mail.Pause(b.Ctx, email.Pause{Scope: email.PauseInstallation})
	require.NoError(t, err)
	_, none, _ := b.openBatch(batch.ID, 10)
	require.Empty(t, none)
	require.Equal(t, email.DetailHeld, b.Get(items[0].EmailID).Detail)
	require.NoError(t, b.Mail.Unpause(b.Ctx, email.Pause{Scope: email.PauseInstallation}))
	freed, err := b.Mail.ClaimUnpaused(b.Ctx, time.Minute, 10)
	require.NoError(t, err)
	require.Len(t, freed, 1, "the batch's run is woken, once for both")
	require.Equal(t, batch.ID, freed[0].BatchID)
	b.Exec("UPDATE emails SET expires_at = now() - interval '1 second', next_action_at = now() WHERE id = ?", items[0].EmailID)
	_, opened, _ := b.openBatch(batch.ID, 10)
	require.Len(t, opened, 1)
	require.Equal(t, items[1].EmailID, opened[0].EmailID)
	require.Equal(t, email.StatusFailed, b.Get(items[0].EmailID).Status)
	n, err := b.Mail.ObstructBatch(b.Ctx, batch.ID, batchRoute, delivery.Obstacle{RelayDown: true}, 10)
	require.NoError(t, err)
	require.Zero(t, n, "nothing is due")
	b.DueNow(items[2].EmailID)
	n, err = b.Mail.ObstructBatch(b.Ctx, batch.ID, batchRoute, delivery.Obstacle{RelayDown: true}, 10)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	state, err := b.Mail.RelayFailed(b.Ctx, delivery.RelayState{Name: "primary", Address: "mx.test:25"}, uuid.NewString())
	require.NoError(t, err)
	b.Exec("UPDATE emails SET relay_down_by = 'primary' WHERE id = ?", items[2].EmailID)
	b.Exec("UPDATE emails SET next_action_at = now() + interval '1 day' WHERE id <> ? AND status = 'queued'", items[2].EmailID)
	p, err := b.Mail.Batch(b.Ctx, b.Customer, batch.ID)
	require.NoError(t, err)
	require.WithinDuration(t, state.NextProbeAt, p.NextAt, time.Minute, "what is due waits for the relay's next probe")
}

// TestABatchesMailExpiresWhateverItWaitsFor: a relay that its row names already, the end of a
// hold, or its send_at. Another sender's mail and open attempts are left alone.
func TestABatchesMailExpiresWhateverItWaitsFor(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, items := b.acceptBatch(batchOf(8, func(i int, m *email.Message) error {
		m.ExpiresAt = time.Now().Add(time.Hour)
		switch i {
		case 3:
			m.SendAt = time.Now().Add(time.Minute)
		case 4:
			m.From.Email = "shop@other.test"
		case 6:
			m.ExpiresAt = time.Now().Add(30 * time.Minute)
		case 7:
			m.ExpiresAt = time.Time{}
		}
		return nil
	}))
	id := func(i int) string { return items[i].EmailID }
	expire := func() delivery.BatchWaiting {
		t.Helper()
		w, err := b.Mail.ExpireBatch(b.Ctx, batch.ID, batchRoute)
		require.NoError(t, err)
		return w
	}
	b.Exec("UPDATE emails SET next_action_at = now() - interval '1 hour' WHERE id = ?", id(0))
	_, opened, _ := b.openBatch(batch.ID, 1)
	require.Len(t, opened, 1)
	require.Equal(t, id(0), opened[0].EmailID)
	b.Exec("UPDATE emails SET expires_at = now() - interval '1 second' WHERE id = ?", id(0))
	w := expire()
	require.LessOrEqual(t, w.LookIn, delivery.Lease, "until the end of the lease")
	b.Exec("UPDATE delivery_attempts SET lease_until = now() + interval '1 hour'")
	w = expire()
	require.True(t, w.Due)
	require.WithinDuration(t, b.Get(id(6)).ExpiresAt, w.LookAt, 0, "the expiry of what is being sent has no part in it")
	require.Greater(t, w.LookIn, time.Duration(0))
	require.LessOrEqual(t, w.LookIn, 30*time.Minute)
	require.Equal(t, 8, b.Count("SELECT count(*) FROM emails WHERE status IN ('queued', 'sending')"))

	_, err := b.Mail.ObstructBatch(b.Ctx, batch.ID, batchRoute, delivery.Obstacle{RelayDown: true, Relay: "primary"}, 10)
	require.NoError(t, err)
	_, err = b.Mail.Control(b.Ctx, id(2), email.Control{Action: email.ActionHold})
	require.NoError(t, err)
	b.Exec("UPDATE emails SET expires_at = now() WHERE id NOT IN (?, ?, ?)", id(0), id(6), id(7))
	w = expire()
	require.True(t, w.Due)
	require.WithinDuration(t, b.Get(id(6)).ExpiresAt, w.LookAt, 0)
	for i, want := range map[int]email.Status{0: email.StatusSending, 1: email.StatusFailed, 2: email.StatusFailed, 3: email.StatusFailed, 4: email.StatusQueued,
		5: email.StatusFailed, 6: email.StatusQueued, 7: email.StatusQueued} {
		e := b.Get(id(i))
		require.Equal(t, want, e.Status, "the %d. e-mail", i)
		if e.Status == email.StatusFailed {
			require.Equal(t, email.DetailExpired, e.Detail)
		}
	}
	require.Equal(t, 4, b.Count("SELECT count(*) FROM email_events WHERE type = 'email.expired'"))
	require.Equal(t, 4, b.Count("SELECT count(*) FROM email_events WHERE type = 'email.completed'"))

	// An e-mail that another transaction has locked is due again in a second.
	b.Exec("UPDATE emails SET expires_at = now() WHERE id = ?", id(6))
	tx, err := b.Raw.BeginTx(b.Ctx, nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(b.Ctx, "SELECT 1 FROM emails WHERE id = ? FOR UPDATE", id(6))
	require.NoError(t, err)
	w = expire()
	require.Equal(t, delivery.BatchWaiting{Due: true, LookAt: w.LookAt, LookIn: time.Second}, w)
	require.True(t, w.LookAt.After(b.Get(id(6)).ExpiresAt))
	require.NoError(t, tx.Rollback())
	b.Exec("UPDATE emails SET next_action_at = now() + interval '1 day' WHERE id IN (?, ?)", id(0), id(7))
	w = expire()
	require.Greater(t, w.LookIn, 50*time.Minute, "one is being sent, and no other expires")
	require.False(t, w.Due)
	require.Equal(t, email.StatusFailed, b.Get(id(6)).Status)
}

func TestBatchesAreStartedAndFoundAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, _ := b.acceptBatch(batchOf(5, nil))
	none, err := b.Mail.ClaimBatches(b.Ctx, delivery.Claim{Stream: email.StreamTransactional, Owner: uuid.NewString(), Lease: time.Minute, Limit: 10})
	require.NoError(t, err)
	require.Empty(t, none, "the accepting process has it")
	b.Exec("UPDATE batches SET lease_until = now() - interval '1 second'")
	got, err := b.Mail.ClaimBatches(b.Ctx, delivery.Claim{Stream: email.StreamTransactional, Owner: uuid.NewString(), Lease: time.Minute, Limit: 10})
	require.NoError(t, err)
	require.Equal(t, []delivery.Start{{BatchID: batch.ID, WorkflowID: "batch-" + batch.ID, CustomerID: b.Customer, Stream: email.StreamTransactional}}, got)
	_, err = b.Mail.PlanBatch(b.Ctx, batch.ID)
	require.NoError(t, err)
	require.Zero(t, b.Count("SELECT count(*) FROM batches WHERE lease_until IS NOT NULL"), "the run is there")

	// A long batch is not overdue while its run is at work.
	b.Exec("UPDATE emails SET next_action_at = now() - interval '1 hour'")
	overdue, err := b.Mail.ClaimOverdue(b.Ctx, 100)
	require.NoError(t, err)
	require.Empty(t, overdue)
	b.Exec("UPDATE batches SET seen_at = now() - interval '1 hour'")
	overdue, err = b.Mail.ClaimOverdue(b.Ctx, 100)
	require.NoError(t, err)
	require.Len(t, overdue, 1, "once for the batch")
	require.Equal(t, batch.ID, overdue[0].BatchID)
}

func TestABatchsAttachmentsAreStoredOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	content := []byte("the same for all")
	batch, items := b.acceptBatch(batchOf(10, func(i int, m *email.Message) error {
		m.Attachments = []email.Attachment{{Filename: "a.txt", Type: "text/plain", Content: content}}
		if i == 9 {
			m.Attachments = []email.Attachment{{Filename: "r.wav", ReferenceType: email.ReferenceRecording, ReferenceID: uuid.NewString()}}
		}
		return nil
	}))
	require.Equal(t, 1, b.Count("SELECT count(*) FROM blobs"))
	require.Equal(t, 1, b.Count("SELECT count(*) FROM outbox"), "what has to be fetched goes in a run of its own")
	require.Equal(t, "email-"+items[9].EmailID, b.Get(items[9].EmailID).WorkflowID)
	out, err := b.Mail.Outgoing(b.Ctx, []string{items[0].EmailID, items[1].EmailID})
	require.NoError(t, err)
	got, err := b.Mail.Content(b.Ctx, out[items[0].EmailID].Attachments[0].BlobID, int64(len(content)))
	require.NoError(t, err)
	require.Equal(t, content, got)
	require.NotEmpty(t, batch.ID)
}
