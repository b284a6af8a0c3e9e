package mail_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/endpoint"
	"github.com/postrider/postrider/internal/reputation"
)

// oldEmails are in the tables when it is counted what queries read. With a few
// thousand the planner has the choice that it has with a million, which takes a
// minute to write: POSTRIDER_TEST_OLD_EMAILS asks for that.
func oldEmails(t *testing.T) int {
	t.Helper()
	text := os.Getenv("POSTRIDER_TEST_OLD_EMAILS")
	if text == "" {
		return 20_000
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// readsMax is how many rows any of the queries may read: a page of a list, with what
// belongs to each e-mail, and not a share of what there is.
const readsMax = 2000

// TestQueriesReadWhatTheyNeed runs the queries that users, sweeps and runs make, over
// tables with many finished e-mails, and asks Postgres what it read for them: no large
// table in full, and no more rows than the answer needs.
func TestQueriesReadWhatTheyNeed(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	b := setupOn(t, url)
	require.NoError(t, dbtest.Fill(b.Ctx, url, b.Customer, oldEmails(t)))
	var hook string
	require.NoError(t, b.Raw.NewRaw("SELECT id FROM webhook_endpoints WHERE customer_id = ?", b.Customer).Scan(b.Ctx, &hook))
	b.Exec("UPDATE webhook_endpoints SET url = 'https://x.test/', disabled_at = NULL, disabled_reason = '' WHERE id = ?", hook)
	// Some of everything is still to be done.
	var waiting []string
	for range 20 {
		waiting = append(waiting, b.Accept(dbsetup.Message("new@example1.test")).ID)
	}
	b.Exec("UPDATE outbox SET lease_until = now() - interval '1 minute'")
	b.Exec("UPDATE emails SET next_action_at = now() - interval '1 hour' WHERE id = ?", waiting[0])
	b.Exec("UPDATE emails SET paused = true WHERE id = ?", waiting[1])
	b.Exec("UPDATE emails SET status = 'bounced', next_action_at = NULL WHERE id = ?", waiting[2])
	// The roll-up has read all of it but the last events.
	require.NoError(t, b.Reputation.RollUp(b.Ctx, func(reputation.Change) {}))
	b.Exec("UPDATE reputation_cursors AS c SET (txid, event_id) = (SELECT ev.txid, ev.id FROM email_events AS ev WHERE ev.customer_id = c.customer_id ORDER BY ev.txid DESC, ev.id DESC OFFSET 50 LIMIT 1)")
	b.Exec("ANALYZE")
	old := b.Get(waiting[5])
	_, page, err := b.Mail.Emails(b.Ctx, b.Customer, email.Filter{}, email.Cursor{}, 100)
	require.NoError(t, err)

	list := func(f email.Filter) func(*db.DB) error {
		return func(s *db.DB) error {
			_, _, err := s.Mail.Emails(b.Ctx, b.Customer, f, email.Cursor{}, 100)
			return err
		}
	}
	var wrong []string
	for name, ask := range map[string]func(*db.DB) error{
		"a list":                 list(email.Filter{}),
		"what waits for a relay": func(s *db.DB) error { _, err := s.Mail.RelayWaits(b.Ctx); return err },
		"a change of what it waits for": func(s *db.DB) error {
			_, err := s.Mail.ChangeRelayWait(b.Ctx, delivery.RelayWait{Stream: email.StreamTransactional, SenderDomain: "acme.test", Relay: "primary"}, delivery.Obstacle{RelayDown: true})
			return err
		},
		"what is due as a relay works again": func(s *db.DB) error {
			_, err := s.Mail.WakeRelayWait(b.Ctx, delivery.RelayWait{Stream: email.StreamTransactional, SenderDomain: "acme.test", Relay: "primary"}, time.Now())
			return err
		},
		"a list by status":            list(email.Filter{Statuses: []email.Status{email.StatusDelivered}}),
		"a list of what is open":      list(email.Filter{Statuses: []email.Status{email.StatusQueued, email.StatusSending}}),
		"a list of a rare status":     list(email.Filter{Statuses: []email.Status{email.StatusBounced}}),
		"a list by recipient":         list(email.Filter{To: "new@example1.test"}),
		"a list by recipient, of few": list(email.Filter{To: "customer17@example17.test"}),
		"a list by tag, of none":      list(email.Filter{Tag: "nobody"}),
		"the next page": func(s *db.DB) error {
			_, _, err := s.Mail.Emails(b.Ctx, b.Customer, email.Filter{}, *page, 100)
			return err
		},
		"one e-mail":                 func(s *db.DB) error { _, err := s.Mail.Email(b.Ctx, b.Customer, old.ID); return err },
		"an e-mail's events":         func(s *db.DB) error { _, _, err := s.Mail.EmailEvents(b.Ctx, b.Customer, old.ID, 0); return err },
		"an e-mail's journal":        func(s *db.DB) error { _, _, err := s.Mail.Attempts(b.Ctx, b.Customer, old.ID, 0); return err },
		"the feed":                   func(s *db.DB) error { _, _, err := s.Mail.Feed(b.Ctx, b.Customer, "", 100); return err },
		"the roll-up of reputations": func(s *db.DB) error { return s.Reputation.RollUp(b.Ctx, func(reputation.Change) {}) },
		"deliveries": func(s *db.DB) error {
			_, _, err := s.Webhooks.Deliveries(b.Ctx, b.Customer, hook, "", email.Cursor{}, 100)
			return err
		},
		"a day's statistics": func(s *db.DB) error {
			_, err := s.Mail.Stats(b.Ctx, b.Customer, email.Filter{CreatedFrom: time.Now().Add(-time.Hour)})
			return err
		},
		"the backlog": func(s *db.DB) error { _, err := s.Mail.Backlog(b.Ctx); return err },
		"the sweep of starts": func(s *db.DB) error {
			_, err := s.Mail.ClaimStarts(b.Ctx, delivery.Claim{Stream: email.StreamTransactional, Owner: uuid.NewString(), Lease: time.Minute, Limit: 5})
			return err
		},
		"the sweep of what is overdue":  func(s *db.DB) error { _, err := s.Mail.ClaimOverdue(b.Ctx, 5); return err },
		"the sweep of what has expired": func(s *db.DB) error { return s.Mail.ExpireOverdue(b.Ctx) },
		"the sweep of pauses":           func(s *db.DB) error { _, err := s.Mail.ClaimUnpaused(b.Ctx, time.Minute, 5); return err },
		"the sweep of batches": func(s *db.DB) error {
			_, err := s.Mail.ClaimBatches(b.Ctx, delivery.Claim{Stream: email.StreamTransactional, Owner: uuid.NewString(), Lease: time.Minute, Limit: 5})
			return err
		},
		"the sweep of endpoints":   func(s *db.DB) error { _, err := s.Webhooks.OverdueEndpoints(b.Ctx); return err },
		"an e-mail's deliveries":   func(s *db.DB) error { _, _, err := s.Webhooks.ClaimForEmail(b.Ctx, waiting[6]); return err },
		"an endpoint's deliveries": func(s *db.DB) error { _, err := s.Webhooks.ClaimForEndpoint(b.Ctx, hook, 5); return err },
		"an endpoint's backlog":    func(s *db.DB) error { _, err := s.Webhooks.EndpointBacklog(b.Ctx, hook); return err },
		"waiting for a verdict":    func(s *db.DB) error { _, err := s.Mail.FirstVerdict(b.Ctx, waiting); return err },
		"a whole life": func(s *db.DB) error {
			life := &bench{&dbsetup.Bench{DB: s, T: t, Ctx: b.Ctx, Customer: b.Customer}}
			e := life.acceptFor(dbsetup.Message("new@example1.test"), delivery.NoOwner)
			if _, err := s.Mail.Plan(b.Ctx, e.ID); err != nil {
				return err
			}
			if _, err := s.Mail.Message(b.Ctx, e.ID); err != nil {
				return err
			}
			life.Attempt(e.ID, 1, dbsetup.Delivered)
			return nil
		},
		"many at once": func(s *db.DB) error {
			var reqs []delivery.OpenRequest
			var recs []delivery.RecordStatusInput
			for _, id := range waiting[8:] {
				reqs = append(reqs, delivery.OpenRequest{EmailID: id, Attempt: 1, Owner: uuid.NewString(), Relay: dbsetup.Relay})
				recs = append(recs, delivery.RecordStatusInput{EmailID: id})
			}
			if _, err := s.Mail.OpenMany(b.Ctx, reqs); err != nil {
				return err
			}
			_, err := s.Mail.RecordMany(b.Ctx, recs)
			return err
		},
	} {
		sessions := b.sessions()
		before := b.reads()
		store, err := db.Open(url, db.Options{SecretKey: make([]byte, 32), WebhookBody: func(endpoint.Format, email.Event, email.Email) (string, []byte, error) {
			return "email.delivered", []byte("{}"), nil
		}})
		require.NoError(t, err)
		require.NoError(t, ask(store), name)
		require.NoError(t, store.Close())
		// A session reports what it has read when it ends.
		require.Eventually(t, func() bool { return b.sessions() == sessions }, 30*time.Second, 5*time.Millisecond, "sessions end")
		after := b.reads()
		for table, n := range after {
			if full, rows := n.full-before[table].full, n.rows-before[table].rows; full > 0 || rows > readsMax {
				wrong = append(wrong, fmt.Sprintf("%s: %d rows of %s, %d times in full", name, rows, table, full))
			}
		}
	}
	require.Empty(t, wrong)
}

// tableReads is how often a table was read in full, and how many of its rows.
type tableReads struct{ full, rows int }

// sessions are those of stores.
func (b *bench) sessions() int {
	b.T.Helper()
	return b.Count("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'postrider'")
}

// reads asks for the large tables.
func (b *bench) reads() map[string]tableReads {
	b.T.Helper()
	return b.readsOf("emails", "recipients", "contents", "delivery_attempts", "email_events", "webhook_deliveries")
}

func (b *bench) readsOf(tables ...string) map[string]tableReads {
	b.T.Helper()
	var rows []struct {
		Relname string
		Full    int
		Rows    int
	}
	require.NoError(b.T, b.Raw.NewRaw(`SELECT relname, coalesce(seq_scan, 0) AS full, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) AS rows FROM pg_stat_user_tables
		WHERE relname IN (?)`, bun.List(tables)).Scan(b.Ctx, &rows))
	require.Len(b.T, rows, len(tables))
	out := map[string]tableReads{}
	for _, r := range rows {
		out[r.Relname] = tableReads{r.Full, r.Rows}
	}
	return out
}

// TestPlansOutliveSmallTables has a connection plan its statements while the tables are empty, as
// in a new installation. Then it asks what they read when there are many rows.
func TestPlansOutliveSmallTables(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	young := setupWith(t, url, func(o *db.Options) { o.MaxConns = 1 })
	sessions := young.sessions()
	store, err := db.Open(url, db.Options{SecretKey: make([]byte, 32), MaxConns: 1})
	require.NoError(t, err)
	b := &bench{&dbsetup.Bench{DB: store, T: t, Ctx: young.Ctx, Customer: young.Customer, Raw: young.Raw}}
	lives := func() {
		alone := b.acceptFor(dbsetup.Message("a@x.test"), delivery.NoOwner)
		_, err := b.Mail.Plan(b.Ctx, alone.ID)
		require.NoError(t, err)
		_, err = b.Mail.Message(b.Ctx, alone.ID)
		require.NoError(t, err)
		owner, o := b.Open(alone.ID, 1)
		require.Equal(t, delivery.VerdictOpened, o.Verdict)
		end := func(owner string, ids ...string) {
			var marks []delivery.Mark
			var endings []delivery.Ending
			var recs []delivery.RecordStatusInput
			for _, id := range ids {
				marks = append(marks, delivery.Mark{EmailID: id, Attempt: 1, Owner: owner, Relay: dbsetup.Relay, MessageSHA256: "5e", MessageBytes: 5})
				endings = append(endings, delivery.Ending{EmailID: id, Attempt: 1, Owner: owner, Relay: dbsetup.Relay})
				recs = append(recs, delivery.RecordStatusInput{EmailID: id, Attempt: 1})
			}
			for _, patch := range []func() ([]bool, error){
				func() ([]bool, error) { return b.Mail.MarkSent(b.Ctx, marks) },
				func() ([]bool, error) { return b.Mail.Finish(b.Ctx, endings) },
			} {
				ours, err := patch()
				require.NoError(t, err)
				require.NotContains(t, ours, false)
			}
			_, err = b.Mail.RecordMany(b.Ctx, recs)
			require.NoError(t, err)
		}
		end(owner, alone.ID)
		var ids []string
		var reqs []delivery.OpenRequest
		for range 3 {
			id := b.Accept(dbsetup.Message("a@x.test")).ID
			ids, reqs = append(ids, id), append(reqs, delivery.OpenRequest{EmailID: id, Attempt: 1, Owner: owner, Relay: dbsetup.Relay})
		}
		_, err = b.Mail.OpenMany(b.Ctx, reqs)
		require.NoError(t, err)
		end(owner, ids...)
	}
	for range 6 {
		lives()
	}
	require.NoError(t, dbtest.FillUnseen(b.Ctx, url, b.Customer, oldEmails(t)))
	before := b.reads()
	lives()
	require.NoError(t, store.Close())
	require.Eventually(t, func() bool { return b.sessions() == sessions }, 30*time.Second, 5*time.Millisecond, "the session ends")
	for table, n := range b.reads() {
		require.LessOrEqual(t, n.rows-before[table].rows, readsMax, "rows of %s", table)
	}
}
