package reputation_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/memtest"
	"github.com/postrider/postrider/internal/reputation"
)

func TestOutcomesAreCounted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	broadcast, transactional := email.StreamBroadcast, email.StreamTransactional
	delivered := b.sent(broadcast, dbsetup.Delivered, "a@gmail.com", "b@Googlemail.com", "c@yahoo.co.uk", "d@x.test")
	b.sent(broadcast, bounced(email.DetailHard), "e@gmail.com", "f@gmail.com")
	b.sent(transactional, bounced(email.DetailSoft), "g@outlook.com")
	b.sent(transactional, bounced(email.DetailBlock), "h@outlook.com")
	b.sent(transactional, bounced(email.DetailOther), "i@outlook.com")
	b.sent(transactional, func(delivery.EnvelopeRecipient) delivery.Outcome {
		return delivery.Outcome{Status: email.RecipientFailed, Reason: email.DetailTooLarge, Reply: email.Reply{Code: 552, Text: "too large"}}
	}, "j@x.test")
	deferred := b.sent(broadcast, dbsetup.Deferred, "k@gmail.com")[0]
	b.DueNow(deferred)
	b.Attempt(deferred, 2, dbsetup.Deferred)

	// Neither of these is sent.
	canceled := b.Accept(dbsetup.Message("l@x.test"))
	require.NoError(t, b.Control(canceled.ID, email.ActionCancel))
	unsent := b.Accept(dbsetup.Message("m@x.test"))
	b.event(unsent.ID, "email.failed", "attachment")
	b.event(unsent.ID, "email.suppressed", "suppressed")

	b.event(delivered[0], "email.complained", "")
	b.event(delivered[2], "email.unsubscribed", "")
	// One recipient is blocked once a day, however often and however it ends.
	blocked := b.sent(broadcast, dbsetup.Deferred, "n@gmail.com")[0]
	b.event(blocked, "email.deferred", "ip_blocked")
	b.event(blocked, "email.deferred", "unauthenticated")
	day := time.Now().UTC().Truncate(dbsetup.Day) // midnight may come while the test runs
	b.Exec("UPDATE email_events SET at = ?", day.Add(time.Hour))
	b.rollUp()
	b.event(blocked, "email.bounced", "block")
	b.event(blocked, "email.deferred", "ip_blocked")
	b.Exec("UPDATE email_events SET at = ?", day.Add(time.Hour))
	b.Exec("UPDATE email_events SET at = ? WHERE id = (SELECT id FROM email_events ORDER BY txid DESC, id DESC LIMIT 1)", day.Add(-time.Hour))
	require.Empty(t, b.rollUp(), "it is too few mail to judge")
	b.rollUp()

	r := b.report()
	require.Equal(t, reputation.Counts{Sent: 11, Delivered: 4, Deferred: 6, Hard: 2, Soft: 1, Blocked: 3, Complained: 1, Unsubscribed: 1}, r.Window)
	require.Equal(t, []reputation.StreamCounts{
		{Stream: transactional, Counts: reputation.Counts{Sent: 4, Soft: 1, Blocked: 1}},
		{Stream: broadcast, Counts: reputation.Counts{Sent: 7, Delivered: 4, Deferred: 6, Hard: 2, Blocked: 2, Complained: 1, Unsubscribed: 1}},
	}, r.Streams)
	require.Equal(t, []reputation.ProviderCounts{
		{Provider: reputation.ProviderGoogle, Counts: reputation.Counts{Sent: 5, Delivered: 2, Deferred: 6, Hard: 2, Blocked: 2, Complained: 1}},
		{Provider: reputation.ProviderMicrosoft, Counts: reputation.Counts{Sent: 3, Soft: 1, Blocked: 1}},
		{Provider: reputation.ProviderOther, Counts: reputation.Counts{Sent: 2, Delivered: 1}},
		{Provider: reputation.ProviderYahoo, Counts: reputation.Counts{Sent: 1, Delivered: 1, Unsubscribed: 1}},
	}, r.Providers)
	require.Len(t, r.Days, 2)
	require.Equal(t, reputation.Counts{Deferred: 1, Blocked: 1}, r.Days[0].Counts)
	require.Equal(t, day.AddDate(0, 0, -1), r.Days[0].Day)
	require.Equal(t, day, r.Days[1].Day)
	require.Equal(t, r.WindowTo.AddDate(0, 0, -6), r.WindowFrom)
	require.Equal(t, reputation.BandUnknown, r.Band())

	one, err := b.Reputation.Report(b.Ctx, b.Customer, "acme.test", 2, transactional)
	require.NoError(t, err)
	require.Equal(t, r.Window, one.Window, "the window is of the whole domain")
	require.Len(t, one.Streams, 1)
	require.Equal(t, []reputation.DayCounts{{Day: day, Counts: reputation.Counts{Sent: 4, Soft: 1, Blocked: 1}}}, one.Days)
	none, err := b.Reputation.Report(b.Ctx, b.Customer, "other.test", 30, "")
	require.NoError(t, err)
	require.Zero(t, none.Window)
	require.Empty(t, none.Days)
	require.Zero(t, none.Since)
}

// TestEventsInFlightAreCountedOnce has transactions that began before others and commit after them.
func TestEventsInFlightAreCountedOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.sent(email.StreamBroadcast, dbsetup.Delivered, "a@gmail.com")[0]
	tx, err := b.Raw.BeginTx(b.Ctx, nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(b.Ctx, `INSERT INTO email_events (id, email_id, customer_id, sequence, type, recipient_id, at)
		SELECT gen_random_uuid(), e.id, e.customer_id, 1000, 'email.complained', NULL, now() FROM emails AS e WHERE e.id = ?`, id)
	require.NoError(t, err)
	b.sent(email.StreamBroadcast, dbsetup.Delivered, "b@gmail.com")
	require.Eventually(t, func() bool {
		b.rollUpOnce()
		return b.report().Window.Sent > 0
	}, patience, time.Millisecond, "what was committed before is counted")
	b.rollUpOnce()
	require.Equal(t, reputation.Counts{Sent: 1, Delivered: 1}, b.report().Window, "what follows the open transaction waits for it")
	require.NoError(t, tx.Commit())
	for range 2 {
		b.rollUp()
		b.rollUpOnce()
		require.Equal(t, reputation.Counts{Sent: 2, Delivered: 2, Complained: 1}, b.report().Window)
	}
	// An event of a transaction that was rolled back is none.
	tx, err = b.Raw.BeginTx(b.Ctx, nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(b.Ctx, `INSERT INTO email_events (id, email_id, customer_id, sequence, type, at) SELECT gen_random_uuid(), e.id, e.customer_id, 2000, 'email.complained', now() FROM emails AS e WHERE e.id = ?`, id)
	require.NoError(t, err)
	b.sent(email.StreamBroadcast, dbsetup.Delivered, "c@gmail.com")
	require.NoError(t, tx.Rollback())
	b.rollUp()
	require.Equal(t, reputation.Counts{Sent: 3, Delivered: 3, Complained: 1}, b.report().Window)
}

// TestAKilledRollUpCountsNothingTwice ends the session of a roll-up between its counts and its commit,
// as kill -9 of its process does.
func TestAKilledRollUpCountsNothingTwice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.touch()
	b.rollUp()
	b.sent(email.StreamBroadcast, dbsetup.Delivered, "a@gmail.com", "b@gmail.com")
	// The roll-up has added its counts when it comes to the domain's state, which another has locked.
	tx, err := b.Raw.BeginTx(b.Ctx, nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(b.Ctx, "UPDATE reputation_states SET since = since")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() {
		for {
			if err := b.Reputation.RollUp(b.Ctx, func(reputation.Change) {}); err != nil {
				ended <- err
				return
			}
		}
	}()
	const waits = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%reputation_states%'"
	require.Eventually(t, func() bool { return b.Count("SELECT count(*) "+waits) == 1 }, patience, 5*time.Millisecond)
	require.Equal(t, 1, b.Count("SELECT count(pg_terminate_backend(pid)) "+waits))
	require.Error(t, <-ended)
	require.NoError(t, tx.Rollback())
	require.Equal(t, reputation.Counts{Sent: 1, Delivered: 1}, b.report().Window, "nothing of it is there")
	b.rollUp()
	require.Equal(t, reputation.Counts{Sent: 3, Delivered: 3}, b.report().Window)
}

// TestSeveralRollUpsCountOnce has processes roll up at the same time while mail is sent.
func TestSeveralRollUpsCountOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	done := make(chan struct{})
	var wg sync.WaitGroup
	errs := make(chan error, 3)
	for range 3 {
		wg.Go(func() {
			for {
				if err := b.Reputation.RollUp(b.Ctx, func(reputation.Change) {}); err != nil {
					errs <- err
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for range 30 {
		b.sent(email.StreamBroadcast, dbsetup.Delivered, "a@gmail.com")
	}
	close(done)
	wg.Wait()
	close(errs)
	require.NoError(t, <-errs)
	b.rollUp()
	require.Equal(t, reputation.Counts{Sent: 30, Delivered: 30}, b.report().Window)

	// A roll-up does not wait for another one: it leaves the customer to that.
	b.touch()
	tx, err := b.Raw.BeginTx(b.Ctx, nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(b.Ctx, "SELECT 1 FROM reputation_cursors FOR UPDATE")
	require.NoError(t, err)
	b.rollUpOnce()
	require.Equal(t, int64(30), b.report().Window.Sent)
	require.NoError(t, tx.Rollback())
	b.rollUp()
	require.Equal(t, int64(31), b.report().Window.Sent)
}

// TestARestoredDatabaseIsCountedOn moves the cursor behind all transactions of the server, where a
// restore into a new server leaves it.
func TestARestoredDatabaseIsCountedOn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.touch()
	b.rollUp()
	b.Exec("UPDATE reputation_cursors SET txid = '4000000000'")
	b.rollUpOnce()
	b.touch()
	b.rollUp()
	require.Equal(t, int64(2), b.report().Window.Sent)
}

// TestManyEventsInBoundedMemory is not parallel: memory is measured.
func TestManyEventsInBoundedMemory(t *testing.T) {
	b := setup(t)
	const events, limit = 100_000, 8 << 20
	id := b.sent(email.StreamBroadcast, dbsetup.Delivered, "a@gmail.com")[0]
	b.rollUp()
	b.Exec(`INSERT INTO email_events (id, email_id, customer_id, sequence, type, recipient_id, attempt, smtp_text, at)
		SELECT gen_random_uuid(), e.id, e.customer_id, 1000 + n, CASE WHEN n % 10 = 0 THEN 'email.bounced' ELSE 'email.delivered' END, r.id, 1, repeat('x', 500), now()
		FROM emails AS e JOIN recipients AS r ON r.email_id = e.id, generate_series(1, ?) AS n WHERE e.id = ?`, events, id)
	b.Exec("UPDATE email_events SET reason = 'hard' WHERE type = 'email.bounced'")
	var changes []reputation.Change
	require.Less(t, memtest.Peak(limit, func() { changes = append(changes, b.rollUp()...) }), int64(limit))
	require.Equal(t, reputation.Counts{Sent: events + 1, Delivered: events*9/10 + 1, Hard: events / 10}, b.report().Window)
	require.Len(t, changes, 1, "the domain became critical once, whatever the number of lots")
	require.Equal(t, reputation.BandCritical, changes[0].Band())
}
