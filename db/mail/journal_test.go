package mail_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/internal/delivery"
)

// TestMarksAreCommittedTogether has fifty come while one waits for Postgres.
func TestMarksAreCommittedTogether(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const n, taken = 51, 7
	mark := func(i int, id, owner string) delivery.Mark {
		if i == taken {
			owner = uuid.NewString()
		}
		return delivery.Mark{EmailID: id, Attempt: 1, Owner: owner, Relay: dbsetup.Relay, MessageSHA256: "5e", MessageBytes: 5}
	}
	marks := make([]delivery.Mark, n)
	for i := range marks {
		id := b.Accept(dbsetup.Message("a@x.test")).ID
		owner, o := b.Open(id, 1)
		require.Equal(t, delivery.VerdictOpened, o.Verdict)
		marks[i] = mark(i, id, owner)
	}
	tx, err := b.Raw.BeginTx(b.Ctx, nil)
	require.NoError(t, err)
	_, err = tx.Exec("SELECT 1 FROM delivery_attempts WHERE email_id = ? FOR UPDATE", marks[0].EmailID)
	require.NoError(t, err)

	type answer struct {
		ours []bool
		err  error
	}
	answers := make([]chan answer, n)
	ask := func(ctx context.Context, i int) chan answer {
		out := make(chan answer, 1)
		go func() {
			ours, err := b.Mail.MarkSent(ctx, marks[i:i+1])
			out <- answer{ours, err}
		}()
		return out
	}
	answers[0] = ask(b.Ctx, 0)
	require.Eventually(t, func() bool {
		return b.Count("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 1
	}, 30*time.Second, 5*time.Millisecond, "the first waits for the row")
	ended, cancel := context.WithCancel(b.Ctx)
	cancel()
	require.ErrorIs(t, (<-ask(ended, 1)).err, context.Canceled, "who has gone is told so")
	b.Mail.MarksWait(t, 0)
	for i := 1; i < n; i++ {
		answers[i] = ask(b.Ctx, i)
	}
	b.Mail.MarksWait(t, n-1)
	require.NoError(t, tx.Rollback())
	for i, out := range answers {
		require.Equal(t, answer{ours: []bool{i != taken}}, <-out, "each has its own answer")
	}
	require.Equal(t, n-1, b.Count("SELECT count(*) FROM delivery_attempts WHERE phase = 'data_sent'"))
	require.Equal(t, 2, b.Count("SELECT count(DISTINCT xmin::text) FROM delivery_attempts WHERE phase = 'data_sent'"), "transactions")

	require.NoError(t, b.Close())
	_, err = b.Mail.MarkSent(b.Ctx, marks[:1])
	require.Error(t, err)
}

// TestTheJournalKnowsOwnersApart has two owners of one attempt ask at the same time, in
// either order: the answer of the one is not the other's.
func TestTheJournalKnowsOwnersApart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, first := range []bool{true, false} {
		id := b.Accept(dbsetup.Message("a@x.test")).ID
		mine, o := b.Open(id, 1)
		require.Equal(t, delivery.VerdictOpened, o.Verdict)
		owners, want := []string{mine, uuid.NewString()}, []bool{true, false}
		if !first {
			slices.Reverse(owners)
			slices.Reverse(want)
		}
		var marks []delivery.Mark
		var endings []delivery.Ending
		for _, owner := range owners {
			marks = append(marks, delivery.Mark{EmailID: id, Attempt: 1, Owner: owner, Relay: dbsetup.Relay, MessageSHA256: "5e", MessageBytes: 5})
			endings = append(endings, delivery.Ending{EmailID: id, Attempt: 1, Owner: owner, Relay: dbsetup.Relay})
		}
		ours, err := b.Mail.MarkSent(b.Ctx, marks)
		require.NoError(t, err)
		require.Equal(t, want, ours)
		ours, err = b.Mail.Finish(b.Ctx, endings)
		require.NoError(t, err)
		require.Equal(t, want, ours)
	}
}
