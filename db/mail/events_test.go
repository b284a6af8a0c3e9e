package mail_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
)

// TestTheFeedNeverSkips lets transactions commit in another order than they began: a reader that
// goes on from each answer must see every event once.
func TestTheFeedNeverSkips(t *testing.T) {
	t.Parallel()
	b := setup(t)
	place := ""
	var seen []string
	read := func() int {
		t.Helper()
		n := 0
		for {
			es, next, err := b.Mail.Feed(b.Ctx, b.Customer, place, 2)
			require.NoError(t, err)
			for _, e := range es {
				seen = append(seen, e.EmailID+string(e.Type))
			}
			n += len(es)
			if place = next; len(es) == 0 {
				return n
			}
		}
	}
	// The server's oldest transaction may be another test's: what is committed is
	// there soon.
	soon := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool { read(); return len(seen) == n }, time.Minute, 5*time.Millisecond)
	}
	e := b.Accept(dbsetup.Message("bob@x.test"))
	soon(1)

	// A slow transaction takes its number, then waits.
	slow, err := b.Raw.BeginTx(b.Ctx, nil)
	require.NoError(t, err)
	insert := func(tx bun.IDB, sequence int) {
		t.Helper()
		_, err := tx.ExecContext(b.Ctx, "INSERT INTO email_events (id, email_id, customer_id, sequence, type, at) VALUES (?, ?, ?, ?, ?, now())",
			uuid.Must(uuid.NewV7()).String(), e.ID, b.Customer, sequence, email.EventSending)
		require.NoError(t, err)
	}
	insert(slow, 2)
	fast := b.Accept(dbsetup.Message("bob@x.test"))
	require.Zero(t, read(), "what began later waits for it")
	require.NoError(t, slow.Commit())
	soon(3)
	require.Equal(t, []string{e.ID + "email.queued", e.ID + "email.sending", fast.ID + "email.queued"}, seen)

	other, _, err := b.Accounts.CreateCustomer(b.Ctx, "Other", "", "")
	require.NoError(t, err)
	es, _, err := b.Mail.Feed(b.Ctx, other.ID, "", 10)
	require.NoError(t, err)
	require.Empty(t, es)
	for _, bad := range []string{"x", "5", "5-x", "-1-" + uuid.NewString(), "99999999999999999999999-" + uuid.NewString()} {
		_, _, err = b.Mail.Feed(b.Ctx, b.Customer, bad, 10)
		require.Equal(t, email.CodeInvalidRequest, email.FailureCode(err), bad)
	}
}

func TestTheFeedUnderConcurrentWriters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithCancel(b.Ctx)
	done := make(chan int)
	go func() {
		defer cancel()
		var ids []string
		for range 20 {
			e := b.Accept(dbsetup.Message("bob@x.test"))
			b.Attempt(e.ID, 1, dbsetup.Delivered)
			ids = append(ids, e.ID)
		}
		done <- len(ids)
	}()
	seen := map[string]int64{}
	place := ""
	read := func() {
		es, next, err := b.Mail.Feed(b.Ctx, b.Customer, place, 7)
		require.NoError(t, err)
		place = next
		for _, e := range es {
			require.Equal(t, seen[e.EmailID]+1, e.Sequence, "in order, without a gap")
			seen[e.EmailID] = e.Sequence
		}
	}
	var mails int
	for mails == 0 {
		select {
		case mails = <-done:
		default:
			read()
		}
	}
	<-ctx.Done()
	require.Eventually(t, func() bool {
		read()
		whole := 0
		for _, n := range seen {
			if n == 4 { // queued, sending, delivered, completed
				whole++
			}
		}
		return whole == mails
	}, time.Minute, 5*time.Millisecond)
	require.Len(t, seen, mails)
}
