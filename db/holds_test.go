package db_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// as acts for the customer.
func (b *bench) as(id string, action email.Action) error {
	_, err := b.ControlFor(b.ctx, b.customer, id, email.Control{Action: action})
	return err
}

// holders are whose holds the events tell of, in order.
func (b *bench) holders(id string) (out []string) {
	b.t.Helper()
	es, _, err := b.EmailEvents(b.ctx, b.customer, id, 0)
	require.NoError(b.t, err)
	for _, e := range es {
		if e.Type == email.EventHeld || e.Type == email.EventResumed {
			out = append(out, string(e.Type)+" "+string(e.Holder))
		}
	}
	return out
}

func (b *bench) all(reach delivery.Reach, action email.Action) delivery.Reached {
	b.t.Helper()
	n, err := b.ControlAll(b.ctx, reach, action, nil)
	require.NoError(b.t, err)
	return n
}

func TestEachLiftsItsOwnHold(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.accept(message("bob@x.test"))
	require.NoError(t, b.as(e.ID, email.ActionHold))
	require.Equal(t, []email.Holder{email.HolderCustomer}, b.get(e.ID).HeldBy)
	for _, action := range []email.Action{email.ActionResume, email.ActionRetryNow} {
		err := b.control(e.ID, action)
		require.Equal(t, email.CodeConflict, email.FailureCode(err))
		require.ErrorContains(t, err, "its customer holds the e-mail")
	}
	require.NoError(t, b.control(e.ID, email.ActionHold))
	require.NoError(t, b.as(e.ID, email.ActionHold), "in force already")
	b.pause(email.Pause{Scope: email.PauseInstallation})
	require.NoError(t, b.as(e.ID, email.ActionResume))
	require.Equal(t, email.DetailHeld, b.get(e.ID).Detail)
	require.Equal(t, []email.Holder{email.HolderOperator}, b.get(e.ID).HeldBy)
	_, o := b.open(e.ID, 1)
	require.Equal(t, []any{email.WaitingHeld, []email.Holder{email.HolderOperator}}, []any{o.State.Waiting, o.State.HeldBy})
	for _, action := range []email.Action{email.ActionResume, email.ActionRetryNow} {
		err := b.as(e.ID, action)
		require.Equal(t, email.CodeConflict, email.FailureCode(err))
		require.ErrorContains(t, err, "an operator holds the e-mail")
	}
	require.NoError(t, b.control(e.ID, email.ActionResume))
	require.Equal(t, []email.Holder{email.HolderPause}, b.get(e.ID).HeldBy)
	require.NoError(t, b.Unpause(b.ctx, email.Pause{Scope: email.PauseInstallation}))
	_, err := b.ClaimUnpaused(b.ctx, 10)
	require.NoError(t, err)
	require.Empty(t, b.get(e.ID).HeldBy)
	_, o = b.open(e.ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict)
	require.Equal(t, []string{"email.held customer", "email.held operator", "email.resumed customer", "email.resumed operator"}, b.holders(e.ID), "the second hold has an event of its own")
}

func TestEachLiftsItsOwnHoldOfABatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, items := b.acceptBatch(batchOf(3, nil))
	own := func(action email.Action) error {
		_, _, err := b.ControlBatchFor(b.ctx, b.customer, batch.ID, action)
		return err
	}
	operator := func(action email.Action) error {
		_, err := b.ControlBatch(b.ctx, batch.ID, action)
		return err
	}
	require.NoError(t, own(email.ActionHold))
	require.ErrorContains(t, operator(email.ActionResume), "its customer holds the batch")
	require.NoError(t, operator(email.ActionHold))
	require.NoError(t, own(email.ActionResume))
	require.True(t, b.progress(batch.ID).Held)
	require.ErrorContains(t, own(email.ActionResume), "an operator holds the batch")
	require.ErrorContains(t, b.as(items[0].EmailID, email.ActionResume), "an operator holds the whole batch")
	require.NoError(t, b.as(items[0].EmailID, email.ActionHold), "one of them is held besides")
	require.NoError(t, operator(email.ActionResume))
	require.Equal(t, map[email.Detail]int{email.DetailHeld: 1}, b.progress(batch.ID).Details, "that one stays held")
	require.NoError(t, own(email.ActionResume))
	require.Empty(t, b.progress(batch.ID).Details)
	_, opened, _ := b.openBatch(batch.ID, 10)
	require.Len(t, opened, 3)
}

// What is held since an earlier version belongs to whoever the audit log names; where it
// names nobody, either lifts it, as before.
func TestAHoldWithoutAHolderIsLiftedByEither(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, lift := range []func(string, email.Action) error{b.as, b.control} {
		e := b.accept(message("bob@x.test"))
		b.exec("UPDATE emails SET held = true WHERE id = ?", e.ID) // as an older version does
		require.NoError(t, lift(e.ID, email.ActionResume))
		require.Empty(t, b.get(e.ID).Detail)
	}
	e := b.accept(message("bob@x.test"))
	require.NoError(t, b.control(e.ID, email.ActionHold))
	b.exec("UPDATE emails SET held = false WHERE id = ?", e.ID) // an older version has resumed it
	require.NoError(t, b.as(e.ID, email.ActionHold))
	require.NoError(t, b.as(e.ID, email.ActionResume))
	require.Empty(t, b.get(e.ID).HeldBy)
}

// An operator's action reaches mail without runs and items of batches, attempted or not,
// and nobody else's.
func TestAnOperatorReachesAllMailOfACustomer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other, _, err := b.CreateCustomer(b.ctx, "Other", "", "")
	require.NoError(t, err)
	foreign, _, err := b.Accept(b.ctx, other.ID, message("bob@x.test"), uuid.NewString(), email.Idempotency{})
	require.NoError(t, err)
	single, theirs, done := b.accept(message("bob@x.test")), b.accept(message("bob@y.test")), b.accept(message("bob@x.test"))
	b.attempt(done.ID, 1, delivered)
	batch, items := b.acceptBatch(batchOf(300, nil))
	owner, opened, _ := b.openBatch(batch.ID, 2)
	_, err = b.RecordBatch(b.ctx, endingsOf(owner, opened, deferred))
	require.NoError(t, err)
	require.NoError(t, b.as(theirs.ID, email.ActionHold))

	mine := delivery.Reach{CustomerID: b.customer}
	require.Equal(t, delivery.Reached{Changed: 302}, b.all(mine, email.ActionHold))
	require.Equal(t, delivery.Reached{}, b.all(mine, email.ActionHold), "in force already")
	require.Empty(t, b.get(single.ID).NextAttemptAt)
	_, none, _ := b.openBatch(batch.ID, 10)
	require.Empty(t, none, "the batch's run takes none of them")
	require.Equal(t, map[email.Detail]int{email.DetailHeld: 300}, b.progress(batch.ID).Details)
	require.Equal(t, 303, b.count("SELECT count(*) FROM audit WHERE action = 'email.hold' AND actor = 'system'")) // and the customer's own

	require.Equal(t, delivery.Reached{Changed: 302}, b.all(mine, email.ActionResume))
	require.Equal(t, []email.Holder{email.HolderCustomer}, b.get(theirs.ID).HeldBy, "the customer's own hold stays")
	require.Equal(t, email.DetailDeferred, b.get(opened[0].EmailID).Detail)
	require.Equal(t, email.StatusQueued, b.get(items[299].EmailID).Status)

	require.Equal(t, delivery.Reached{Changed: 302}, b.all(mine, email.ActionCancel))
	require.Zero(t, b.count("SELECT count(*) FROM emails WHERE customer_id = ? AND status IN ('queued', 'sending')", b.customer))
	require.Equal(t, email.StatusDelivered, b.get(done.ID).Status)
	require.Equal(t, 1, b.count("SELECT count(*) FROM emails WHERE id = ? AND status = 'queued' AND NOT held", foreign.ID))
}

func TestAnOperatorReachesAllMailToADomain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	two, elsewhere := b.accept(message("a@x.test", "b@Y.test")), b.accept(message("c@z.test"))
	at := delivery.Reach{RecipientDomain: "y.test"}
	require.Equal(t, delivery.Reached{Changed: 1}, b.all(at, email.ActionHold))
	require.Equal(t, []email.Holder{email.HolderOperator}, b.get(two.ID).HeldBy)
	require.Empty(t, b.get(elsewhere.ID).HeldBy)
	require.Equal(t, delivery.Reached{}, b.all(delivery.Reach{RecipientDomain: "y.test", CustomerID: uuid.NewString()}, email.ActionResume), "both have to be true")
	b.exec("UPDATE recipients SET status = 'bounced', next_attempt_at = NULL WHERE email_id = ? AND address = 'b@Y.test'", two.ID)
	require.Equal(t, delivery.Reached{Changed: 1}, b.all(at, email.ActionResume), "one who has ended meanwhile keeps nothing held")
	require.Equal(t, delivery.Reached{}, b.all(at, email.ActionCancel))
	require.Equal(t, delivery.Reached{Changed: 1}, b.all(delivery.Reach{EmailID: elsewhere.ID}, email.ActionCancel))
	_, err := b.ControlAll(b.ctx, delivery.Reach{}, email.ActionCancel, nil)
	require.Equal(t, email.CodeInvalidRequest, email.FailureCode(err), "nothing named is not everything")
}

// A batch that an operator holds as a whole is resumed with its customer's mail, and not
// by halves with that to a domain.
func TestAnOperatorsHoldOfAWholeBatchIsReached(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, _ := b.acceptBatch(batchOf(3, nil))
	_, err := b.ControlBatch(b.ctx, batch.ID, email.ActionHold)
	require.NoError(t, err)
	require.Equal(t, delivery.Reached{Kept: 3}, b.all(delivery.Reach{RecipientDomain: "x.test"}, email.ActionResume))
	require.Equal(t, delivery.Reached{Changed: 3}, b.all(delivery.Reach{CustomerID: b.customer}, email.ActionResume))
	require.False(t, b.progress(batch.ID).Held)
	_, opened, _ := b.openBatch(batch.ID, 10)
	require.Len(t, opened, 3)
}

// One batch is reached by name: what has a run of its own, what its run has not attempted
// yet, and a hold of the whole.
func TestAnOperatorReachesOneBatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, items := b.acceptBatch(batchOf(3, nil))
	other, _ := b.acceptBatch(batchOf(2, nil))
	single := b.accept(message("bob@x.test"))
	owner, opened, _ := b.openBatch(batch.ID, 1)
	_, err := b.RecordBatch(b.ctx, endingsOf(owner, opened, deferred))
	require.NoError(t, err)
	require.NoError(t, b.as(items[2].EmailID, email.ActionHold))

	one := delivery.Reach{BatchID: batch.ID}
	require.Equal(t, delivery.Reached{Changed: 3}, b.all(one, email.ActionHold))
	require.Equal(t, []email.Holder{email.HolderOperator}, b.get(opened[0].EmailID).HeldBy)
	require.Equal(t, 3, b.count("SELECT count(*) FROM emails WHERE held_by_operator"))
	require.Equal(t, delivery.Reached{Changed: 3}, b.all(one, email.ActionResume))
	require.Equal(t, []email.Holder{email.HolderCustomer}, b.get(items[2].EmailID).HeldBy, "the customer's own hold stays")

	for _, id := range []string{batch.ID, other.ID} {
		_, err = b.ControlBatch(b.ctx, id, email.ActionHold)
		require.NoError(t, err)
	}
	require.Equal(t, delivery.Reached{Changed: 3}, b.all(one, email.ActionResume), "a hold of the whole too")
	require.False(t, b.progress(batch.ID).Held)
	require.True(t, b.progress(other.ID).Held, "and of no other")

	require.Equal(t, delivery.Reached{Changed: 3}, b.all(one, email.ActionCancel))
	require.Equal(t, 3, b.count("SELECT count(*) FROM emails WHERE status = 'canceled'"))
	require.Equal(t, email.StatusQueued, b.get(single.ID).Status)
}

// A mistaken id is no success.
func TestAnOperatorsMistakenIDIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, _ := b.acceptBatch(batchOf(1, nil))
	done, mine := b.accept(message("bob@x.test")), b.accept(message("bob@x.test"))
	b.attempt(done.ID, 1, delivered)
	for name, tt := range map[string]struct {
		reach delivery.Reach
		code  email.Code
	}{
		"no such e-mail":             {delivery.Reach{EmailID: uuid.NewString()}, email.CodeNotFound},
		"no such batch":              {delivery.Reach{BatchID: uuid.NewString()}, email.CodeNotFound},
		"another customer's e-mail":  {delivery.Reach{EmailID: mine.ID, CustomerID: uuid.NewString()}, email.CodeNotFound},
		"another customer's batch":   {delivery.Reach{BatchID: batch.ID, CustomerID: uuid.NewString()}, email.CodeNotFound},
		"an e-mail that is finished": {delivery.Reach{EmailID: done.ID}, email.CodeConflict},
	} {
		for _, action := range []email.Action{email.ActionHold, email.ActionResume, email.ActionCancel} {
			_, err := b.ControlAll(b.ctx, tt.reach, action, nil)
			require.Equal(t, tt.code, email.FailureCode(err), "%s: %s", action, name)
		}
	}
	require.Zero(t, b.count("SELECT count(*) FROM emails WHERE held OR status = 'canceled'"))
}

// A batch whose e-mails all wait for a hold of their own or for a pause is held: its run
// says so, and a query for held runs finds it.
func TestABatchOfHeldMailIsHeld(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, items := b.acceptBatch(batchOf(2, nil))
	held := func() bool {
		t.Helper()
		plan, err := b.PlanBatch(b.ctx, batch.ID)
		require.NoError(t, err)
		return plan.Held
	}
	require.False(t, held())
	require.NoError(t, b.control(items[0].EmailID, email.ActionHold))
	require.False(t, held(), "one of them goes on")
	b.pause(email.Pause{Scope: email.PauseInstallation})
	_, opened, _ := b.openBatch(batch.ID, 10)
	require.Empty(t, opened)
	require.True(t, held(), "one is held, the other is paused")
	require.False(t, b.progress(batch.ID).Held, "nobody holds the batch as a whole")
}

// Whoever is killed between two transactions runs it again.
func TestAnOperatorsActionGoesOnWhereItWasStopped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, items := b.acceptBatch(batchOf(600, nil))
	mine := delivery.Reach{CustomerID: b.customer}
	parts := 0
	release := b.locked(items[599].EmailID)
	done := make(chan error, 1)
	go func() {
		_, err := b.ControlAll(b.ctx, mine, email.ActionHold, func(delivery.Reached) { parts++ })
		done <- err
	}()
	require.Eventually(t, b.waits, 30*time.Second, 5*time.Millisecond)
	b.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
	require.Error(t, <-done)
	release()
	require.Equal(t, 2, parts, "a transaction takes 250 of them")
	require.Equal(t, 500, b.count("SELECT count(*) FROM emails WHERE held"))
	require.Equal(t, 500, b.count("SELECT count(*) FROM wakes"), "what was done has its wake-ups")
	require.Equal(t, delivery.Reached{Changed: 100}, b.all(mine, email.ActionHold))
	require.Equal(t, 600, b.count("SELECT count(*) FROM emails WHERE held_by_operator"))
}

func TestWakesAreLeasedUntilTheyAreCarriedOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	alone := b.accept(message("bob@x.test"))
	batch, items := b.acceptBatch(batchOf(3, nil))
	mine := delivery.Reach{CustomerID: b.customer}
	b.all(mine, email.ActionHold)
	b.all(delivery.Reach{EmailID: alone.ID}, email.ActionCancel)
	wakes, err := b.ClaimWakes(b.ctx, time.Hour, 10)
	require.NoError(t, err)
	require.Len(t, wakes, 2, "the batch's run comes once")
	of := map[string]delivery.Wake{}
	for _, w := range wakes {
		of[w.WorkflowID] = w
	}
	require.Equal(t, []any{2, true, alone.ID}, []any{len(of["email-"+alone.ID].IDs), of["email-"+alone.ID].Ended, of["email-"+alone.ID].EmailID})
	whole := of["batch-"+batch.ID]
	require.Equal(t, []any{3, false, batch.ID}, []any{len(whole.IDs), whole.Ended, whole.BatchID}, items)
	again, err := b.ClaimWakes(b.ctx, time.Hour, 10)
	require.NoError(t, err)
	require.Empty(t, again, "somebody is at it")
	b.all(mine, email.ActionResume)
	require.NoError(t, b.Woken(b.ctx, whole.IDs))
	again, err = b.ClaimWakes(b.ctx, time.Hour, 10)
	require.NoError(t, err)
	require.Len(t, again, 1, "what was changed while the signal was under way needs another")
	b.exec("UPDATE wakes SET lease_until = now()")
	again, err = b.ClaimWakes(b.ctx, time.Hour, 10)
	require.NoError(t, err)
	require.Len(t, again, 2, "a process that died leaves its orders to the next")
}
