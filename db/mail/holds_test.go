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

// as acts for the customer.
func (b *bench) as(id string, action email.Action) error {
	_, _, err := b.Mail.ControlFor(b.Ctx, b.Customer, id, email.Control{Action: action})
	return err
}

// holders are whose holds the events tell of, in order.
func (b *bench) holders(id string) (out []string) {
	b.T.Helper()
	es, _, err := b.Mail.EmailEvents(b.Ctx, b.Customer, id, 0)
	require.NoError(b.T, err)
	for _, e := range es {
		if e.Type == email.EventHeld || e.Type == email.EventResumed {
			out = append(out, string(e.Type)+" "+string(e.Holder))
		}
	}
	return out
}

func (b *bench) all(reach delivery.Reach, action email.Action) delivery.Reached {
	b.T.Helper()
	n, err := b.Mail.ControlAll(b.Ctx, reach, action, nil)
	require.NoError(b.T, err)
	return n
}

func TestEachLiftsItsOwnHold(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	require.NoError(t, b.as(e.ID, email.ActionHold))
	require.Equal(t, []email.Holder{email.HolderCustomer}, b.Get(e.ID).HeldBy)
	for _, action := range []email.Action{email.ActionResume, email.ActionRetryNow} {
		err := b.Control(e.ID, action)
		require.Equal(t, email.CodeConflict, email.FailureCode(err))
		require.ErrorContains(t, err, "its customer holds the e-mail")
	}
	require.NoError(t, b.Control(e.ID, email.ActionHold))
	require.NoError(t, b.as(e.ID, email.ActionHold), "in force already")
	b.pause(email.Pause{Scope: email.PauseInstallation})
	require.NoError(t, b.as(e.ID, email.ActionResume))
	require.Equal(t, email.DetailHeld, b.Get(e.ID).Detail)
	require.Equal(t, []email.Holder{email.HolderOperator}, b.Get(e.ID).HeldBy)
	_, o := b.Open(e.ID, 1)
	require.Equal(t, []any{email.WaitingHeld, []email.Holder{email.HolderOperator}}, []any{o.State.Waiting, o.State.HeldBy})
	for _, action := range []email.Action{email.ActionResume, email.ActionRetryNow} {
		err := b.as(e.ID, action)
		require.Equal(t, email.CodeConflict, email.FailureCode(err))
		require.ErrorContains(t, err, "an operator holds the e-mail")
	}
	require.NoError(t, b.Control(e.ID, email.ActionResume))
	require.Equal(t, []email.Holder{email.HolderPause}, b.Get(e.ID).HeldBy)
	require.NoError(t, b.Mail.Unpause(b.Ctx, email.Pause{Scope: email.PauseInstallation}))
	_, err := b.Mail.ClaimUnpaused(b.Ctx, time.Minute, 10)
	require.NoError(t, err)
	require.Empty(t, b.Get(e.ID).HeldBy)
	_, o = b.Open(e.ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict)
	require.Equal(t, []string{"email.held customer", "email.held operator", "email.resumed customer", "email.resumed operator"}, b.holders(e.ID), "the second hold has an event of its own")
}

func TestEachLiftsItsOwnHoldOfABatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, items := b.acceptBatch(batchOf(3, nil))
	own := func(action email.Action) error {
		_, _, err := b.Mail.ControlBatchFor(b.Ctx, b.Customer, batch.ID, action)
		return err
	}
	operator := func(action email.Action) error {
		_, err := b.Mail.ControlBatch(b.Ctx, batch.ID, action)
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

// A hold of an earlier version belongs to the holder in the audit log. Without one there, customer
// and operator may both lift it, as before.
func TestAHoldWithoutAHolderIsLiftedByEither(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, lift := range []func(string, email.Action) error{b.as, b.Control} {
		e := b.Accept(dbsetup.Message("bob@x.test"))
		b.Exec("UPDATE emails SET held = true WHERE id = ?", e.ID) // as an older version does
		require.NoError(t, lift(e.ID, email.ActionResume))
		require.Empty(t, b.Get(e.ID).Detail)
	}
	e := b.Accept(dbsetup.Message("bob@x.test"))
	require.NoError(t, b.Control(e.ID, email.ActionHold))
	b.Exec("UPDATE emails SET held = false WHERE id = ?", e.ID) // an older version has resumed it
	require.NoError(t, b.as(e.ID, email.ActionHold))
	require.NoError(t, b.as(e.ID, email.ActionResume))
	require.Empty(t, b.Get(e.ID).HeldBy)
}

// An operator's action reaches mail without runs and items of batches, attempted or not, and no
// other customer's mail.
func TestAnOperatorReachesAllMailOfACustomer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other, _, err := b.Accounts.CreateCustomer(b.Ctx, "Other", "", "")
	require.NoError(t, err)
	foreign, _, err := b.Mail.Accept(b.Ctx, other.ID, dbsetup.Message("bob@x.test"), uuid.NewString(), email.Idempotency{})
	require.NoError(t, err)
	single, theirs, done := b.Accept(dbsetup.Message("bob@x.test")), b.Accept(dbsetup.Message("bob@y.test")), b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(done.ID, 1, dbsetup.Delivered)
	batch, items := b.acceptBatch(batchOf(300, nil))
	owner, opened, _ := b.openBatch(batch.ID, 2)
	_, err = b.Mail.RecordBatch(b.Ctx, endingsOf(owner, opened, dbsetup.Deferred))
	require.NoError(t, err)
	require.NoError(t, b.as(theirs.ID, email.ActionHold))

	mine := delivery.Reach{CustomerID: b.Customer}
	require.Equal(t, delivery.Reached{Changed: 302}, b.all(mine, email.ActionHold))
	require.Equal(t, delivery.Reached{}, b.all(mine, email.ActionHold), "in force already")
	require.Empty(t, b.Get(single.ID).NextAttemptAt)
	_, none, _ := b.openBatch(batch.ID, 10)
	require.Empty(t, none, "the batch's run takes none of them")
	require.Equal(t, map[email.Detail]int{email.DetailHeld: 300}, b.progress(batch.ID).Details)
	require.Equal(t, 303, b.Count("SELECT count(*) FROM audit WHERE action = 'email.hold' AND actor = 'system'")) // and the customer's own

	require.Equal(t, delivery.Reached{Changed: 302}, b.all(mine, email.ActionResume))
	require.Equal(t, []email.Holder{email.HolderCustomer}, b.Get(theirs.ID).HeldBy, "the customer's own hold stays")
	require.Equal(t, email.DetailDeferred, b.Get(opened[0].EmailID).Detail)
	require.Equal(t, email.StatusQueued, b.Get(items[299].EmailID).Status)

	require.Equal(t, delivery.Reached{Changed: 302}, b.all(mine, email.ActionCancel))
	require.Zero(t, b.Count("SELECT count(*) FROM emails WHERE customer_id = ? AND status IN ('queued', 'sending')", b.Customer))
	require.Equal(t, email.StatusDelivered, b.Get(done.ID).Status)
	require.Equal(t, 1, b.Count("SELECT count(*) FROM emails WHERE id = ? AND status = 'queued' AND NOT held", foreign.ID))
}

func TestAnOperatorReachesAllMailToADomain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	two, elsewhere := b.Accept(dbsetup.Message("a@x.test", "b@Y.test")), b.Accept(dbsetup.Message("c@z.test"))
	at := delivery.Reach{RecipientDomain: "y.test"}
	require.Equal(t, delivery.Reached{Changed: 1}, b.all(at, email.ActionHold))
	require.Equal(t, []email.Holder{email.HolderOperator}, b.Get(two.ID).HeldBy)
	require.Empty(t, b.Get(elsewhere.ID).HeldBy)
	require.Equal(t, delivery.Reached{}, b.all(delivery.Reach{RecipientDomain: "y.test", CustomerID: uuid.NewString()}, email.ActionResume), "both have to be true")
	b.Exec("UPDATE recipients SET status = 'bounced', next_attempt_at = NULL WHERE email_id = ? AND address = 'b@Y.test'", two.ID)
	require.Equal(t, delivery.Reached{Changed: 1}, b.all(at, email.ActionResume), "one who has ended meanwhile keeps nothing held")
	require.Equal(t, delivery.Reached{}, b.all(at, email.ActionCancel))
	require.Equal(t, delivery.Reached{Changed: 1}, b.all(delivery.Reach{EmailID: elsewhere.ID}, email.ActionCancel))
	_, err := b.Mail.ControlAll(b.Ctx, delivery.Reach{}, email.ActionCancel, nil)
	require.Equal(t, email.CodeInvalidRequest, email.FailureCode(err), "nothing named is not everything")
}

// A batch that an operator holds as a whole is resumed with its customer's mail, and not
// by halves with that to a domain.
func TestAnOperatorsHoldOfAWholeBatchIsReached(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, _ := b.acceptBatch(batchOf(3, nil))
	_, err := b.Mail.ControlBatch(b.Ctx, batch.ID, email.ActionHold)
	require.NoError(t, err)
	require.Equal(t, delivery.Reached{Kept: 3}, b.all(delivery.Reach{RecipientDomain: "x.test"}, email.ActionResume))
	require.Equal(t, delivery.Reached{Changed: 3}, b.all(delivery.Reach{CustomerID: b.Customer}, email.ActionResume))
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
	single := b.Accept(dbsetup.Message("bob@x.test"))
	owner, opened, _ := b.openBatch(batch.ID, 1)
	_, err := b.Mail.RecordBatch(b.Ctx, endingsOf(owner, opened, dbsetup.Deferred))
	require.NoError(t, err)
	require.NoError(t, b.as(items[2].EmailID, email.ActionHold))

	one := delivery.Reach{BatchID: batch.ID}
	require.Equal(t, delivery.Reached{Changed: 3}, b.all(one, email.ActionHold))
	require.Equal(t, []email.Holder{email.HolderOperator}, b.Get(opened[0].EmailID).HeldBy)
	require.Equal(t, 3, b.Count("SELECT count(*) FROM emails WHERE held_by_operator"))
	require.Equal(t, delivery.Reached{Changed: 3}, b.all(one, email.ActionResume))
	require.Equal(t, []email.Holder{email.HolderCustomer}, b.Get(items[2].EmailID).HeldBy, "the customer's own hold stays")

	for _, id := range []string{batch.ID, other.ID} {
		_, err = b.Mail.ControlBatch(b.Ctx, id, email.ActionHold)
		require.NoError(t, err)
	}
	require.Equal(t, delivery.Reached{Changed: 3}, b.all(one, email.ActionResume), "a hold of the whole too")
	require.False(t, b.progress(batch.ID).Held)
	require.True(t, b.progress(other.ID).Held, "and of no other")

	require.Equal(t, delivery.Reached{Changed: 3}, b.all(one, email.ActionCancel))
	require.Equal(t, 3, b.Count("SELECT count(*) FROM emails WHERE status = 'canceled'"))
	require.Equal(t, email.StatusQueued, b.Get(single.ID).Status)
}

// A mistaken id is no success.
func TestAnOperatorsMistakenIDIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, _ := b.acceptBatch(batchOf(1, nil))
	done, mine := b.Accept(dbsetup.Message("bob@x.test")), b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(done.ID, 1, dbsetup.Delivered)
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
			_, err := b.Mail.ControlAll(b.Ctx, tt.reach, action, nil)
			require.Equal(t, tt.code, email.FailureCode(err), "%s: %s", action, name)
		}
	}
	require.Zero(t, b.Count("SELECT count(*) FROM emails WHERE held OR status = 'canceled'"))
}

// A batch whose e-mails all wait for a hold of their own or for a pause is held: its run
// says so, and a query for held runs finds it.
func TestABatchOfHeldMailIsHeld(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, items := b.acceptBatch(batchOf(2, nil))
	held := func() bool {
		t.Helper()
		plan, err := b.Mail.PlanBatch(b.Ctx, batch.ID)
		require.NoError(t, err)
		return plan.Held
	}
	require.False(t, held())
	require.NoError(t, b.Control(items[0].EmailID, email.ActionHold))
	require.False(t, held(), "one of them goes on")
	b.pause(email.Pause{Scope: email.PauseInstallation})
	_, opened, _ := b.openBatch(batch.ID, 10)
	require.Empty(t, opened)
	require.True(t, held(), "one is held, the other is paused")
	require.False(t, b.progress(batch.ID).Held, "nobody holds the batch as a whole")
}

// After a kill between two transactions the operator runs it again.
func TestAnOperatorsActionGoesOnWhereItWasStopped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, items := b.acceptBatch(batchOf(600, nil))
	mine := delivery.Reach{CustomerID: b.Customer}
	parts := 0
	release := b.locked(items[599].EmailID)
	done := make(chan error, 1)
	go func() {
		_, err := b.Mail.ControlAll(b.Ctx, mine, email.ActionHold, func(delivery.Reached) { parts++ })
		done <- err
	}()
	require.Eventually(t, b.waits, 30*time.Second, 5*time.Millisecond)
	b.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
	require.Error(t, <-done)
	release()
	require.Equal(t, 2, parts, "a transaction takes 250 of them")
	require.Equal(t, 500, b.Count("SELECT count(*) FROM emails WHERE held"))
	require.Equal(t, 500, b.Count("SELECT count(*) FROM wakes"), "what was done has its wake-ups")
	require.Equal(t, delivery.Reached{Changed: 100}, b.all(mine, email.ActionHold))
	require.Equal(t, 600, b.Count("SELECT count(*) FROM emails WHERE held_by_operator"))
}

func TestWakesAreLeasedUntilTheyAreCarriedOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	alone := b.Accept(dbsetup.Message("bob@x.test"))
	batch, items := b.acceptBatch(batchOf(3, nil))
	mine := delivery.Reach{CustomerID: b.Customer}
	b.all(mine, email.ActionHold)
	b.all(delivery.Reach{EmailID: alone.ID}, email.ActionCancel)
	wakes, err := b.Mail.ClaimWakes(b.Ctx, time.Hour, 10)
	require.NoError(t, err)
	require.Len(t, wakes, 2, "the batch's run comes once")
	of := map[string]delivery.Wake{}
	for _, w := range wakes {
		of[w.WorkflowID] = w
	}
	require.Equal(t, []any{2, true, alone.ID}, []any{len(of["email-"+alone.ID].IDs), of["email-"+alone.ID].Ended, of["email-"+alone.ID].EmailID})
	whole := of["batch-"+batch.ID]
	require.Equal(t, []any{3, false, batch.ID}, []any{len(whole.IDs), whole.Ended, whole.BatchID}, items)
	again, err := b.Mail.ClaimWakes(b.Ctx, time.Hour, 10)
	require.NoError(t, err)
	require.Empty(t, again, "somebody is at it")
	b.all(mine, email.ActionResume)
	require.NoError(t, b.Mail.Woken(b.Ctx, whole.IDs))
	again, err = b.Mail.ClaimWakes(b.Ctx, time.Hour, 10)
	require.NoError(t, err)
	require.Len(t, again, 1, "what was changed while the signal was under way needs another")
	b.Exec("UPDATE wakes SET lease_until = now()")
	again, err = b.Mail.ClaimWakes(b.Ctx, time.Hour, 10)
	require.NoError(t, err)
	require.Len(t, again, 2, "a process that died leaves its orders to the next")
}
