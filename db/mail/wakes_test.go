package mail_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// sweptWakes are the orders that a sweep takes.
func (b *bench) sweptWakes() []delivery.Wake {
	b.T.Helper()
	wakes, err := b.Mail.ClaimWakes(b.Ctx, time.Hour, 100)
	require.NoError(b.T, err)
	return wakes
}

// died lets the leases of all orders run out, as if the processes that ordered them had died.
func (b *bench) died() { b.Exec("UPDATE wakes SET lease_until = now()") }

// A process may die between the commit of an action and the signal, or Temporal may not answer it.
func TestAnActionsWakeUpOutlivesItsProcess(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		before email.Action
		act    email.Control
		ended  bool
	}{
		"hold":                            {act: email.Control{Action: email.ActionHold}},
		"resume":                          {before: email.ActionHold, act: email.Control{Action: email.ActionResume}},
		"resume of mail that is not held": {act: email.Control{Action: email.ActionResume}},
		"retry now":                       {act: email.Control{Action: email.ActionRetryNow}},
		"reschedule":                      {act: email.Control{Action: email.ActionReschedule, SendAt: time.Now().Add(time.Hour)}},
		"cancel":                          {act: email.Control{Action: email.ActionCancel}, ended: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			e := b.Accept(dbsetup.Message("bob@x.test"))
			if tc.before != "" {
				require.NoError(t, b.as(e.ID, tc.before))
				b.Exec("DELETE FROM wakes")
			}
			_, orders, err := b.Mail.ControlFor(b.Ctx, b.Customer, e.ID, tc.act)
			require.NoError(t, err)
			require.Len(t, orders, 1)
			want := []delivery.Wake{{IDs: orders, Ended: tc.ended, Start: delivery.Start{EmailID: e.ID, WorkflowID: e.WorkflowID, CustomerID: b.Customer, Stream: e.Stream}}}
			own, err := b.Mail.Wakes(b.Ctx, orders)
			require.NoError(t, err)
			require.Equal(t, want, own)
			require.Empty(t, b.sweptWakes(), "the caller signals the run itself")
			b.died()
			require.Equal(t, want, b.sweptWakes())
			require.NoError(t, b.Mail.Woken(b.Ctx, orders))
			b.died()
			require.Empty(t, b.sweptWakes(), "it has its signal")
			own, err = b.Mail.Wakes(b.Ctx, orders)
			require.NoError(t, err)
			require.Empty(t, own)
		})
	}
}

func TestADeletionsWakeUpOutlivesItsProcess(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	_, orders, err := b.Mail.Delete(b.Ctx, b.Customer, e.ID)
	require.NoError(t, err)
	require.Empty(t, b.sweptWakes())
	b.died()
	swept := b.sweptWakes()
	require.Len(t, swept, 1)
	require.Equal(t, []any{orders, e.WorkflowID, true}, []any{swept[0].IDs, swept[0].WorkflowID, swept[0].Ended})
}

// An action that is refused changes nothing, and wakes no run.
func TestARefusedActionOrdersNoWakeUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(e.ID, 1, dbsetup.Delivered)
	require.Equal(t, email.CodeConflict, email.FailureCode(b.as(e.ID, email.ActionHold)))
	require.Zero(t, b.Count("SELECT count(*) FROM wakes"))
}

func TestABatchActionsWakeUpsOutliveTheirProcess(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, _ := b.acceptBatch(batchOf(300, nil))
	owner, opened, _ := b.openBatch(batch.ID, 1)
	_, err := b.Mail.RecordBatch(b.Ctx, endingsOf(owner, opened, dbsetup.Deferred))
	require.NoError(t, err)
	for _, tc := range []struct {
		action email.Action
		ended  bool
	}{{email.ActionHold, false}, {email.ActionResume, false}, {email.ActionCancel, true}} {
		_, orders, err := b.Mail.ControlBatchFor(b.Ctx, b.Customer, batch.ID, tc.action)
		require.NoError(t, err)
		require.Len(t, orders, 2, "the batch's run once, and that of the e-mail that was handed over")
		require.Empty(t, b.sweptWakes(), "the caller signals them itself")
		b.died()
		ended := map[string]bool{}
		for _, w := range b.sweptWakes() {
			ended[w.WorkflowID] = w.Ended
			require.NoError(t, b.Mail.Woken(b.Ctx, w.IDs))
		}
		require.Equal(t, map[string]bool{batch.WorkflowID: tc.ended, "email-" + opened[0].EmailID: tc.ended}, ended)
	}
	_, orders, err := b.Mail.ControlBatchFor(b.Ctx, b.Customer, batch.ID, email.ActionCancel)
	require.NoError(t, err)
	require.Empty(t, orders, "all of it is finished")
}

// A batch's run that is gone is started again for the one e-mail that is still open.
func TestABatchsWakeUpNamesAnOpenEmail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, _ := b.acceptBatch(batchOf(3, nil))
	_, opened, _ := b.openBatch(batch.ID, 1)
	_, orders, err := b.Mail.ControlBatchFor(b.Ctx, b.Customer, batch.ID, email.ActionCancel)
	require.NoError(t, err)
	wakes, err := b.Mail.Wakes(b.Ctx, orders)
	require.NoError(t, err)
	require.Equal(t, []delivery.Wake{{IDs: orders, Start: delivery.Start{EmailID: opened[0].EmailID, WorkflowID: batch.WorkflowID, CustomerID: b.Customer,
		Stream: email.StreamTransactional, BatchID: batch.ID}}}, wakes)
}

// The sweep that finds the mail of a pause may meet a Temporal that does not answer, or die.
func TestTheWakeUpsAfterAPauseOutliveTheSweep(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.pause(email.Pause{Scope: email.PauseInstallation})
	e := b.Accept(dbsetup.Message("bob@x.test"))
	b.Open(e.ID, 1)
	batch, _ := b.acceptBatch(batchOf(3, nil))
	b.openBatch(batch.ID, 10)
	require.NoError(t, b.Mail.Unpause(b.Ctx, email.Pause{Scope: email.PauseInstallation}))
	freed, err := b.Mail.ClaimUnpaused(b.Ctx, time.Hour, 10)
	require.NoError(t, err)
	require.Len(t, freed, 2, "the batch's run comes once")
	again, err := b.Mail.ClaimUnpaused(b.Ctx, time.Hour, 10)
	require.NoError(t, err)
	require.Empty(t, again)
	require.Empty(t, b.sweptWakes(), "the sweep signals them itself")
	b.died()
	require.ElementsMatch(t, freed, b.sweptWakes())
}
