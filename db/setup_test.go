package db_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"

	"database/sql"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/endpoint"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// bench is a store on a database of its own, with one customer, and a raw
// connection to look behind it.
type bench struct {
	*db.Store
	t        *testing.T
	ctx      context.Context
	raw      *bun.DB
	customer string
}

func setup(t *testing.T) *bench {
	t.Helper()
	return setupOn(t, dbtest.URL(t))
}

func setupOn(t *testing.T, url string) *bench {
	t.Helper()
	return setupWith(t, url, func(*db.Options) {})
}

func setupWith(t *testing.T, url string, change func(*db.Options)) *bench {
	t.Helper()
	opts := db.Options{
		SecretKey: make([]byte, 32), MaxConns: 10,
		WebhookBody: func(f endpoint.Format, ev email.Event, e email.Email) (string, []byte, error) {
			body, err := json.Marshal(map[string]any{"type": ev.Type, "sequence": ev.Sequence, "email_id": e.ID, "text": e.Text})
			if f == endpoint.FormatVoIPBIN {
				return "email_updated", body, err
			}
			return string(ev.Type), body, err
		},
	}
	change(&opts)
	store, err := db.Open(url, opts)
	require.NoError(t, err)
	raw := bun.NewDB(sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(url))), pgdialect.New())
	t.Cleanup(func() {
		require.NoError(t, raw.Close())
		require.NoError(t, store.Close())
	})
	b := &bench{Store: store, t: t, ctx: t.Context(), raw: raw}
	cust, _, err := store.CreateCustomer(b.ctx, "ACME", "", "")
	require.NoError(t, err)
	b.customer = cust.ID
	return b
}

func message(to ...string) email.Message {
	m := email.Message{From: email.Address{Email: "shop@acme.test", Name: "ACME"}, Subject: "Hello", Text: "Hi"}
	for _, a := range to {
		m.To = append(m.To, email.Address{Email: a})
	}
	return m
}

func (b *bench) accept(m email.Message) email.Email {
	b.t.Helper()
	e, _, err := b.Accept(b.ctx, b.customer, m, uuid.NewString(), email.Idempotency{})
	require.NoError(b.t, err)
	return e
}

func (b *bench) get(id string) email.Email {
	b.t.Helper()
	e, err := b.Email(b.ctx, b.customer, id)
	require.NoError(b.t, err)
	return e
}

// untimed is an e-mail without the times of its next attempts: what is due is due now, each
// time that somebody asks.
func untimed(e email.Email) email.Email {
	e.NextAttemptAt = time.Time{}
	e.Recipients = slices.Clone(e.Recipients)
	for i := range e.Recipients {
		e.Recipients[i].NextAttemptAt = time.Time{}
	}
	return e
}

var testRelay = email.Relay{Name: "primary", Host: "mx.test", Accepts: email.AcceptsRelay}

// open opens an attempt and returns the owner and the gate's answer.
func (b *bench) open(id string, attempt int) (string, delivery.Opening) {
	b.t.Helper()
	owner := uuid.NewString()
	os, err := b.Open(b.ctx, []delivery.OpenRequest{{EmailID: id, Attempt: attempt, Owner: owner, Relay: testRelay}})
	require.NoError(b.t, err)
	return owner, os[0]
}

func (b *bench) mark(id string, attempt int, owner string, ifSilent ...delivery.Outcome) error {
	return owned(b.MarkSent(b.ctx, []delivery.Mark{{EmailID: id, Attempt: attempt, Owner: owner, Relay: testRelay, IfSilent: ifSilent, MessageSHA256: "abc", MessageBytes: 3}}))
}

func (b *bench) finish(id string, attempt int, owner string, outcomes ...delivery.Outcome) error {
	return owned(b.Finish(b.ctx, []delivery.Ending{{EmailID: id, Attempt: attempt, Owner: owner, Relay: testRelay, Outcomes: outcomes,
		Transcript: []email.Step{{Command: "MAIL FROM", Reply: email.Reply{Code: 250}}}}}))
}

func owned(ours []bool, err error) error {
	if err == nil && !ours[0] {
		return delivery.ErrSuperseded
	}
	return err
}

func (b *bench) record(id string, attempt int) delivery.Recorded {
	b.t.Helper()
	r, err := b.Record(b.ctx, delivery.RecordStatusInput{EmailID: id, Attempt: attempt})
	require.NoError(b.t, err)
	return r
}

// deliver takes an e-mail through one whole attempt.
func (b *bench) attempt(id string, n int, outcome func(r delivery.EnvelopeRecipient) delivery.Outcome) delivery.Recorded {
	b.t.Helper()
	owner, o := b.open(id, n)
	require.Equal(b.t, delivery.VerdictOpened, o.Verdict)
	var outs []delivery.Outcome
	for _, r := range o.Recipients {
		out := outcome(r)
		out.RecipientID = r.ID
		outs = append(outs, out)
	}
	require.NoError(b.t, b.mark(id, n, owner, ambiguous(o)...))
	require.NoError(b.t, b.finish(id, n, owner, outs...))
	return b.record(id, n)
}

func delivered(delivery.EnvelopeRecipient) delivery.Outcome {
	return delivery.Outcome{Status: email.RecipientDelivered, Reply: email.Reply{Code: 250, Enhanced: "2.0.0", Text: "queued"}}
}

func deferred(delivery.EnvelopeRecipient) delivery.Outcome {
	return delivery.Outcome{Status: email.RecipientDeferred, Reply: email.Reply{Code: 451, Enhanced: "4.7.1", Text: "greylisted bob@x.test"}}
}

func ambiguous(o delivery.Opening) []delivery.Outcome {
	var outs []delivery.Outcome
	for _, r := range o.Recipients {
		outs = append(outs, delivery.Outcome{RecipientID: r.ID, Status: email.RecipientDeferred, Reason: email.DetailAmbiguous})
	}
	return outs
}

// exec changes rows behind the store's back, to make time pass.
func (b *bench) exec(query string, args ...any) {
	b.t.Helper()
	_, err := b.raw.ExecContext(b.ctx, query, args...)
	require.NoError(b.t, err)
}

func (b *bench) count(query string, args ...any) int {
	b.t.Helper()
	var n int
	require.NoError(b.t, b.raw.NewRaw(query, args...).Scan(b.ctx, &n))
	return n
}

func (b *bench) events(id string) []string {
	b.t.Helper()
	var types []string
	require.NoError(b.t, b.raw.NewRaw("SELECT type FROM email_events WHERE email_id = ? ORDER BY sequence", id).Scan(b.ctx, &types))
	return types
}

// dueNow makes everything that waits for a time due.
func (b *bench) dueNow(id string) {
	b.exec("UPDATE recipients SET next_attempt_at = now() WHERE email_id = ? AND next_attempt_at IS NOT NULL", id)
	b.exec("UPDATE emails SET next_action_at = now() WHERE id = ? AND next_action_at IS NOT NULL", id)
}

const day = 24 * time.Hour
