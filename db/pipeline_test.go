package db_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
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
	got := make(chan email.Opening)
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
	require.Equal(t, email.VerdictClosed, o.Verdict)
	require.Equal(t, "paused", o.State.Waiting)
}

// Many at once never wait for one that is locked, which is left to be asked for alone.
func TestManyPassOverWhatIsLocked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	busy, free := b.accept(message("bob@x.test")), b.accept(message("ann@x.test"))
	release := b.locked(busy.ID)
	reqs := []email.OpenRequest{
		{EmailID: busy.ID, Attempt: 1, Owner: uuid.NewString(), Relay: testRelay},
		{EmailID: free.ID, Attempt: 1, Owner: uuid.NewString(), Relay: testRelay},
		{EmailID: uuid.NewString(), Attempt: 1, Owner: uuid.NewString(), Relay: testRelay},
	}
	os, err := b.Open(b.ctx, reqs)
	require.NoError(t, err)
	require.Empty(t, os[0].Verdict)
	require.Equal(t, email.VerdictOpened, os[1].Verdict)
	require.Empty(t, os[2].Verdict, "there is no such e-mail")
	require.Equal(t, email.StatusSending, b.get(free.ID).Status)

	outcome := delivered(os[1].Recipients[0])
	outcome.RecipientID = os[1].Recipients[0].ID
	require.NoError(t, b.mark(free.ID, 1, reqs[1].Owner, ambiguous(os[1])...))
	require.NoError(t, b.finish(free.ID, 1, reqs[1].Owner, outcome))
	recs, err := b.RecordAll(b.ctx, []email.RecordStatusInput{{EmailID: busy.ID, Attempt: 1}, {EmailID: free.ID, Attempt: 1}})
	require.NoError(t, err)
	require.Nil(t, recs[0])
	require.Equal(t, email.StatusDelivered, recs[1].State.Status)
	require.Equal(t, email.StatusDelivered, b.get(free.ID).Status)
	release()
	_, o := b.open(busy.ID, 1)
	require.Equal(t, email.VerdictOpened, o.Verdict)
}

// A connection that knows the statements goes on through a migration that adds columns.
func TestPreparedStatementsOutliveAMigration(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.accept(message("bob@x.test"))
	b.attempt(first.ID, 1, delivered)
	for _, table := range []string{"emails", "recipients", "delivery_attempts", "email_events", "contents", "outbox"} {
		b.exec("ALTER TABLE " + table + " ADD COLUMN added text NOT NULL DEFAULT 'x'")
	}
	second := b.accept(message("bob@x.test"))
	_, err := b.Plan(b.ctx, second.ID)
	require.NoError(t, err)
	_, err = b.Message(b.ctx, second.ID)
	require.NoError(t, err)
	require.Equal(t, email.StatusDelivered, b.attempt(second.ID, 1, delivered).State.Status)
}
