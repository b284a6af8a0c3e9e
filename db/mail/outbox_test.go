package mail_test

import (
	"context"
	"fmt"
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

// claims are the two claims of what is to be started.
func (b *bench) claims() map[string]func(stream email.Stream, limit int) []delivery.Start {
	claim := func(claim func(stream email.Stream, limit int) ([]delivery.Start, error)) func(email.Stream, int) []delivery.Start {
		return func(stream email.Stream, limit int) []delivery.Start {
			b.T.Helper()
			starts, err := claim(stream, limit)
			require.NoError(b.T, err)
			return starts
		}
	}
	return map[string]func(email.Stream, int) []delivery.Start{
		"single mails": claim(func(stream email.Stream, limit int) ([]delivery.Start, error) {
			return b.Mail.ClaimStarts(b.Ctx, delivery.Claim{Stream: stream, Owner: uuid.NewString(), Lease: time.Minute, Limit: limit})
		}),
		"batches": claim(func(stream email.Stream, limit int) ([]delivery.Start, error) {
			return b.Mail.ClaimBatches(b.Ctx, delivery.Claim{Stream: stream, Owner: uuid.NewString(), Lease: time.Minute, Limit: limit})
		}),
	}
}

// acceptSingles accepts n single mails of a customer, and acceptBatches n batches of one mail.
func (b *bench) acceptSingles(customerID string, stream email.Stream, n int) (ids []string) {
	b.T.Helper()
	m := dbsetup.Message("bob@x.test")
	m.Stream = stream
	for range n {
		e, _, err := b.Mail.Accept(b.Ctx, customerID, m, uuid.NewString(), email.Idempotency{})
		require.NoError(b.T, err)
		ids = append(ids, e.ID)
	}
	return ids
}

func (b *bench) acceptBatches(customerID string, stream email.Stream, n int) (ids []string) {
	b.T.Helper()
	for range n {
		batch, _, _, err := b.Mail.AcceptBatch(b.Ctx, customerID, batchOf(1, func(_ int, m *email.Message) error {
			m.Stream = stream
			return nil
		}), uuid.NewString(), email.Idempotency{})
		require.NoError(b.T, err)
		require.Equal(b.T, stream, batch.Stream)
		ids = append(ids, batch.ID)
	}
	return ids
}

// leasesRunOut ends the leases of all that is to be started, the oldest first.
func (b *bench) leasesRunOut() {
	b.T.Helper()
	b.Exec("UPDATE outbox SET lease_until = created_at - interval '1 hour'")
	b.Exec("UPDATE batches SET lease_until = created_at - interval '1 hour' WHERE lease_until IS NOT NULL")
}

func idsOf(starts []delivery.Start) (ids []string) {
	for _, s := range starts {
		if s.BatchID != "" {
			ids = append(ids, s.BatchID)
		} else {
			ids = append(ids, s.EmailID)
		}
	}
	return ids
}

// A customer's flood, and another's mail behind it: they take turns, in each stream, and the whole
// claim is filled.
func TestStartsAreClaimedByStreamAndInTurns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second := b.other(), b.other()
	for kind, claim := range b.claims() {
		accept := map[string]func(string, email.Stream, int) []string{"single mails": b.acceptSingles, "batches": b.acceptBatches}[kind]
		flood := accept(b.Customer, email.StreamBroadcast, 20)
		a := accept(first, email.StreamBroadcast, 1)
		c := accept(second, email.StreamBroadcast, 3)
		urgent := accept(b.Customer, email.StreamTransactional, 2)
		for _, stream := range []email.Stream{email.StreamTransactional, email.StreamBroadcast} {
			require.Empty(t, claim(stream, 10), "%s: the accepting process has them", kind)
		}
		b.leasesRunOut()
		require.Equal(t, urgent, idsOf(claim(email.StreamTransactional, 10)), kind)
		require.Empty(t, claim(email.StreamTransactional, 10), kind)
		starts := claim(email.StreamBroadcast, 12)
		require.Equal(t, email.StreamBroadcast, starts[0].Stream)
		require.Equal(t, b.Customer, starts[0].CustomerID)
		require.Equal(t, []string{flood[0], a[0], c[0], flood[1], c[1], flood[2], c[2], flood[3]}, idsOf(starts)[:8], kind)
		require.Equal(t, flood[4:8], idsOf(starts)[8:], "%s: of those that have less than their share, the rest goes to the others", kind)
		require.Equal(t, flood[8:], idsOf(claim(email.StreamBroadcast, 100)), kind)
		require.Empty(t, claim(email.StreamBroadcast, 100), kind)
	}
}

// With more customers than a claim takes, each has one turn in it.
func TestAClaimHasOneOfEachOfManyCustomers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const customers, each, limit = 7, 2, 5
	for range customers {
		c := b.other()
		b.acceptSingles(c, email.StreamBroadcast, each)
		b.acceptBatches(c, email.StreamBroadcast, each)
	}
	b.leasesRunOut()
	for kind, claim := range b.claims() {
		left := customers * each
		for left > 0 {
			starts := claim(email.StreamBroadcast, limit)
			require.NotEmpty(t, starts, kind)
			if left == customers*each {
				of := map[string]bool{}
				for _, s := range starts {
					of[s.CustomerID] = true
				}
				require.Len(t, of, limit, kind)
			}
			left -= len(starts)
		}
		require.Zero(t, left, kind)
	}
}

// The most urgent e-mail of a batch says when its run starts.
func TestABatchHasTheStreamOfItsMostUrgentMail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	streams := func(of ...email.Stream) email.BatchRequest {
		return batchOf(len(of), func(i int, m *email.Message) error {
			m.Stream = of[i]
			return nil
		})
	}
	mixed, _ := b.acceptBatch(streams(email.StreamBroadcast, email.StreamTransactional, email.StreamBroadcast))
	require.Equal(t, email.StreamTransactional, mixed.Stream)
	news, _ := b.acceptBatch(streams(email.StreamBroadcast, email.StreamBroadcast))
	require.Equal(t, email.StreamBroadcast, news.Stream)
	for _, batch := range []email.Batch{mixed, news} {
		p, err := b.Mail.Batch(b.Ctx, b.Customer, batch.ID)
		require.NoError(t, err)
		require.Equal(t, batch.Stream, p.Stream)
	}
}

// Two sweeps at once get different starts.
func TestAClaimPassesOverWhatAnotherHasLocked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := b.acceptSingles(b.Customer, email.StreamBroadcast, 4)
	b.leasesRunOut()
	tx, err := b.Raw.BeginTx(b.Ctx, nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(b.Ctx, "SELECT 1 FROM outbox WHERE email_id IN (?, ?) FOR UPDATE", ids[0], ids[2])
	require.NoError(t, err)
	claim := b.claims()["single mails"]
	require.Equal(t, []string{ids[1], ids[3]}, idsOf(claim(email.StreamBroadcast, 4)))
	require.NoError(t, tx.Rollback())
	require.Equal(t, []string{ids[0], ids[2]}, idsOf(claim(email.StreamBroadcast, 4)))
}

// Claims read what they claim, with very many rows that wait: those of a flood, those of many
// customers, and those that are not due.
func TestClaimsReadWhatTheyClaim(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	b := setupOn(t, url)
	n := oldEmails(t)
	require.NoError(t, dbtest.FillUnseen(b.Ctx, url, b.Customer, n))
	const others, limit = 100, 200
	filled := b.readsOf("emails")["emails"].full
	// Of each ten, nine are of one customer, and one is of one of the others or waits for its time.
	b.Exec(`WITH numbered AS (SELECT id, row_number() OVER (ORDER BY id) AS i FROM emails)
		INSERT INTO outbox (email_id, stream, customer_id, lease_owner, lease_until, created_at)
		SELECT id, CASE WHEN i % 100 = 0 THEN 'transactional' ELSE 'broadcast' END,
			CASE WHEN i % 10 > 0 THEN ?0::uuid ELSE md5((i / 10 % ?1)::text)::uuid END, gen_random_uuid(),
			now() + CASE WHEN i % 20 = 0 THEN interval '1 hour' ELSE i * interval '1 microsecond' - interval '1 hour' END, now() FROM numbered`, b.Customer, others)
	b.Exec(`INSERT INTO batches (id, customer_id, stream, mode, total, lease_owner, lease_until, seen_at, created_at)
		SELECT gen_random_uuid(), ?, 'broadcast', 'strict', 1, gen_random_uuid(), now() - i * interval '1 millisecond', now(), now() FROM generate_series(1, ?) AS i`, b.Customer, n)
	// Postgres may count what a session has read a second later.
	require.Eventually(t, func() bool { return b.readsOf("emails")["emails"].full > filled }, 30*time.Second, 5*time.Millisecond)
	for _, known := range []string{"new tables", "known tables"} {
		if known == "known tables" {
			b.Exec("VACUUM ANALYZE")
		}
		for kind, claim := range map[string]func(s *db.DB) ([]delivery.Start, error){
			"starts": func(s *db.DB) ([]delivery.Start, error) {
				return s.Mail.ClaimStarts(b.Ctx, delivery.Claim{Stream: email.StreamBroadcast, Owner: uuid.NewString(), Lease: time.Minute, Limit: limit})
			},
			"batches": func(s *db.DB) ([]delivery.Start, error) {
				return s.Mail.ClaimBatches(b.Ctx, delivery.Claim{Stream: email.StreamBroadcast, Owner: uuid.NewString(), Lease: time.Minute, Limit: limit})
			},
		} {
			sessions, before := b.sessions(), b.readsOf("outbox", "batches", "emails")
			store, err := db.Open(url, db.Options{SecretKey: make([]byte, 32)})
			require.NoError(t, err)
			starts, err := claim(store)
			require.NoError(t, err)
			require.Len(t, starts, limit, kind)
			require.NoError(t, store.Close())
			require.Eventually(t, func() bool { return b.sessions() == sessions }, 30*time.Second, 5*time.Millisecond, "the session ends")
			for table, r := range b.readsOf("outbox", "batches", "emails") {
				what := fmt.Sprintf("%s, %s: rows of %s", known, kind, table)
				require.Equal(t, before[table].full, r.full, what)
				require.LessOrEqual(t, r.rows-before[table].rows, readsMax, what)
			}
		}
	}
}

// Mail that is accepted without an owner may be claimed by any process.
func TestStartsWithoutAnOwnerCanBeClaimedAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _, err := b.Mail.Accept(b.Ctx, b.Customer, dbsetup.Message("bob@x.test"), delivery.NoOwner, email.Idempotency{})
	require.NoError(t, err)
	batch, _, _, err := b.Mail.AcceptBatch(b.Ctx, b.Customer, batchOf(1, func(int, *email.Message) error { return nil }), delivery.NoOwner, email.Idempotency{})
	require.NoError(t, err)
	for what, claim := range map[string]func(context.Context, delivery.Claim) ([]delivery.Start, error){e.ID: b.Mail.ClaimStarts, batch.ID: b.Mail.ClaimBatches} {
		c := delivery.Claim{Stream: email.StreamTransactional, Owner: uuid.NewString(), Lease: time.Minute, Limit: 5, Waited: time.Hour}
		late, err := claim(b.Ctx, c)
		require.NoError(t, err)
		require.Empty(t, late, "it has not waited for an hour")
		c.Waited = 0
		got, err := claim(b.Ctx, c)
		require.NoError(t, err)
		require.Equal(t, []string{what}, idsOf(got))
		again, err := claim(b.Ctx, c)
		require.NoError(t, err)
		require.Empty(t, again, "it has a lease")
	}
	b.leasesRunOut()
	b.Exec("UPDATE outbox SET lease_until = created_at - interval '1 hour'")
	busy, _, err := b.Mail.Accept(b.Ctx, b.Customer, dbsetup.Message("bob@x.test"), uuid.NewString(), email.Idempotency{})
	require.NoError(t, err)
	c := delivery.Claim{Stream: email.StreamTransactional, Owner: uuid.NewString(), Lease: time.Minute, Limit: 5, Waited: 59 * time.Minute}
	none, err := b.Mail.ClaimStarts(b.Ctx, c)
	require.NoError(t, err)
	require.Empty(t, none, "another process is starting mail")
	b.Exec("UPDATE outbox SET lease_owner = ? WHERE email_id = ?", c.Owner, busy.ID)
	got, err := b.Mail.ClaimStarts(b.Ctx, c)
	require.NoError(t, err)
	require.Equal(t, []string{e.ID}, idsOf(got), "no other process starts anything")
}

func TestAnnouncementsAreHeard(t *testing.T) {
	t.Parallel()
	b := setup(t)
	heard := make(chan delivery.StartKind, 100)
	next := func() delivery.StartKind {
		t.Helper()
		select {
		case kind := <-heard:
			return kind
		case <-time.After(time.Minute):
			t.Fatal("nothing is heard")
			return delivery.StartKind{}
		}
	}
	ctx, cancel := context.WithCancel(b.Ctx)
	defer cancel()
	ended := make(chan error, 1)
	listen := func() {
		go func() { ended <- b.Mail.HearStarts(ctx, func(kind delivery.StartKind) { heard <- kind }) }()
		for _, kind := range delivery.StartKinds() {
			require.Equal(t, kind, next(), "what was announced before may have been missed")
		}
	}
	listen()
	for _, kind := range delivery.StartKinds() {
		require.NoError(t, b.Mail.AnnounceStarts(b.Ctx, kind))
		require.Equal(t, kind, next())
	}
	b.Exec("SELECT pg_notify('postrider_starts', 'what a newer version announces')")
	require.NoError(t, b.Mail.AnnounceStarts(b.Ctx, delivery.StartKind{Stream: email.StreamBroadcast}))
	require.Equal(t, delivery.StartKind{Stream: email.StreamBroadcast}, next())

	// The connection is lost.
	b.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()")
	require.Error(t, <-ended)
	listen()
	cancel()
	require.NoError(t, <-ended)
}
