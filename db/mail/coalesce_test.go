package mail_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/delivery"
)

// held keeps an e-mail's row locked until the returned function ends its transaction.
func (b *bench) locked(id string) (release func()) {
	b.T.Helper()
	tx, err := b.Raw.BeginTx(b.Ctx, nil)
	require.NoError(b.T, err)
	_, err = tx.ExecContext(b.Ctx, "SELECT 1 FROM emails WHERE id = ? FOR UPDATE", id)
	require.NoError(b.T, err)
	return func() { require.NoError(b.T, tx.Commit()) }
}

// waits reports that a session waits for a lock in this database.
func (b *bench) waits() bool {
	return b.Count("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0
}

// A change reads nothing that is older than its lock: a pause counts that was set while the change
// waited for the lock.
func TestTheLockComesBeforeTheLook(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	release := b.locked(e.ID)
	got := make(chan delivery.Opening)
	go func() {
		_, o := b.Open(e.ID, 1)
		got <- o
	}()
	require.Eventually(t, b.waits, 10*time.Second, 5*time.Millisecond, "the gate waits for the row")
	_, err := b.Mail.Pause(b.Ctx, email.Pause{Scope: email.PauseInstallation})
	require.NoError(t, err)
	b.Exec("UPDATE recipients SET name = 'Renamed' WHERE email_id = ?", e.ID)
	release()
	o := <-got
	require.Equal(t, delivery.VerdictClosed, o.Verdict)
	require.Equal(t, email.WaitingPaused, o.State.Waiting)
}

// Many at once never wait for one that is locked, which is left to be asked for alone.
func TestManyPassOverWhatIsLocked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	busy, free := b.Accept(dbsetup.Message("bob@x.test")), b.Accept(dbsetup.Message("ann@x.test"))
	release := b.locked(busy.ID)
	reqs := []delivery.OpenRequest{
		{EmailID: busy.ID, Attempt: 1, Owner: uuid.NewString(), Relay: dbsetup.Relay},
		{EmailID: free.ID, Attempt: 1, Owner: uuid.NewString(), Relay: dbsetup.Relay},
		{EmailID: uuid.NewString(), Attempt: 1, Owner: uuid.NewString(), Relay: dbsetup.Relay},
	}
	os, err := b.Mail.OpenMany(b.Ctx, reqs)
	require.NoError(t, err)
	require.Empty(t, os[0].Verdict)
	require.Equal(t, delivery.VerdictOpened, os[1].Verdict)
	require.Empty(t, os[2].Verdict, "there is no such e-mail")
	require.Equal(t, email.StatusSending, b.Get(free.ID).Status)

	outcome := dbsetup.Delivered(os[1].Recipients[0])
	outcome.RecipientID = os[1].Recipients[0].ID
	require.NoError(t, b.Mark(free.ID, 1, reqs[1].Owner, dbsetup.Ambiguous(os[1])...))
	require.NoError(t, b.Finish(free.ID, 1, reqs[1].Owner, outcome))
	recs, err := b.Mail.RecordMany(b.Ctx, []delivery.RecordStatusInput{{EmailID: busy.ID, Attempt: 1}, {EmailID: free.ID, Attempt: 1}})
	require.NoError(t, err)
	require.Nil(t, recs[0])
	require.Equal(t, email.StatusDelivered, recs[1].State.Status)
	require.Equal(t, email.StatusDelivered, b.Get(free.ID).Status)
	release()
	_, o := b.Open(busy.ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict)
}

// A connection that knows the statements goes on through a migration that adds columns.
func TestPreparedStatementsOutliveAMigration(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(first.ID, 1, dbsetup.Delivered)
	batch, _ := b.acceptBatch(batchOf(2, nil))
	for _, table := range []string{"emails", "recipients", "delivery_attempts", "email_events", "contents", "outbox", "batches", "pauses", "customers", "access_keys", "domains"} {
		b.Exec("ALTER TABLE " + table + " ADD COLUMN added text NOT NULL DEFAULT 'x'")
	}
	second := b.acceptFor(dbsetup.Message("bob@x.test"), delivery.NoOwner)
	_, err := b.Mail.Plan(b.Ctx, second.ID)
	require.NoError(t, err)
	_, err = b.Mail.Message(b.Ctx, second.ID)
	require.NoError(t, err)
	require.Equal(t, email.StatusDelivered, b.Attempt(second.ID, 1, dbsetup.Delivered).State.Status)
	_, err = b.Mail.PlanBatch(b.Ctx, batch.ID)
	require.NoError(t, err)
	owner, opened, _ := b.openBatch(batch.ID, 10)
	_, err = b.Mail.RecordBatch(b.Ctx, endingsOf(owner, opened, dbsetup.Delivered))
	require.NoError(t, err)
	_, err = b.Mail.Pause(b.Ctx, email.Pause{Scope: email.PauseInstallation})
	require.NoError(t, err)
	b.Accept(dbsetup.Message("bob@x.test"))
	b.Exec("UPDATE emails SET next_action_at = now() - interval '1 hour' WHERE next_action_at IS NOT NULL")
	_, err = b.Mail.ClaimOverdue(b.Ctx, 10)
	require.NoError(t, err)
	b.Exec("UPDATE batches SET lease_until = now() - interval '1 second'")
	_, err = b.Mail.ClaimBatches(b.Ctx, delivery.Claim{Stream: email.StreamTransactional, Owner: owner, Lease: time.Minute, Limit: 10})
	require.NoError(t, err)
}

// Messages that are accepted together are each an e-mail like any other; what would be
// refused, or has to be paid for, is left to be asked for alone.
func TestManyAreAcceptedTogether(t *testing.T) {
	t.Parallel()
	b := setupWith(t, dbtest.URL(t), func(o *db.Options) { o.RequireVerifiedDomains = true })
	_, err := b.Accounts.AddDomain(b.Ctx, b.Customer, "acme.test", true)
	require.NoError(t, err)
	paying, _, err := b.Accounts.CreateCustomer(b.Ctx, "Paying", "", "")
	require.NoError(t, err)
	credits := int64(5)
	_, err = b.Accounts.UpdateCustomerAsOperator(b.Ctx, paying.ID, "active", &credits)
	require.NoError(t, err)
	foreign := dbsetup.Message("bob@x.test")
	foreign.From.Email = "shop@elsewhere.test"
	later := dbsetup.Message("bob@x.test", "ann@x.test")
	later.SendAt = time.Now().Add(time.Hour).Truncate(time.Microsecond)
	owner := uuid.NewString()
	es, err := b.Mail.AcceptMany(b.Ctx, owner, []string{b.Customer, b.Customer, paying.ID, b.Customer}, []email.Message{dbsetup.Message("bob@x.test"), foreign, dbsetup.Message("bob@x.test"), later})
	require.NoError(t, err)
	require.Nil(t, es[1])
	require.Nil(t, es[2])
	for _, i := range []int{0, 3} {
		got := b.Get(es[i].ID)
		require.Equal(t, dbsetup.Untimed(*es[i]), dbsetup.Untimed(got))
		require.Equal(t, email.WorkflowIDPrefix+got.ID, got.WorkflowID)
		require.Equal(t, 1, b.Count("SELECT count(*) FROM outbox WHERE email_id = ? AND lease_owner = ?", got.ID, owner))
	}
	require.Equal(t, []string{"email.queued"}, b.Events(es[0].ID))
	require.Equal(t, []string{"email.scheduled"}, b.Events(es[3].ID))
	require.Len(t, b.Get(es[3].ID).Recipients, 2)
	months, err := b.Accounts.Usage(b.Ctx, b.Customer, 1)
	require.NoError(t, err)
	require.EqualValues(t, 2, months[0].Emails)
	require.EqualValues(t, 3, months[0].Recipients)
	_, _, err = b.Mail.Accept(b.Ctx, b.Customer, foreign, owner, email.Idempotency{})
	require.Equal(t, email.CodeDomainUnverified, email.FailureCode(err))
}

// Every e-mail has a whole life, however many live at the same time.
func TestManyLivesAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const lives = 40
	ids := make(chan string, lives)
	for range lives {
		go func() {
			e, _, err := b.Mail.Accept(b.Ctx, b.Customer, dbsetup.Message("bob@x.test"), uuid.NewString(), email.Idempotency{})
			if err != nil {
				ids <- err.Error()
				return
			}
			owner := uuid.NewString()
			o, err := b.Mail.Open(b.Ctx, delivery.OpenRequest{EmailID: e.ID, Attempt: 1, Owner: owner, Relay: dbsetup.Relay})
			if err == nil {
				out := dbsetup.Delivered(o.Recipients[0])
				out.RecipientID = o.Recipients[0].ID
				if err = b.Mark(e.ID, 1, owner, dbsetup.Ambiguous(o)...); err == nil {
					err = b.Finish(e.ID, 1, owner, out)
				}
			}
			if err == nil {
				_, err = b.Mail.Record(b.Ctx, delivery.RecordStatusInput{EmailID: e.ID, Attempt: 1})
			}
			if err != nil {
				ids <- err.Error()
				return
			}
			ids <- e.ID
		}()
	}
	for range lives {
		id := <-ids
		require.Equal(t, email.StatusDelivered, b.Get(id).Status)
		require.Equal(t, []string{"email.queued", "email.sending", "email.delivered", "email.completed"}, b.Events(id))
	}
}

// lateContext is a context that ends while a statement is being written. That happens in a process
// that was stopped for longer than its deadline. The driver reads the deadline when it writes, and
// finds it passed.
type lateContext struct {
	context.Context
	once sync.Once
	done chan struct{}
}

func (c *lateContext) Deadline() (time.Time, bool) {
	c.once.Do(func() { close(c.done) })
	return time.Now().Add(-time.Second), true
}

func (c *lateContext) Done() <-chan struct{} { return c.done }

func (c *lateContext) Err() error {
	select {
	case <-c.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// TestADeadlineThatPassesWhileAStatementIsWrittenIsAnError: the transaction's connection is
// gone, and no other can be had. The process goes on.
func TestADeadlineThatPassesWhileAStatementIsWrittenIsAnError(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	obstacle := delivery.Obstacle{RelayDown: true, Relay: "primary"}
	ctx := &lateContext{Context: t.Context(), done: make(chan struct{})}
	_, err := b.Mail.Check(ctx, e.ID, obstacle)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Empty(t, b.Get(e.ID).Detail, "nothing was written")
	_, err = b.Mail.Check(b.Ctx, e.ID, obstacle)
	require.NoError(t, err)
	require.Equal(t, email.DetailRelayDown, b.Get(e.ID).Detail)
}
