package mail_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// TestMailOfARemovedRelaySaysNoRelay: it names the removed relay no more, and its run is woken once.
func TestMailOfARemovedRelaySaysNoRelay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, refused, other := b.Accept(dbsetup.Message("a@x.test")), b.Accept(dbsetup.Message("b@x.test")), b.Accept(dbsetup.Message("c@x.test"))
	waitFor := func(id, relay string) {
		_, err := b.Mail.Check(t.Context(), id, delivery.Obstacle{RelayDown: true, Relay: relay})
		require.NoError(t, err)
	}
	waitFor(e.ID, "primary")
	waitFor(other.ID, "another")
	b.refuse(refused.ID, 1, relayFault) // by primary
	waits, err := b.Mail.RelayWaits(t.Context())
	require.NoError(t, err)
	from := delivery.RelayWait{Stream: email.StreamTransactional, SenderDomain: "acme.test", Relay: "primary"}
	kept := from
	kept.Relay = "another"
	require.Equal(t, []delivery.RelayWait{kept, from}, waits)

	none := delivery.Obstacle{RelayDown: true, NoRelay: true}
	n, err := b.Mail.ChangeRelayWait(t.Context(), from, none)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	for _, id := range []string{e.ID, refused.ID} {
		got := b.Get(id)
		require.Equal(t, email.DetailNoRelay, got.Detail)
		require.Empty(t, got.RelayFault.Relay)
		require.Contains(t, got.RelayFault.Reply.Text, "no relay takes")
	}
	require.Equal(t, "another", b.Get(other.ID).RelayFault.Relay)
	var woken []string
	for _, w := range b.sweptWakes() {
		woken = append(woken, w.EmailID)
	}
	require.ElementsMatch(t, []string{e.ID, refused.ID}, woken)

	n, err = b.Mail.ChangeRelayWait(t.Context(), from, none)
	require.NoError(t, err)
	require.Zero(t, n, "another process has done it")
	require.Equal(t, 2, b.Count("SELECT count(*) FROM wakes"))
}

// TestMailOfAChangedRelayIsDueAtOnce: the backoff at the old relay says nothing of the new one. A
// recipient that its own server deferred keeps its time.
func TestMailOfAChangedRelayIsDueAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, greylisted := b.Accept(dbsetup.Message("a@x.test")), b.Accept(dbsetup.Message("b@x.test"))
	b.refuse(e.ID, 1, relayFault)
	b.Attempt(greylisted.ID, 1, dbsetup.Deferred)
	waits := b.Get(greylisted.ID).NextAttemptAt
	due := func() int { return b.Count("SELECT count(*) FROM emails WHERE next_action_at <= now()") }
	require.Zero(t, due())
	_, err := b.Mail.Check(t.Context(), greylisted.ID, delivery.Obstacle{RelayDown: true, Relay: "primary"})
	require.NoError(t, err)

	from := delivery.RelayWait{Stream: email.StreamTransactional, SenderDomain: "acme.test", Relay: "primary"}
	n, err := b.Mail.ChangeRelayWait(t.Context(), from, delivery.Obstacle{RelayDown: true})
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, 1, due())
	require.Equal(t, waits, b.Get(greylisted.ID).NextAttemptAt)
	fault := b.Get(e.ID).RelayFault
	require.Empty(t, fault.Relay)
	require.Equal(t, "a relay works again, or the operator changed the relays; this e-mail follows within 5 minutes", fault.Reply.Text)
	require.Len(t, b.sweptWakes(), 2)
	_, o := b.Open(e.ID, 2)
	require.Equal(t, delivery.VerdictOpened, o.Verdict)
}

// TestMailThatARelayRefusedIsNotWokenByItsRecovery: a relay that refuses some mail recovers with each
// other mail that it takes. Mail that it refused keeps its own wait, which the API shows, and names the
// relay until its next try. Mail that only met a relay that was down is woken.
func TestMailThatARelayRefusedIsNotWokenByItsRecovery(t *testing.T) {
	t.Parallel()
	b := setup(t)
	down, refused, both := b.Accept(dbsetup.Message("a@x.test")), b.Accept(dbsetup.Message("b@x.test")), b.Accept(dbsetup.Message("c@x.test"))
	var refusedState delivery.Recorded
	for n := 1; n <= 3; n++ {
		refusedState = b.refuse(refused.ID, n, relayFault)
		b.refuse(both.ID, n, relayFault)
		b.Exec("UPDATE recipients SET next_attempt_at = next_attempt_at - interval '1 hour' WHERE email_id = ? AND ? < 3", refused.ID, n)
		b.Exec("UPDATE recipients SET next_attempt_at = next_attempt_at - interval '1 hour' WHERE email_id = ?", both.ID)
	}
	for _, id := range []string{down.ID, both.ID} { // they ask for the relay, and it is down
		_, err := b.Mail.Check(t.Context(), id, delivery.Obstacle{RelayDown: true, Relay: "primary"})
		require.NoError(t, err)
	}
	b.Exec("UPDATE emails SET next_action_at = now() - interval '1 hour' WHERE id = ?", both.ID)
	next := b.Get(refused.ID).NextAttemptAt
	require.Equal(t, refusedState.State.NextAt, next, "its run has a timer for that time")
	since := b.Get(refused.ID).RelayFault.Since
	require.False(t, since.IsZero())

	w := delivery.RelayWait{Stream: email.StreamTransactional, SenderDomain: "acme.test", Relay: "primary"}
	wake := func(dueBy time.Time) int {
		n, err := b.Mail.WakeRelayWait(t.Context(), w, dueBy)
		require.NoError(t, err)
		return n
	}
	requireOwnRefusal := func(id string) {
		t.Helper()
		got := b.Get(id)
		require.Equal(t, "primary", got.RelayFault.Relay)
		require.Equal(t, relayFault(delivery.EnvelopeRecipient{}).Reply, got.RelayFault.Reply)
		require.False(t, got.RelayFault.Since.IsZero())
		require.Equal(t, got.NextAttemptAt, got.RelayFault.NextAttemptAt)
	}
	var recovered time.Time
	require.NoError(t, b.Raw.NewRaw("SELECT now()").Scan(t.Context(), &recovered))
	require.Equal(t, 2, wake(recovered))
	require.Zero(t, wake(recovered), "once")
	var woken []string
	for _, s := range b.sweptWakes() {
		woken = append(woken, s.EmailID)
	}
	require.ElementsMatch(t, []string{down.ID, both.ID}, woken)
	require.Empty(t, b.Get(down.ID).RelayFault.Relay, "it waits for no relay any more")
	requireOwnRefusal(both.ID)
	requireOwnRefusal(refused.ID)
	require.Equal(t, next, b.Get(refused.ID).NextAttemptAt)

	// It is due within a transaction's grouping, and then due: its run is about to try it.
	for _, in := range []time.Duration{4 * time.Second, 0} {
		b.Exec("UPDATE recipients SET next_attempt_at = now() + ? * interval '1 second' WHERE email_id = ?", in.Seconds(), refused.ID)
		b.Exec("UPDATE emails SET next_action_at = now() + ? * interval '1 second' WHERE id = ?", in.Seconds(), refused.ID)
		require.Zero(t, wake(recovered))
		requireOwnRefusal(refused.ID)
		require.Equal(t, since, b.Get(refused.ID).RelayFault.Since)
	}
	p, err := b.Mail.Plan(t.Context(), refused.ID)
	require.NoError(t, err)
	require.Equal(t, "primary", p.State.FaultyRelay, "other relays go first")

	// It asked for the relay after the recovery, at a process that had not heard of it.
	require.NoError(t, b.Raw.NewRaw("SELECT now()").Scan(t.Context(), &recovered))
	require.Equal(t, 2, wake(recovered))
	require.Zero(t, wake(recovered), "once")
	requireOwnRefusal(refused.ID)
	require.Equal(t, since, b.Get(refused.ID).RelayFault.Since)
}

// TestAllRefusedMailThatWaitsForARelayIsWoken: of more e-mails than one transaction takes, each is
// woken once for a recovery. Mail that has run out of time is left to its run.
func TestAllRefusedMailThatWaitsForARelayIsWoken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, _ := b.acceptBatch(batchOf(450, nil))
	owner, opened, _ := b.openBatch(batch.ID, 450)
	require.Len(t, opened, 450)
	_, err := b.Mail.RecordBatch(b.Ctx, endingsOf(owner, opened, relayFault))
	require.NoError(t, err)
	b.Exec("UPDATE recipients SET next_attempt_at = now() - interval '1 hour'")
	b.Exec("UPDATE emails SET next_action_at = now() - interval '1 hour'")
	b.Exec("UPDATE emails SET expires_at = now() - interval '1 hour' WHERE batch_index = 0")
	var recovered time.Time
	require.NoError(t, b.Raw.NewRaw("SELECT now()").Scan(t.Context(), &recovered))
	waits, err := b.Mail.RelayWaits(t.Context())
	require.NoError(t, err)
	require.Len(t, waits, 1)
	for _, want := range []int{449, 0} {
		n, err := b.Mail.WakeRelayWait(t.Context(), waits[0], recovered)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	require.Equal(t, 450, b.Count("SELECT count(*) FROM emails WHERE relay_down_by = 'primary'"))
}

// TestABatchOfARemovedRelaySaysNoRelay: its run is woken by one order.
func TestABatchOfARemovedRelaySaysNoRelay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, _ := b.acceptBatch(batchOf(3, nil))
	owner, opened, _ := b.openBatch(batch.ID, 10)
	_, err := b.Mail.RecordBatch(b.Ctx, endingsOf(owner, opened, relayFault))
	require.NoError(t, err)
	waits, err := b.Mail.RelayWaits(t.Context())
	require.NoError(t, err)
	require.Len(t, waits, 1)
	n, err := b.Mail.ChangeRelayWait(t.Context(), waits[0], delivery.Obstacle{RelayDown: true, NoRelay: true})
	require.NoError(t, err)
	require.Equal(t, 3, n)
	p, err := b.Mail.Batch(t.Context(), b.Customer, batch.ID)
	require.NoError(t, err)
	require.Equal(t, map[email.Detail]int{email.DetailNoRelay: 3}, p.Details)
	require.Equal(t, 1, b.Count("SELECT count(*) FROM wakes"))
}
