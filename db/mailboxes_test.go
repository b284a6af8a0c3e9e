package db_test

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
	_, err := b.MailboxFor(b.ctx, "bob@x.test")
	require.ErrorIs(t, err, mailbox.ErrNotFound)
	box, err := b.CatchAllMailbox(b.ctx, b.customer, "inbox@x.test")
	require.NoError(t, err)
	again, err := b.CatchAllMailbox(b.ctx, b.customer, "other@x.test")
	require.NoError(t, err)
	require.Equal(t, box, again, "there is one")
	got, err := b.MailboxFor(b.ctx, "Anyone\x00@Else.test")
	require.NoError(t, err)
	require.Equal(t, box.ID, got.ID)

	raw := bytes.Repeat([]byte("Subject: x\r\n\r\n\x00\xff"), 50_000)
	m := mailbox.Message{ID: uuid.New(), MailboxID: box.ID, CustomerID: uuid.MustParse(b.customer), EnvelopeTo: []string{"a@x.test", "b\x00@x.test"}, Subject: "a\x00b\xff",
		Size: int64(len(raw)), SHA256: string(bytes.Repeat([]byte("a"), 64)), ReceivedAt: time.Now().UTC().Truncate(time.Microsecond)}
	require.NoError(t, b.StoreMessages(b.ctx, []mailbox.Message{m}, raw))
	list, next, err := b.Messages(b.ctx, b.customer, box.ID.String(), email.Cursor{}, 10)
	require.NoError(t, err)
	require.Nil(t, next)
	require.Equal(t, "a\uFFFDb\uFFFD", list[0].Subject)
	_, content, err := b.ReceivedMessage(b.ctx, b.customer, box.ID.String(), m.ID.String())
	require.NoError(t, err)
	back, err := io.ReadAll(content)
	require.NoError(t, err)
	require.True(t, bytes.Equal(raw, back), "the bytes are as they came")

	other, _, err := b.CreateCustomer(b.ctx, "Other", "", "")
	require.NoError(t, err)
	_, _, err = b.Messages(b.ctx, other.ID, box.ID.String(), email.Cursor{}, 10)
	require.Equal(t, email.CodeNotFound, email.FailureCode(err))
	_, _, err = b.ReceivedMessage(b.ctx, other.ID, box.ID.String(), m.ID.String())
	require.Equal(t, email.CodeNotFound, email.FailureCode(err))
}
