package mail_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// acceptFor accepts a message whose run the owner starts. With delivery.NoOwner that is another process,
// and Plan and Message read the tables.
func (b *bench) acceptFor(m email.Message, owner string) email.Email {
	b.T.Helper()
	e, _, err := b.Mail.Accept(b.Ctx, b.Customer, m, owner, email.Idempotency{})
	require.NoError(b.T, err)
	return e
}

func (b *bench) claim(begins bool) []delivery.Start {
	b.T.Helper()
	starts, err := b.Mail.ClaimStarts(b.Ctx, delivery.Claim{Stream: email.StreamBroadcast, Owner: uuid.NewString(), Lease: time.Minute, Limit: 10, Begins: begins})
	require.NoError(b.T, err)
	return starts
}

func (b *bench) plan(id string) delivery.Plan {
	b.T.Helper()
	p, err := b.Mail.Plan(b.Ctx, id)
	require.NoError(b.T, err)
	return p
}

func (b *bench) message(id string) email.Message {
	b.T.Helper()
	m, err := b.Mail.Message(b.Ctx, id)
	require.NoError(b.T, err)
	return m
}

// readsTables reports whether Plan and Message read the tables for an e-mail: these say something else
// meanwhile.
func (b *bench) readsTables(id string) (plan, message bool) {
	b.T.Helper()
	before := b.Get(id)
	b.Exec("UPDATE emails SET size_bytes = 12345, subject = 'changed' WHERE id = ?", id)
	plan, message = b.plan(id).Route.Bytes == 12345, b.message(id).Subject == "changed"
	b.Exec("UPDATE emails SET size_bytes = ?, subject = ? WHERE id = ?", before.Message.Size(), before.Subject, id)
	return plan, message
}

// TestTheFirstStepsOfARunReadNothing: a run that this process begins gets once what was accepted or
// claimed, and that is what the tables hold.
func TestTheFirstStepsOfARunReadNothing(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*bench) string{
		"accepted": func(b *bench) string { return b.acceptFor(fullMessage(), uuid.NewString()).ID },
		"claimed": func(b *bench) string {
			e := b.acceptFor(fullMessage(), delivery.NoOwner)
			require.Equal(b.T, []delivery.Start{delivery.RunOf(e)}, b.claim(true))
			return e.ID
		},
		"started by an outside program": func(b *bench) string {
			got, err := b.Mail.AcceptDirect(b.Ctx, fullMessage(), b.direct(uuid.NewString(), ""))
			require.NoError(b.T, err)
			return got.EmailID
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			id := begin(b)
			plan, message := b.readsTables(id)
			require.Equal(t, [2]bool{}, [2]bool{plan, message}, "the first time")
			plan, message = b.readsTables(id)
			require.Equal(t, [2]bool{true, true}, [2]bool{plan, message}, "the second time")

			id = begin(b)
			first, m := b.plan(id), b.message(id)
			second := b.plan(id)
			require.WithinDuration(t, second.Now, first.Now, 10*time.Second)
			first.Now = second.Now
			require.Equal(t, second, first)
			require.Equal(t, b.message(id), m)
		})
	}
}

// TestWhatARunHasToReadIsNotCached: it begins elsewhere, has attachments, is large, waits, or has
// been changed.
func TestWhatARunHasToReadIsNotCached(t *testing.T) {
	t.Parallel()
	b := setup(t)
	attached, large, later := fullMessage(), fullMessage(), fullMessage()
	attached.Attachments = []email.Attachment{{Filename: "a.txt", Type: "text/plain", Content: []byte("a")}}
	large.Text = strings.Repeat("x", 64<<10)
	later.SendAt = time.Now().Add(time.Hour)
	for name, id := range map[string]string{
		"left to others":  b.acceptFor(fullMessage(), delivery.NoOwner).ID,
		"attachments":     b.acceptFor(attached, uuid.NewString()).ID,
		"a large message": b.acceptFor(large, uuid.NewString()).ID,
		"scheduled":       b.acceptFor(later, uuid.NewString()).ID,
	} {
		plan, message := b.readsTables(id)
		require.Equal(t, [2]bool{true, true}, [2]bool{plan, message}, name)
	}
	b.Exec("DELETE FROM outbox")
	e := b.acceptFor(fullMessage(), delivery.NoOwner)
	require.Len(t, b.claim(false), 1)
	plan, message := b.readsTables(e.ID)
	require.Equal(t, [2]bool{true, true}, [2]bool{plan, message}, "claimed by a process that does not run it")

	e = b.acceptFor(fullMessage(), uuid.NewString())
	_, err := b.Mail.Control(b.Ctx, e.ID, email.Control{Action: email.ActionHold})
	require.NoError(t, err)
	require.Equal(t, email.WaitingHeld, b.plan(e.ID).State.Waiting, "held before its run began")
}
