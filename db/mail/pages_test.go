package mail_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/mailbox"
)

// TestLongListsComeInPages: of one e-mail's events and attempts, which a client can make
// any number of, and of received messages with many recipients. Each entry comes once.
func TestLongListsComeInPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("a@x.test"))
	t.Run("events", func(t *testing.T) {
		b.Exec(`INSERT INTO email_events (id, email_id, customer_id, sequence, type, attempt, smtp_code, enhanced_code, smtp_text, reason, at)
			SELECT gen_random_uuid(), ?, ?, 1000 + n, 'held', 0, 0, '', repeat('x', 1000), '', now() FROM generate_series(1, 2500) AS n`, e.ID, b.Customer)
		seen, pages, last := 0, 0, int64(0)
		for after := int64(0); ; pages++ {
			es, next, err := b.Mail.EmailEvents(b.Ctx, b.Customer, e.ID, after)
			require.NoError(t, err)
			require.LessOrEqual(t, len(es), 1000)
			for _, ev := range es {
				require.Greater(t, ev.Sequence, last)
				last = ev.Sequence
			}
			if seen += len(es); next == 0 {
				break
			}
			after = next
		}
		require.Equal(t, 2501, seen)
		require.Equal(t, 2, pages)
	})
	t.Run("attempts", func(t *testing.T) {
		b.Exec(`INSERT INTO delivery_attempts (email_id, attempt, part, phase, owner, lease_until, recipient_ids, relay, outcomes, transcript, message_sha256, message_bytes, opened_at, done_at)
			SELECT ?, n, 1, 'done', ?, now(), '{}', '{}', '[]', jsonb_build_array(jsonb_build_object('command', repeat('y', 100000))), '', 0, now(), now() FROM generate_series(1, 50) AS n`,
			e.ID, uuid.NewString())
		seen, after := 0, 0
		for {
			as, next, err := b.Mail.Attempts(b.Ctx, b.Customer, e.ID, after)
			require.NoError(t, err)
			require.LessOrEqual(t, len(as), 11, "about 1 MiB")
			for _, a := range as {
				seen++
				require.Equal(t, seen, a.Number)
			}
			if after = next; next == 0 {
				break
			}
		}
		require.Equal(t, 50, seen)
	})
	t.Run("received messages", func(t *testing.T) {
		box, err := b.Mailboxes.CatchAllMailbox(b.Ctx, b.Customer, "inbox@x.test")
		require.NoError(t, err)
		to := make([]string, 1000)
		for i := range to {
			to[i] = fmt.Sprintf("%s%d@x.test", strings.Repeat("l", 50), i)
		}
		now := time.Now().UTC().Truncate(time.Microsecond)
		for range 40 {
			m := mailbox.Message{ID: uuid.New(), MailboxID: box.ID, CustomerID: uuid.MustParse(b.Customer), EnvelopeTo: to, Size: 1, SHA256: strings.Repeat("a", 64), ReceivedAt: now}
			require.NoError(t, b.Mailboxes.StoreMessages(b.Ctx, []mailbox.Message{m}, []byte("x")))
		}
		seen, after := map[uuid.UUID]bool{}, email.Cursor{}
		for {
			ms, next, err := b.Mailboxes.Messages(b.Ctx, b.Customer, box.ID.String(), after, 100)
			require.NoError(t, err)
			require.LessOrEqual(t, len(ms), 17, "about 1 MiB")
			for _, m := range ms {
				require.False(t, seen[m.ID])
				seen[m.ID] = true
			}
			if next == nil {
				break
			}
			after = *next
		}
		require.Len(t, seen, 40)
	})
}

// TestRefusedItemsOfABatchAreBounded: there may be thousands, each with ten problems.
func TestRefusedItemsOfABatchAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := email.Fail(email.CodeInvalidRequest, "bad")
	for range 10 {
		f.Fields = append(f.Fields, email.FieldError{Pointer: "/x", Code: "invalid", Detail: strings.Repeat("d", 200)})
	}
	req := email.BatchRequest{Mode: email.BatchPermissive, Len: 2000, Place: func(int) string { return "" }, Sender: func(int) string { return "/from" },
		Message: func(i int) (email.Message, error) {
			if i > 0 {
				return email.Message{}, f
			}
			return dbsetup.Message("a@x.test"), nil
		}}
	batch, _, _, err := b.Mail.AcceptBatch(b.Ctx, b.Customer, req, uuid.NewString(), email.Idempotency{})
	require.NoError(t, err)
	require.Equal(t, 1, batch.Accepted())
	require.Len(t, batch.Refused, 1999)
	require.Len(t, batch.Refused[0].Fields, 10)
	require.Empty(t, batch.Refused[1998].Fields)
	require.Equal(t, "bad", batch.Refused[1998].Detail)
	var stored int64
	require.NoError(t, b.Raw.NewRaw("SELECT octet_length(refused::text) FROM batches WHERE id = ?", batch.ID).Scan(b.Ctx, &stored))
	require.Less(t, stored, int64(1<<20))
	list, _, err := b.Mail.Batches(b.Ctx, b.Customer, email.Cursor{}, 10)
	require.NoError(t, err)
	require.Equal(t, 1, list[0].Accepted())
	require.Equal(t, 1999, list[0].RefusedCount)
	require.Empty(t, list[0].Refused, "a list reads how many there are")
	plan, err := b.Mail.PlanBatch(b.Ctx, batch.ID)
	require.NoError(t, err)
	require.Equal(t, 1, plan.Total)
}
