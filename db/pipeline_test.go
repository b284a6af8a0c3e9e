package db_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/delivery"
)

// held keeps an e-mail's row locked until the returned function ends its transaction.
func (b *bench) locked(id string) (release func()) {
	b.t.Helper()
	tx, err := b.raw.BeginTx(b.ctx, nil)
	require.NoError(b.t, err)
	_, err = tx.ExecContext(b.ctx, "SELECT 1 FROM emails WHERE id = ? FOR UPDATE", id)
	require.NoError(b.t, err)
	return func() { require.NoError(b.t, tx.Commit()) }
}

// waits reports that somebody waits for a lock in this database.
func (b *bench) waits() bool {
	return b.count("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0
}

// What a change reads is not older than its lock: a pause that is there when the lock
// is had counts, though it was not when the lock was asked for.
func TestTheLockComesBeforeTheLook(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.accept(message("bob@x.test"))
	release := b.locked(e.ID)
	got := make(chan delivery.Opening)
	go func() {
		_, o := b.open(e.ID, 1)
		got <- o
	}()
	require.Eventually(t, b.waits, 10*time.Second, 5*time.Millisecond, "the gate waits for the row")
	_, err := b.Pause(b.ctx, email.Pause{Scope: email.PauseInstallation})
	require.NoError(t, err)
	b.exec("UPDATE recipients SET name = 'Renamed' WHERE email_id = ?", e.ID)
	release()
	o := <-got
	require.Equal(t, delivery.VerdictClosed, o.Verdict)
	require.Equal(t, email.WaitingPaused, o.State.Waiting)
}

// Many at once never wait for one that is locked, which is left to be asked for alone.
func TestManyPassOverWhatIsLocked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	busy, free := b.accept(message("bob@x.test")), b.accept(message("ann@x.test"))
	release := b.locked(busy.ID)
	reqs := []delivery.OpenRequest{
		{EmailID: busy.ID, Attempt: 1, Owner: uuid.NewString(), Relay: testRelay},
		{EmailID: free.ID, Attempt: 1, Owner: uuid.NewString(), Relay: testRelay},
		{EmailID: uuid.NewString(), Attempt: 1, Owner: uuid.NewString(), Relay: testRelay},
	}
	os, err := b.OpenMany(b.ctx, reqs)
	require.NoError(t, err)
	require.Empty(t, os[0].Verdict)
	require.Equal(t, delivery.VerdictOpened, os[1].Verdict)
	require.Empty(t, os[2].Verdict, "there is no such e-mail")
	require.Equal(t, email.StatusSending, b.get(free.ID).Status)

	outcome := delivered(os[1].Recipients[0])
	outcome.RecipientID = os[1].Recipients[0].ID
	require.NoError(t, b.mark(free.ID, 1, reqs[1].Owner, ambiguous(os[1])...))
	require.NoError(t, b.finish(free.ID, 1, reqs[1].Owner, outcome))
	recs, err := b.RecordMany(b.ctx, []delivery.RecordStatusInput{{EmailID: busy.ID, Attempt: 1}, {EmailID: free.ID, Attempt: 1}})
	require.NoError(t, err)
	require.Nil(t, recs[0])
	require.Equal(t, email.StatusDelivered, recs[1].State.Status)
	require.Equal(t, email.StatusDelivered, b.get(free.ID).Status)
	release()
	_, o := b.open(busy.ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict)
}

// A connection that knows the statements goes on through a migration that adds columns.
func TestPreparedStatementsOutliveAMigration(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.accept(message("bob@x.test"))
	b.attempt(first.ID, 1, delivered)
	batch, _ := b.acceptBatch(batchOf(2, nil))
	for _, table := range []string{"emails", "recipients", "delivery_attempts", "email_events", "contents", "outbox", "batches", "pauses", "customers", "access_keys", "domains"} {
		b.exec("ALTER TABLE " + table + " ADD COLUMN added text NOT NULL DEFAULT 'x'")
	}
	second := b.accept(message("bob@x.test"))
	_, err := b.Plan(b.ctx, second.ID)
	require.NoError(t, err)
	_, err = b.Message(b.ctx, second.ID)
	require.NoError(t, err)
	require.Equal(t, email.StatusDelivered, b.attempt(second.ID, 1, delivered).State.Status)
	_, err = b.PlanBatch(b.ctx, batch.ID)
	require.NoError(t, err)
	owner, opened, _ := b.openBatch(batch.ID, 10)
	_, err = b.RecordBatch(b.ctx, endingsOf(owner, opened, delivered))
	require.NoError(t, err)
	_, err = b.Pause(b.ctx, email.Pause{Scope: email.PauseInstallation})
	require.NoError(t, err)
	b.accept(message("bob@x.test"))
	b.exec("UPDATE emails SET next_action_at = now() - interval '1 hour' WHERE next_action_at IS NOT NULL")
	_, err = b.ClaimOverdue(b.ctx, 10)
	require.NoError(t, err)
	b.exec("UPDATE batches SET lease_until = now() - interval '1 second'")
	_, err = b.ClaimBatches(b.ctx, owner, time.Minute, 10)
	require.NoError(t, err)
}

// Messages that are accepted together are each an e-mail like any other; what would be
// refused, or has to be paid for, is left to be asked for alone.
func TestManyAreAcceptedTogether(t *testing.T) {
	t.Parallel()
	b := setupWith(t, dbtest.URL(t), func(o *db.Options) { o.RequireVerifiedDomains = true })
	_, err := b.AddDomain(b.ctx, b.customer, "acme.test", true)
	require.NoError(t, err)
	paying, _, err := b.CreateCustomer(b.ctx, "Paying", "", "")
	require.NoError(t, err)
	credits := int64(5)
	_, err = b.GovernCustomer(b.ctx, paying.ID, "active", &credits)
	require.NoError(t, err)
	foreign := message("bob@x.test")
	foreign.From.Email = "shop@elsewhere.test"
	later := message("bob@x.test", "ann@x.test")
	later.SendAt = time.Now().Add(time.Hour).Truncate(time.Microsecond)
	owner := uuid.NewString()
	es, err := b.AcceptMany(b.ctx, owner, []string{b.customer, b.customer, paying.ID, b.customer}, []email.Message{message("bob@x.test"), foreign, message("bob@x.test"), later})
	require.NoError(t, err)
	require.Nil(t, es[1])
	require.Nil(t, es[2])
	for _, i := range []int{0, 3} {
		got := b.get(es[i].ID)
		require.Equal(t, untimed(*es[i]), untimed(got))
		require.Equal(t, email.WorkflowIDPrefix+got.ID, got.WorkflowID)
		require.Equal(t, 1, b.count("SELECT count(*) FROM outbox WHERE email_id = ? AND lease_owner = ?", got.ID, owner))
	}
	require.Equal(t, []string{"email.queued"}, b.events(es[0].ID))
	require.Equal(t, []string{"email.scheduled"}, b.events(es[3].ID))
	require.Len(t, b.get(es[3].ID).Recipients, 2)
	months, err := b.Usage(b.ctx, b.customer, 1)
	require.NoError(t, err)
	require.EqualValues(t, 2, months[0].Emails)
	require.EqualValues(t, 3, months[0].Recipients)
	_, _, err = b.Accept(b.ctx, b.customer, foreign, owner, email.Idempotency{})
	require.Equal(t, email.CodeDomainUnverified, email.FailureCode(err))
}

// Whatever comes at once, every e-mail has a whole life.
func TestManyLivesAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const lives = 40
	ids := make(chan string, lives)
	for range lives {
		go func() {
			e, _, err := b.Accept(b.ctx, b.customer, message("bob@x.test"), uuid.NewString(), email.Idempotency{})
			if err != nil {
				ids <- err.Error()
				return
			}
			owner := uuid.NewString()
			os, err := b.Open(b.ctx, []delivery.OpenRequest{{EmailID: e.ID, Attempt: 1, Owner: owner, Relay: testRelay}})
			if err == nil {
				out := delivered(os[0].Recipients[0])
				out.RecipientID = os[0].Recipients[0].ID
				if err = b.mark(e.ID, 1, owner, ambiguous(os[0])...); err == nil {
					err = b.finish(e.ID, 1, owner, out)
				}
			}
			if err == nil {
				_, err = b.Record(b.ctx, delivery.RecordStatusInput{EmailID: e.ID, Attempt: 1})
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
		require.Equal(t, email.StatusDelivered, b.get(id).Status)
		require.Equal(t, []string{"email.queued", "email.sending", "email.delivered", "email.completed"}, b.events(id))
	}
}

// lateContext is a context that ends while a statement is being written, as it does in a
// process that was stopped for longer than its deadline: the driver learns of the deadline
// when it writes, and finds it passed.
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
	e := b.accept(message("bob@x.test"))
	obstacle := delivery.Obstacle{RelayDown: true, Relay: "primary"}
	ctx := &lateContext{Context: t.Context(), done: make(chan struct{})}
	_, err := b.Check(ctx, e.ID, obstacle)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Empty(t, b.get(e.ID).Detail, "nothing was written")
	_, err = b.Check(b.ctx, e.ID, obstacle)
	require.NoError(t, err)
	require.Equal(t, email.DetailRelayDown, b.get(e.ID).Detail)
}
