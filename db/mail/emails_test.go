package mail_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/delivery"
)

// fullMessage has all that a message can have but attachments.
func fullMessage() email.Message {
	m := dbsetup.Message("bob@X.test", "eve@x.test")
	m.Cc = []email.Address{{Email: "carl@y.test", Name: "Carl", Label: "boss", Detail: "of all"}}
	m.Bcc = []email.Address{{Email: "secret@x.test"}}
	m.ReplyTo = []email.Address{{Email: "help@acme.test", Name: `He said "hi"`}}
	m.Subject, m.Text, m.HTML = "Größe ?0 ? $1 \\ '' <&>\u2028", "text ?0 ?\r\n\x7f", "<p>'\\n'</p>"
	m.Calendar = email.Calendar{Method: "REQUEST", ICS: "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n"}
	m.Headers = []email.Header{{Name: "X-One", Value: "<1&2>"}, {Name: "X-Two", Value: "zwei"}}
	m.Metadata = map[string]string{"order": "12345", "quote": `"'{}`}
	m.Tags = []string{"a", "b,c"}
	m.Stream, m.OnAmbiguous = email.StreamBroadcast, email.AmbiguousFail
	m.ExpiresAt = time.Now().Add(dbsetup.Day).UTC().Truncate(time.Microsecond)
	return m
}

func TestAMessageComesBackAsItWasAccepted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	big := make([]byte, 3*512<<10+17)
	_, err := rand.Read(big)
	require.NoError(t, err)
	m := fullMessage()
	m.SendAt = time.Now().Add(dbsetup.Day).UTC().Truncate(time.Microsecond)
	m.ExpiresAt = m.SendAt.Add(dbsetup.Day)
	m.Attachments = []email.Attachment{
		{Filename: "big.bin", Type: "application/octet-stream", Content: big},
		{Filename: "logo.png", Type: "image/png", ContentID: "logo", Content: []byte{0, 1, 2, 0xff}},
		{Filename: "empty.txt", Type: "text/plain", Content: []byte{}},
	}
	e := b.Accept(m)
	require.Equal(t, e, b.Get(e.ID), "the answer to the POST is what a GET gives")
	require.Equal(t, "email-"+e.ID, e.WorkflowID)
	require.Equal(t, email.ReferenceFile, e.Attachments[0].ReferenceType)
	require.Equal(t, int64(len(big)), e.Attachments[0].Size)
	require.Equal(t, 4, b.Count("SELECT count(*) FROM blob_chunks WHERE blob_id = ?", e.Attachments[0].BlobID))

	got, err := b.Mail.Message(b.Ctx, e.ID)
	require.NoError(t, err)
	require.True(t, bytes.Equal(big, got.Attachments[0].Content))
	require.Equal(t, []byte{0, 1, 2, 0xff}, got.Attachments[1].Content)
	for i := range got.Attachments {
		got.Attachments[i] = email.Attachment{Filename: m.Attachments[i].Filename, Type: m.Attachments[i].Type, ContentID: m.Attachments[i].ContentID, Content: m.Attachments[i].Content}
	}
	require.Equal(t, m, got)
}

func TestAReferenceIsStoredOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := dbsetup.Message("bob@x.test")
	m.Attachments = []email.Attachment{
		{ReferenceType: email.ReferenceRecording, ReferenceID: uuid.NewString()},
		{ReferenceType: email.ReferenceRecording, ReferenceID: uuid.NewString(), Optional: true},
	}
	e := b.Accept(m)
	plan, err := b.Mail.Plan(b.Ctx, e.ID)
	require.NoError(t, err)
	require.Len(t, plan.Unresolved, 2)
	require.Equal(t, []string{"x.test"}, plan.RecipientDomains)
	require.Equal(t, "acme.test", plan.Route.SenderDomain)
	_, err = b.Mail.Message(b.Ctx, e.ID)
	require.ErrorContains(t, err, "not stored", "never sent without its attachment")

	got := plan.Unresolved[0]
	got.Filename, got.Type = "call.wav", "audio/wav"
	stored, err := b.Mail.StoreAttachment(b.Ctx, b.Customer, got, strings.NewReader("RIFF"))
	require.NoError(t, err)
	require.Equal(t, dbsetup.HexSum([]byte("RIFF")), stored.SHA256)
	require.Equal(t, b.Get(e.ID).Attachments[0], stored)
	other, err := b.Mail.StoreAttachment(b.Ctx, b.Customer, got, strings.NewReader("other"))
	require.NoError(t, err)
	require.Equal(t, stored, other, "what is stored stays")
	require.Equal(t, 1, b.Count("SELECT count(*) FROM blobs"))
	missing := plan.Unresolved[1]
	missing.Problem = "not found"
	_, err = b.Mail.StoreAttachment(b.Ctx, b.Customer, missing, nil)
	require.NoError(t, err)
	back, err := b.Mail.Message(b.Ctx, e.ID)
	require.NoError(t, err)
	require.Len(t, back.Attachments, 1)
	require.Equal(t, []byte("RIFF"), back.Attachments[0].Content)
	require.Equal(t, "not found", b.Get(e.ID).Attachments[1].Problem)
}

func TestWhatIsFetchedCountsAgainstTheLimit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := dbsetup.Message("bob@x.test")
	m.Attachments = []email.Attachment{
		{Filename: "a", Type: "text/plain", Content: make([]byte, 1000)},
		{ReferenceType: email.ReferenceURL, URL: "https://cdn.test/a?key=1", Filename: "a.bin"},
		{ReferenceType: email.ReferenceURL, URL: "https://cdn.test/b"},
	}
	e := b.Accept(m)
	require.Equal(t, dbsetup.Untimed(e), dbsetup.Untimed(b.Get(e.ID)))
	plan, err := b.Mail.Plan(b.Ctx, e.ID)
	require.NoError(t, err)
	require.Equal(t, email.DefaultMaxMessageBytes-1002, plan.BytesLeft)
	require.Equal(t, len(m.To)+len(m.Cc)+len(m.Bcc), plan.State.Open, "a run says how many recipients are open before its first attempt")
	require.Equal(t, email.Attachment{ID: plan.Unresolved[0].ID, ReferenceType: email.ReferenceURL, URL: "https://cdn.test/a?key=1", Filename: "a.bin"}, plan.Unresolved[0])

	_, err = b.Mail.StoreAttachment(b.Ctx, b.Customer, plan.Unresolved[0], io.MultiReader(bytes.NewReader(make([]byte, 1<<20)), iotest.ErrReader(io.ErrUnexpectedEOF)))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, 1, b.Count("SELECT count(*) FROM blobs"), "the inline one")
	for range 2 {
		_, err = b.Mail.StoreAttachment(b.Ctx, b.Customer, plan.Unresolved[0], bytes.NewReader(make([]byte, 2000)))
		require.NoError(t, err)
	}
	plan, err = b.Mail.Plan(b.Ctx, e.ID)
	require.NoError(t, err)
	require.Len(t, plan.Unresolved, 1)
	require.Equal(t, int64(3002), plan.Route.Bytes)
	require.Equal(t, email.DefaultMaxMessageBytes-3002, plan.BytesLeft)
}

func TestListPagesThroughTies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 7 {
		b.Accept(dbsetup.Message("bob@x.test"))
	}
	b.Exec("UPDATE emails SET created_at = (SELECT min(created_at) FROM emails)")
	newest := b.Accept(dbsetup.Message("bob@x.test"))
	var ids []string
	var cursor email.Cursor
	for {
		es, next, err := b.Mail.Emails(b.Ctx, b.Customer, email.Filter{}, cursor, 3)
		require.NoError(t, err)
		for _, e := range es {
			ids = append(ids, e.ID)
		}
		if next == nil {
			break
		}
		cursor = *next
	}
	require.Len(t, ids, 8)
	require.Equal(t, newest.ID, ids[0])
	seen := map[string]bool{}
	for _, id := range ids {
		require.False(t, seen[id])
		seen[id] = true
	}
	es, next, err := b.Mail.Emails(b.Ctx, b.Customer, email.Filter{}, email.Cursor{At: newest.CreatedAt}, 100)
	require.NoError(t, err)
	require.Len(t, es, 7, "a bare time means older than")
	require.Nil(t, next)
}

func TestAnotherCustomersMailIsNotThere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	other, _, err := b.Accounts.CreateCustomer(b.Ctx, "Other", "", "")
	require.NoError(t, err)
	_, err = b.Mail.Email(b.Ctx, other.ID, e.ID)
	require.Equal(t, email.CodeNotFound, email.FailureCode(err))
	_, _, err = b.Mail.Delete(b.Ctx, other.ID, e.ID)
	require.Equal(t, email.CodeNotFound, email.FailureCode(err))
	require.Equal(t, email.StatusQueued, b.Get(e.ID).Status)
	es, _, err := b.Mail.Emails(b.Ctx, other.ID, email.Filter{}, email.Cursor{}, 100)
	require.NoError(t, err)
	require.Empty(t, es)
}

func TestDeleteCancelsWhatIsNotSent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	got, wakes, err := b.Mail.Delete(b.Ctx, b.Customer, e.ID)
	require.NoError(t, err)
	require.Len(t, wakes, 1)
	require.Equal(t, email.StatusCanceled, got.Status)
	require.False(t, got.DeletedAt.IsZero())
	es, _, err := b.Mail.Emails(b.Ctx, b.Customer, email.Filter{}, email.Cursor{}, 100)
	require.NoError(t, err)
	require.Empty(t, es, "gone from lists")
	again, wakes, err := b.Mail.Delete(b.Ctx, b.Customer, e.ID)
	require.NoError(t, err)
	require.Empty(t, wakes)
	require.Equal(t, got, again, "readable by id, and unchanged")

	sent := b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(sent.ID, 1, dbsetup.Delivered)
	got, wakes, err = b.Mail.Delete(b.Ctx, b.Customer, sent.ID)
	require.NoError(t, err)
	require.Empty(t, wakes)
	require.Equal(t, email.StatusDelivered, got.Status, "what is sent stays sent")
}

func TestSenderDomainsAreRequired(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	store, err := db.Open(url, db.Options{SecretKey: make([]byte, 32), RequireVerifiedDomains: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	ctx := t.Context()
	cust, _, err := store.Accounts.CreateCustomer(ctx, "ACME", "", "")
	require.NoError(t, err)
	accept := func() error {
		_, _, err := store.Mail.Accept(ctx, cust.ID, dbsetup.Message("bob@x.test"), uuid.NewString(), email.Idempotency{})
		return err
	}
	require.Equal(t, email.CodeDomainUnverified, email.FailureCode(accept()))
	_, err = store.Accounts.AddDomain(ctx, cust.ID, "acme.test", false)
	require.NoError(t, err)
	require.Equal(t, email.CodeDomainUnverified, email.FailureCode(accept()), "claimed is not proven")
	d, err := store.Accounts.AddDomain(ctx, cust.ID, "acme.test", true)
	require.NoError(t, err)
	require.False(t, d.VerifiedAt.IsZero())
	require.NoError(t, accept())
	es, _, err := store.Mail.Emails(ctx, cust.ID, email.Filter{}, email.Cursor{}, 10)
	require.NoError(t, err)
	require.Len(t, es, 1, "what was refused left nothing")

	other, _, err := store.Accounts.CreateCustomer(ctx, "Other", "", "")
	require.NoError(t, err)
	_, err = store.Accounts.AddDomain(ctx, other.ID, "acme.test", true)
	require.Equal(t, email.CodeConflict, email.FailureCode(err))
	_, err = store.Accounts.AddDomain(ctx, other.ID, "acme.test", false)
	require.NoError(t, err)
}

func TestOutboxLeases(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	owner := uuid.NewString()
	got, err := b.Mail.ClaimStarts(b.Ctx, delivery.Claim{Stream: email.StreamTransactional, Owner: owner, Lease: time.Minute, Limit: 10})
	require.NoError(t, err)
	require.Empty(t, got, "leased to the process that accepted it")
	b.Exec("UPDATE outbox SET lease_until = now() - interval '1 second'")
	got, err = b.Mail.ClaimStarts(b.Ctx, delivery.Claim{Stream: email.StreamTransactional, Owner: owner, Lease: time.Minute, Limit: 10})
	require.NoError(t, err)
	require.Equal(t, []delivery.Start{{EmailID: e.ID, WorkflowID: e.WorkflowID, CustomerID: b.Customer, Stream: email.StreamTransactional}}, got)
	got, err = b.Mail.ClaimStarts(b.Ctx, delivery.Claim{Stream: email.StreamTransactional, Owner: owner, Lease: time.Minute, Limit: 10})
	require.NoError(t, err)
	require.Empty(t, got)

	later := dbsetup.Message("bob@x.test")
	later.SendAt = time.Now().Add(dbsetup.Day)
	s := b.Accept(later)
	_, err = b.Mail.Plan(b.Ctx, s.ID)
	require.NoError(t, err)
	require.Equal(t, 1, b.Count("SELECT count(*) FROM outbox"), "a run that waits needs no starting")

	_, _, err = b.Mail.Delete(b.Ctx, b.Customer, e.ID)
	require.NoError(t, err)
	p, err := b.Mail.Plan(b.Ctx, e.ID)
	require.NoError(t, err)
	require.True(t, p.State.Final)
	require.Zero(t, b.Count("SELECT count(*) FROM outbox"), "nor does one that finds everything done: it would be started for ever")
}

func TestHousekeeping(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, open := b.Accept(dbsetup.Message("bob@x.test")), b.Accept(dbsetup.Message("bob@x.test"))
	_, _, err := b.Mail.ControlFor(b.Ctx, b.Customer, e.ID, email.Control{Action: email.ActionCancel})
	require.NoError(t, err)
	blob := func(expires string) {
		b.Exec("INSERT INTO blobs (id, customer_id, size, sha256, created_at, expires_at) VALUES (gen_random_uuid(), ?, 0, repeat('0', 64), now(), now() + ?::interval)",
			b.Customer, expires)
	}
	blob("-1 second")
	blob("1 minute")
	require.NoError(t, b.Mail.Housekeep(b.Ctx))
	require.Equal(t, 1, b.Count("SELECT count(*) FROM outbox"), "what is finished needs no run")
	require.Equal(t, 1, b.Count("SELECT count(*) FROM outbox WHERE email_id = ?", open.ID))
	require.Equal(t, 1, b.Count("SELECT count(*) FROM blobs"), "what broke off with its process is gone, what is under way is not")
	require.Equal(t, email.StatusCanceled, b.Get(e.ID).Status)
}

func TestOverdueIsFoundOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	got, err := b.Mail.ClaimOverdue(b.Ctx, 10)
	require.NoError(t, err)
	require.Empty(t, got)
	b.Exec("UPDATE emails SET next_action_at = now() - interval '11 minutes'")
	got, err = b.Mail.ClaimOverdue(b.Ctx, 10)
	require.NoError(t, err)
	require.Equal(t, e.ID, got[0].EmailID)
	got, err = b.Mail.ClaimOverdue(b.Ctx, 10)
	require.NoError(t, err)
	require.Empty(t, got)

	require.NoError(t, b.Mail.ReturnOverdue(b.Ctx, []delivery.Start{delivery.RunOf(e)}))
	got, err = b.Mail.ClaimOverdue(b.Ctx, 10)
	require.NoError(t, err)
	require.Equal(t, e.ID, got[0].EmailID, "Temporal did not answer")
	b.Exec("UPDATE emails SET next_action_at = now() + interval '1 minute'")
	require.NoError(t, b.Mail.ReturnOverdue(b.Ctx, []delivery.Start{delivery.RunOf(e)}))
	got, err = b.Mail.ClaimOverdue(b.Ctx, 10)
	require.NoError(t, err)
	require.Empty(t, got, "it has gone on")

	// E-mails that wait for a relay are late for a reason, as long as the relay fails.
	failed := delivery.RelayState{Name: "primary", Address: "mx.test:25", Shared: true, Reply: email.Reply{Code: 421}}
	_, err = b.Mail.RelayFailed(b.Ctx, failed, uuid.NewString())
	require.NoError(t, err)
	// probed is when the relay is to be probed next, in minutes from now.
	probed := func(minutes int) {
		b.Exec(fmt.Sprintf("UPDATE relay_states SET changed_at = now() - interval '1 day', next_at = now() + interval '%d minutes'", minutes))
	}
	claimed := func(minutes int) int {
		b.Exec(fmt.Sprintf("UPDATE emails SET relay_down = true, relay_down_by = 'primary', next_action_at = now() - interval '%d minutes'", minutes))
		got, err := b.Mail.ClaimOverdue(b.Ctx, 10)
		require.NoError(t, err)
		return len(got)
	}
	require.Equal(t, 0, claimed(24*60-1))
	require.Equal(t, 1, claimed(24*60+1))
	probed(-9)
	require.Equal(t, 0, claimed(11))
	probed(-11)
	require.Equal(t, 1, claimed(11), "no worker has the relay any more")
	require.Equal(t, 0, claimed(9))
	require.NoError(t, b.Mail.RelayRecovered(b.Ctx, failed.Name, failed.Address))
	require.Equal(t, 0, claimed(11), "its run follows within six minutes")
	b.Exec("UPDATE relay_states SET changed_at = now() - interval '7 minutes'")
	require.Equal(t, 0, claimed(9))
	require.Equal(t, 1, claimed(11), "the relay works, and its run does not try")
}

func TestIdempotencyKeysAreForgotten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	accept := func(key, fingerprint string) (email.Email, bool, error) {
		return b.Mail.Accept(b.Ctx, b.Customer, dbsetup.Message("bob@x.test"), uuid.NewString(), email.Idempotency{Key: key, Fingerprint: fingerprint})
	}
	first, replayed, err := accept("k", "a")
	require.NoError(t, err)
	require.False(t, replayed)
	b.Attempt(first.ID, 1, dbsetup.Delivered)
	again, replayed, err := accept("k", "a")
	require.NoError(t, err)
	require.True(t, replayed)
	require.Equal(t, first, again, "as it was answered then")
	_, _, err = accept("k", "b")
	require.Equal(t, email.CodeIdempotencyConflict, email.FailureCode(err))
	require.NoError(t, b.Mail.Housekeep(b.Ctx))
	require.Equal(t, 1, b.Count("SELECT count(*) FROM idempotency_keys"), "still in its time")

	b.Exec("UPDATE idempotency_keys SET created_at = now() - interval '8 days'")
	other, replayed, err := accept("k", "b")
	require.NoError(t, err)
	require.False(t, replayed, "a key past its time is free")
	require.NotEqual(t, first.ID, other.ID)
	b.Exec("UPDATE idempotency_keys SET created_at = now() - interval '8 days'")
	require.NoError(t, b.Mail.Housekeep(b.Ctx))
	require.Zero(t, b.Count("SELECT count(*) FROM idempotency_keys"))
	require.Equal(t, 2, b.Count("SELECT count(*) FROM emails"))
}

func TestKeysAndUsers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	key, token, err := b.Accounts.CreateAccessKey(b.Ctx, account.AccessKey{CustomerID: b.Customer, Name: "ci", Scopes: account.Scopes()})
	require.NoError(t, err)
	require.Zero(t, b.Count("SELECT count(*) FROM access_keys WHERE position(? in encode(token_hash, 'escape')) > 0", token))
	grant, err := b.Accounts.GrantByToken(b.Ctx, token)
	require.NoError(t, err)
	require.Equal(t, b.Customer, grant.Customer.ID)
	require.Equal(t, account.Scopes(), grant.Scopes)
	_, expired, err := b.Accounts.CreateAccessKey(b.Ctx, account.AccessKey{CustomerID: b.Customer, Name: "old", ExpiresAt: time.Now().Add(-time.Second)})
	require.NoError(t, err)
	for _, bad := range []string{expired, token + "x", "pr_", ""} {
		_, err = b.Accounts.GrantByToken(b.Ctx, bad)
		require.Equal(t, email.CodeUnauthorized, email.FailureCode(err), bad)
	}
	_, err = b.Accounts.DeleteAccessKey(b.Ctx, b.Customer, key.ID)
	require.NoError(t, err)
	_, err = b.Accounts.GrantByToken(b.Ctx, token)
	require.Equal(t, email.CodeUnauthorized, email.FailureCode(err))
	keys, _, err := b.Accounts.AccessKeys(b.Ctx, b.Customer, email.Cursor{}, 10)
	require.NoError(t, err)
	require.Len(t, keys, 1)

	_, err = b.Accounts.CreateUser(b.Ctx, b.Customer, "ann", "correct horse", false)
	require.NoError(t, err)
	_, err = b.Accounts.CreateUser(b.Ctx, b.Customer, "ann", "x", false)
	require.Equal(t, email.CodeConflict, email.FailureCode(err))
	u, err := b.Accounts.Authenticate(b.Ctx, "ann", "correct horse")
	require.NoError(t, err)
	require.Equal(t, b.Customer, u.CustomerID)
	for _, tc := range [][2]string{{"ann", "wrong"}, {"nobody", ""}, {"", ""}, {"nobody", "correct horse"}} {
		_, err = b.Accounts.Authenticate(b.Ctx, tc[0], tc[1])
		require.Equal(t, email.CodeUnauthorized, email.FailureCode(err), fmt.Sprint(tc))
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "localhost", "mysql://x/y", "postgres://h", "postgres://h/db?sslmode=nonsense"} {
		_, err := db.Open(url, db.Options{SecretKey: make([]byte, 32)})
		require.ErrorContains(t, err, "DATABASE_URL", url)
	}
	_, err := db.Open("postgres://h/db", db.Options{SecretKey: []byte("short")})
	require.ErrorContains(t, err, "POSTRIDER_SECRET_KEY")
	store, err := db.Open("postgres://u:p@127.0.0.1:1/db?sslmode=disable", db.Options{SecretKey: make([]byte, 32)})
	require.NoError(t, err)
	require.Equal(t, email.CodeUnavailable, email.FailureCode(store.Ready(t.Context())))
}
