// Package dbsetup is what the tests of db and its parts share: a store on a database of its own,
// and short ways to take an e-mail through its life.
package dbsetup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/endpoint"
)

// Bench is a store on a database of its own, with one customer, and a raw connection to look
// behind it.
type Bench struct {
	*db.DB
	T        testing.TB
	Ctx      context.Context
	Raw      *bun.DB
	Customer string
}

// New makes a Bench on a database of its own.
func New(t testing.TB) *Bench {
	t.Helper()
	return On(t, dbtest.URL(t))
}

// On makes a Bench on a database.
func On(t testing.TB, url string) *Bench {
	t.Helper()
	return With(t, url, func(*db.Options) {})
}

// With makes a Bench on a database, with options that change has changed.
func With(t testing.TB, url string, change func(*db.Options)) *Bench {
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
	b := &Bench{DB: store, T: t, Ctx: t.Context(), Raw: raw}
	cust, _, err := store.Accounts.CreateCustomer(b.Ctx, "ACME", "", "")
	require.NoError(t, err)
	b.Customer = cust.ID
	return b
}

// Control carries out an operator's action on an e-mail.
func (b *Bench) Control(id string, action email.Action) error {
	_, err := b.Mail.Control(b.Ctx, id, email.Control{Action: action})
	return err
}

// PDF is a file without its content.
var PDF = email.File{Filename: "report.pdf", Type: "application/pdf"}

// HexSum is the digest of data as files have it.
func HexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// StoreFile stores a file of the customer.
func (b *Bench) StoreFile(content []byte) email.File {
	b.T.Helper()
	f, err := b.Files.StoreFile(b.Ctx, b.Customer, PDF, bytes.NewReader(content))
	require.NoError(b.T, err)
	return f
}

// Reference is an attachment that refers to a file.
func Reference(f email.File) email.Attachment {
	return email.Attachment{ReferenceType: email.ReferenceFile, ReferenceID: f.ID}
}

// Message is a short one to some recipients.
func Message(to ...string) email.Message {
	m := email.Message{From: email.Address{Email: "shop@acme.test", Name: "ACME"}, Subject: "Hello", Text: "Hi"}
	for _, a := range to {
		m.To = append(m.To, email.Address{Email: a})
	}
	return m
}

// Accept accepts a message of the customer.
func (b *Bench) Accept(m email.Message) email.Email {
	b.T.Helper()
	e, _, err := b.Mail.Accept(b.Ctx, b.Customer, m, uuid.NewString(), email.Idempotency{})
	require.NoError(b.T, err)
	return e
}

// Get reads an e-mail of the customer.
func (b *Bench) Get(id string) email.Email {
	b.T.Helper()
	e, err := b.Mail.Email(b.Ctx, b.Customer, id)
	require.NoError(b.T, err)
	return e
}

// Untimed is an e-mail without the times of its next attempts: a read shows due as due now, so two
// reads differ.
func Untimed(e email.Email) email.Email {
	e.NextAttemptAt = time.Time{}
	e.Recipients = slices.Clone(e.Recipients)
	for i := range e.Recipients {
		e.Recipients[i].NextAttemptAt = time.Time{}
	}
	return e
}

// Relay is the one that Open names.
var Relay = email.Relay{Name: "primary", Host: "mx.test", Accepts: email.AcceptsRelay}

// Open opens an attempt and returns the owner and the gate's answer.
func (b *Bench) Open(id string, attempt int) (string, delivery.Opening) {
	b.T.Helper()
	owner := uuid.NewString()
	o, err := b.Mail.Open(b.Ctx, delivery.OpenRequest{EmailID: id, Attempt: attempt, Owner: owner, Relay: Relay})
	require.NoError(b.T, err)
	return owner, o
}

// Mark marks the attempt before its final dot.
func (b *Bench) Mark(id string, attempt int, owner string, ifSilent ...delivery.Outcome) error {
	return owned(b.Mail.MarkSent(b.Ctx, []delivery.Mark{{EmailID: id, Attempt: attempt, Owner: owner, Relay: Relay, IfSilent: ifSilent, MessageSHA256: "abc", MessageBytes: 3}}))
}

// Finish writes the attempt's outcomes into the journal.
func (b *Bench) Finish(id string, attempt int, owner string, outcomes ...delivery.Outcome) error {
	return owned(b.Mail.Finish(b.Ctx, []delivery.Ending{{EmailID: id, Attempt: attempt, Owner: owner, Relay: Relay, Outcomes: outcomes, Transcript: transcript}}))
}

var transcript = []email.Step{{Command: "MAIL FROM", Reply: email.Reply{Code: 250}}}

func owned(ours []bool, err error) error {
	if err == nil && !ours[0] {
		return delivery.ErrSuperseded
	}
	return err
}

// Record projects the attempt's outcomes.
func (b *Bench) Record(id string, attempt int) delivery.Recorded {
	b.T.Helper()
	r, err := b.Mail.Record(b.Ctx, delivery.RecordStatusInput{EmailID: id, Attempt: attempt})
	require.NoError(b.T, err)
	return r
}

// deliver takes an e-mail through one whole attempt.
func (b *Bench) Attempt(id string, n int, outcome func(r delivery.EnvelopeRecipient) delivery.Outcome) delivery.Recorded {
	b.T.Helper()
	owner, o := b.Open(id, n)
	require.Equal(b.T, delivery.VerdictOpened, o.Verdict)
	var outs []delivery.Outcome
	for _, r := range o.Recipients {
		out := outcome(r)
		out.RecipientID = r.ID
		outs = append(outs, out)
	}
	require.NoError(b.T, b.Mark(id, n, owner, Ambiguous(o)...))
	end, err := b.Mail.Conclude(b.Ctx, delivery.Ending{EmailID: id, Attempt: n, Owner: owner, Relay: Relay, Outcomes: outs, Transcript: transcript})
	require.NoError(b.T, err)
	require.True(b.T, end.Ours)
	require.NotNil(b.T, end.Recorded)
	again := b.Record(id, n)
	// Time goes on between the two, and a relay's words are not the e-mail's.
	again.State.Waiting, again.State.NextAt, again.State.Last = end.Recorded.State.Waiting, end.Recorded.State.NextAt, end.Recorded.State.Last
	require.Equal(b.T, *end.Recorded, again, "recording it again changes nothing")
	return *end.Recorded
}

// Delivered is a recipient's outcome, for Attempt.
func Delivered(delivery.EnvelopeRecipient) delivery.Outcome {
	return delivery.Outcome{Status: email.RecipientDelivered, Reply: email.Reply{Code: 250, Enhanced: "2.0.0", Text: "queued"}}
}

// Deferred is a recipient's outcome, for Attempt.
func Deferred(delivery.EnvelopeRecipient) delivery.Outcome {
	return delivery.Outcome{Status: email.RecipientDeferred, Reply: email.Reply{Code: 451, Enhanced: "4.7.1", Text: "greylisted bob@x.test"}}
}

// Ambiguous are the outcomes of an attempt of which no reply came.
func Ambiguous(o delivery.Opening) []delivery.Outcome {
	var outs []delivery.Outcome
	for _, r := range o.Recipients {
		outs = append(outs, delivery.Outcome{RecipientID: r.ID, Status: email.RecipientDeferred, Reason: email.DetailAmbiguous})
	}
	return outs
}

// Exec changes rows behind the store's back, to make time pass.
func (b *Bench) Exec(query string, args ...any) {
	b.T.Helper()
	_, err := b.Raw.ExecContext(b.Ctx, query, args...)
	require.NoError(b.T, err)
}

// Count is the number that a query answers with.
func (b *Bench) Count(query string, args ...any) int {
	b.T.Helper()
	var n int
	require.NoError(b.T, b.Raw.NewRaw(query, args...).Scan(b.Ctx, &n))
	return n
}

// Events are the types of an e-mail's events, in order.
func (b *Bench) Events(id string) []string {
	b.T.Helper()
	var types []string
	require.NoError(b.T, b.Raw.NewRaw("SELECT type FROM email_events WHERE email_id = ? ORDER BY sequence", id).Scan(b.Ctx, &types))
	return types
}

// DueNow makes everything that waits for a time due.
func (b *Bench) DueNow(id string) {
	b.Exec("UPDATE recipients SET next_attempt_at = now() WHERE email_id = ? AND next_attempt_at IS NOT NULL", id)
	b.Exec("UPDATE emails SET next_action_at = now() WHERE id = ? AND next_action_at IS NOT NULL", id)
}

// Day is one of 24 hours.
const Day = 24 * time.Hour
