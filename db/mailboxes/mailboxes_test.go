package mailboxes_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/mailbox"
)

func TestReceivedMail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.Mailboxes.MailboxFor(b.Ctx, "bob@x.test")
	require.ErrorIs(t, err, mailbox.ErrNotFound)
	box, err := b.Mailboxes.CatchAllMailbox(b.Ctx, b.Customer, "inbox@x.test")
	require.NoError(t, err)
	again, err := b.Mailboxes.CatchAllMailbox(b.Ctx, b.Customer, "other@x.test")
	require.NoError(t, err)
	require.Equal(t, box, again, "there is one")
	got, err := b.Mailboxes.MailboxFor(b.Ctx, "Anyone\x00@Else.test")
	require.NoError(t, err)
	require.Equal(t, box.ID, got.ID)

	raw := bytes.Repeat([]byte("Subject: x\r\n\r\n\x00\xff"), 50_000)
	m := mailbox.Message{ID: uuid.New(), MailboxID: box.ID, CustomerID: uuid.MustParse(b.Customer), EnvelopeTo: []string{"a@x.test", "b\x00@x.test"}, Subject: "a\x00b\xff",
		Size: int64(len(raw)), SHA256: string(bytes.Repeat([]byte("a"), 64)), ReceivedAt: time.Now().UTC().Truncate(time.Microsecond)}
	require.NoError(t, b.Mailboxes.StoreMessages(b.Ctx, []mailbox.Message{m}, raw))
	list, next, err := b.Mailboxes.Messages(b.Ctx, b.Customer, box.ID.String(), email.Cursor{}, 10)
	require.NoError(t, err)
	require.Nil(t, next)
	require.Equal(t, "a\uFFFDb\uFFFD", list[0].Subject)
	_, content, err := b.Mailboxes.ReceivedMessage(b.Ctx, b.Customer, box.ID.String(), m.ID.String())
	require.NoError(t, err)
	back, err := io.ReadAll(content)
	require.NoError(t, err)
	require.True(t, bytes.Equal(raw, back), "the bytes are as they came")

	other, _, err := b.Accounts.CreateCustomer(b.Ctx, "Other", "", "")
	require.NoError(t, err)
	_, _, err = b.Mailboxes.Messages(b.Ctx, other.ID, box.ID.String(), email.Cursor{}, 10)
	require.Equal(t, email.CodeNotFound, email.FailureCode(err))
	_, _, err = b.Mailboxes.ReceivedMessage(b.Ctx, other.ID, box.ID.String(), m.ID.String())
	require.Equal(t, email.CodeNotFound, email.FailureCode(err))
}
