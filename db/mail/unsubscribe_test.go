package mail_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/suppression"
	"github.com/postrider/postrider/internal/unsubscribe"
)

// newsletter is a message with a link to unsubscribe by.
func newsletter(to, topic string) email.Message {
	m := dbsetup.Message(to)
	m.Stream, m.Unsubscribe, m.Topic = email.StreamBroadcast, true, topic
	return m
}

// opened begins an attempt, which sends the message, and is deferred.
func (b *bench) opened(id string, n int) delivery.Opening {
	b.T.Helper()
	b.DueNow(id)
	owner := uuid.NewString()
	o, err := b.Mail.Open(b.Ctx, delivery.OpenRequest{EmailID: id, Attempt: n, Owner: owner, Relay: dbsetup.Relay})
	require.NoError(b.T, err)
	require.Equal(b.T, delivery.VerdictOpened, o.Verdict)
	out := dbsetup.Deferred(o.Recipients[0])
	out.RecipientID = o.Recipients[0].ID
	require.NoError(b.T, b.Mark(id, n, owner, out))
	_, err = b.Mail.Conclude(b.Ctx, delivery.Ending{EmailID: id, Attempt: n, Owner: owner, Relay: dbsetup.Relay, Outcomes: []delivery.Outcome{out}})
	require.NoError(b.T, err)
	return o
}

// TestTheLinkIsSettledWithTheFirstAttempt: the public address may change at any time, and a process that sends may
// not know it.
func TestTheLinkIsSettledWithTheFirstAttempt(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	with := func(base string) *bench { return setupWith(t, url, func(o *db.Options) { o.LinkBase = base }) }
	accepting := with("https://old.test")
	for name, tt := range map[string]struct{ first, want string }{
		"a process without the address": {"", "https://old.test/u/"},
		"another address":               {"https://new.test/mail", "https://new.test/mail/u/"},
	} {
		sending := with(tt.first)
		e := accepting.Accept(newsletter("bob@x.test", "news"))
		first := sending.opened(e.ID, 1)
		require.True(t, strings.HasPrefix(first.UnsubscribeURL, tt.want), "%s: %s", name, first.UnsubscribeURL)
		require.True(t, strings.HasPrefix(first.FeedbackID, "news:"+e.CustomerID+":"), first.FeedbackID)
		second := with("https://newest.test").opened(e.ID, 2)
		require.Equal(t, first.Settled, second.Settled, "a second copy has the same bytes")
	}
	o := accepting.opened(accepting.Accept(dbsetup.Message("bob@x.test")).ID, 1)
	require.Empty(t, o.UnsubscribeURL+o.FeedbackID, "who cannot unsubscribe has no link")
}

// TestEachCopyOfABatchHasItsOwnLink, and each is of its own recipient.
func TestEachCopyOfABatchHasItsOwnLink(t *testing.T) {
	t.Parallel()
	b := setupWith(t, dbtest.URL(t), func(o *db.Options) { o.LinkBase = "https://mail.test" })
	batch, _ := b.acceptBatch(batchOf(3, func(_ int, m *email.Message) error {
		m.Unsubscribe, m.Topic = true, "news"
		return nil
	}))
	_, opened, _ := b.openBatch(batch.ID, 10)
	require.Len(t, opened, 3)
	seen := map[string]bool{}
	for _, o := range opened {
		seen[o.UnsubscribeURL] = true
		s, err := b.Mail.Subscription(b.Ctx, strings.TrimPrefix(o.UnsubscribeURL, "https://mail.test"+unsubscribe.Path))
		require.NoError(t, err)
		require.Equal(t, email.MaskAddress(o.Recipients[0].Address), s.Recipient)
		require.Equal(t, unsubscribe.Subscribed, s.State)
	}
	require.Len(t, seen, 3)
}

// TestUnsubscribingWorksAfterTheEmailHasEnded, and after it was deleted from lists.
func TestUnsubscribingWorksAfterTheEmailHasEnded(t *testing.T) {
	t.Parallel()
	b := setupWith(t, dbtest.URL(t), func(o *db.Options) { o.LinkBase = "https://mail.test" })
	e := b.Accept(newsletter("bob@x.test", ""))
	token := strings.TrimPrefix(b.opened(e.ID, 1).UnsubscribeURL, "https://mail.test"+unsubscribe.Path)
	_, _, err := b.Mail.Delete(b.Ctx, b.Customer, e.ID)
	require.NoError(t, err)
	require.Equal(t, email.StatusCanceled, b.Get(e.ID).Status)
	for range 2 {
		s, err := b.Mail.Unsubscribe(b.Ctx, token)
		require.NoError(t, err)
		require.Equal(t, unsubscribe.Unsubscribed, s.State)
	}
	require.Equal(t, email.StatusCanceled, b.Get(e.ID).Status, "its status stays")
	events, _, err := b.Mail.EmailEvents(b.Ctx, b.Customer, e.ID, 0)
	require.NoError(t, err)
	require.Equal(t, email.EventUnsubscribed, events[len(events)-1].Type)
	require.Equal(t, b.Get(e.ID).Recipients[0].ID, events[len(events)-1].RecipientID)

	b.Exec("INSERT INTO suppressions (id, customer_id, address_key, address, scope, target, reason, source) SELECT gen_random_uuid(), id, 'k', '*@x.test', 'stream', 'broadcast', 'manual', 'manual' FROM customers LIMIT 1")
	s, err := b.Mail.Resubscribe(b.Ctx, token)
	require.NoError(t, err)
	require.Equal(t, unsubscribe.Subscribed, s.State, "an entry for a domain is not the recipient's")
	_, err = b.Mail.Unsubscribe(b.Ctx, token+"a")
	f, ok := errors.AsType[*email.Failure](err)
	require.True(t, ok)
	require.Equal(t, email.CodeNotFound, f.Code)
}

// TestUndoBringsBackWhatWasThere: an entry that ends sooner than the unsubscription is replaced by it, and not lost.
func TestUndoBringsBackWhatWasThere(t *testing.T) {
	t.Parallel()
	b := setupWith(t, dbtest.URL(t), func(o *db.Options) { o.LinkBase = "https://mail.test" })
	token := strings.TrimPrefix(b.opened(b.Accept(newsletter("bob@x.test", "")).ID, 1).UnsubscribeURL, "https://mail.test"+unsubscribe.Path)
	b.list("bob@x.test", func(e *suppression.Entry) {
		e.Scope, e.Target = suppression.ScopeOf("")
		e.ExpiresAt = time.Now().Add(time.Hour)
	})
	b.Exec("UPDATE suppressions SET note = 'until the audit'")
	const customers = "SELECT count(*) FROM suppressions WHERE source = 'manual' AND reason = 'manual' AND note = 'until the audit' AND expires_at < now() + interval '2 hours' AND replaced IS NULL"
	for range 2 {
		require.Equal(t, 1, b.Count(customers))
		s, err := b.Mail.Unsubscribe(b.Ctx, token)
		require.NoError(t, err)
		require.Equal(t, unsubscribe.Unsubscribed, s.State)
		require.Equal(t, 1, b.Count("SELECT count(*) FROM suppressions WHERE source = 'recipient' AND expires_at IS NULL"))
		s, err = b.Mail.Resubscribe(b.Ctx, token)
		require.NoError(t, err)
		require.Equal(t, unsubscribe.Elsewhere, s.State)
	}
	require.Equal(t, 1, b.Count(customers))
	_, err := b.Mail.Unsubscribe(b.Ctx, token)
	require.NoError(t, err)
	b.Exec("UPDATE suppressions SET replaced = jsonb_set(replaced, '{expires_at}', to_jsonb(now()))")
	s, err := b.Mail.Resubscribe(b.Ctx, token)
	require.NoError(t, err)
	require.Equal(t, unsubscribe.Subscribed, s.State, "it has ended meanwhile")
	require.Empty(t, b.entries())
}

// TestALinkMakesFewEvents: it needs no credential.
func TestALinkMakesFewEvents(t *testing.T) {
	t.Parallel()
	b := setupWith(t, dbtest.URL(t), func(o *db.Options) { o.LinkBase = "https://mail.test" })
	e := b.Accept(newsletter("bob@x.test", "news"))
	token := strings.TrimPrefix(b.opened(e.ID, 1).UnsubscribeURL, "https://mail.test"+unsubscribe.Path)
	var s unsubscribe.Subscription
	for range 15 {
		_, err := b.Mail.Unsubscribe(b.Ctx, token)
		require.NoError(t, err)
		s, err = b.Mail.Resubscribe(b.Ctx, token)
		require.NoError(t, err)
	}
	require.Equal(t, unsubscribe.Settled, s.State, "the last word is the unsubscription")
	require.Equal(t, []string{"bob@x.test topic news unsubscribe"}, b.entries())
	require.Equal(t, 11, b.Count("SELECT count(*) FROM email_events WHERE type = 'email.unsubscribed'"))
	require.Equal(t, 10, b.Count("SELECT count(*) FROM email_events WHERE type = 'email.resubscribed'"))
	s, err := b.Mail.Subscription(b.Ctx, token)
	require.NoError(t, err)
	require.Equal(t, unsubscribe.Settled, s.State)
}
