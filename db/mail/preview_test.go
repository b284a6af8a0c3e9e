package mail_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
)

// senders previews a transactional mail from an address.
func (b *bench) senders(from string) email.SenderUse {
	b.T.Helper()
	m := dbsetup.Message("bob@x.test")
	m.From.Email, m.Stream = from, email.StreamTransactional
	_, u, err := b.Mail.Preview(b.Ctx, b.Customer, m)
	require.NoError(b.T, err)
	return u
}

func TestPreviewCountsTheStreamsLastSenders(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, email.SenderUse{}, b.senders("shop@acme.test"))
	send := func(n int, from string, stream email.Stream) {
		for range n {
			m := dbsetup.Message("bob@x.test")
			m.From.Email, m.Stream = from, stream
			b.Accept(m)
		}
	}
	send(4, "old@acme.test", email.StreamTransactional)
	b.Exec("UPDATE emails SET created_at = created_at - interval '1 day'")
	send(5, "news@acme.test", email.StreamBroadcast)
	send(3, "shop@acme.test", email.StreamTransactional)
	send(2, "Shop@acme.test", email.StreamTransactional)
	require.Equal(t, email.SenderUse{Total: 9, Address: "shop@acme.test", Count: 5, Same: 5}, b.senders("SHOP@acme.test"), "whatever the case")
	require.Equal(t, email.SenderUse{Total: 9, Address: "shop@acme.test", Count: 5, Same: 4}, b.senders("old@acme.test"))
	require.Equal(t, email.SenderUse{Total: 9, Address: "shop@acme.test", Count: 5}, b.senders("news@acme.test"), "another stream's sender")

	send(97, "new@acme.test", email.StreamTransactional)
	require.Equal(t, email.SenderUse{Total: 100, Address: "new@acme.test", Count: 97, Same: 3}, b.senders("shop@acme.test"), "the last hundred")

	b.Exec("UPDATE emails SET deleted_at = now()")
	require.Equal(t, email.SenderUse{}, b.senders("shop@acme.test"), "what is deleted is not looked at")
	send(1, "shop@acme.test", email.StreamTransactional)
	other, _, err := b.Accounts.CreateCustomer(b.Ctx, "Other", "", "")
	require.NoError(t, err)
	b.Customer = other.ID
	require.Equal(t, email.SenderUse{}, b.senders("shop@acme.test"), "nor what is another's")
}

func TestPreviewRefusesWhatAcceptWould(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := dbsetup.Message("bob@x.test", "eve@x.test")
	m.Attachments = []email.Attachment{{ReferenceType: email.ReferenceFile, ReferenceID: uuid.NewString()}}
	_, _, err := b.Mail.Preview(b.Ctx, b.Customer, m)
	_, _, accepted := b.Mail.Accept(b.Ctx, b.Customer, m, uuid.NewString(), email.Idempotency{})
	require.Error(t, err)
	require.Equal(t, accepted, err)

	m.Attachments = nil
	b.Exec("UPDATE customers SET credits = 1 WHERE id = ?", b.Customer)
	_, _, err = b.Mail.Preview(b.Ctx, b.Customer, m)
	_, _, accepted = b.Mail.Accept(b.Ctx, b.Customer, m, uuid.NewString(), email.Idempotency{})
	require.Equal(t, email.CodeCredits, email.FailureCode(err))
	require.Equal(t, accepted, err)
	b.Exec("UPDATE customers SET credits = 2 WHERE id = ?", b.Customer)
	for range 2 { // none are taken
		_, _, err = b.Mail.Preview(b.Ctx, b.Customer, m)
		require.NoError(t, err)
	}
}

func TestPreviewTellsWhatFilesAre(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.StoreFile([]byte("content"))
	m := dbsetup.Message("bob@x.test")
	m.Attachments = []email.Attachment{{ReferenceType: email.ReferenceFile, ReferenceID: f.ID}}
	got, _, err := b.Mail.Preview(b.Ctx, b.Customer, m)
	require.NoError(t, err)
	a := got.Attachments[0]
	require.Equal(t, dbsetup.PDF.Filename, a.Filename)
	require.Equal(t, int64(7), a.Size)
	require.NotEmpty(t, a.BlobID)
	require.Nil(t, a.Content)
	require.Empty(t, m.Attachments[0].Filename, "the message that was given stays as it is")
}
