package suppressions_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/suppression"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

func lotOf(n int, note string) (l suppression.Lot) {
	for i := range n {
		l.Entries = append(l.Entries, suppression.Entry{Address: fmt.Sprintf("a%d@x.test", i), Scope: suppression.ScopeAll, Reason: suppression.HardBounce, Note: note})
	}
	return l
}

// TestLotsOfTheSameEntriesAtOnce: imports of the same file, also in another order, do not wait for each
// other in a circle, and each entry is added once.
func TestLotsOfTheSameEntriesAtOnce(t *testing.T) {
	t.Parallel()
	b := dbsetup.New(t)
	const entries, imports = 500, 8
	var wg sync.WaitGroup
	counts, errs := make([]suppression.Counts, imports), make([]error, imports)
	for i := range imports {
		wg.Go(func() {
			l := lotOf(entries, "")
			if i%2 == 1 {
				slices.Reverse(l.Entries)
			}
			counts[i], errs[i] = b.Suppressions.StoreLot(b.Ctx, b.Customer, l)
		})
	}
	wg.Wait()
	var sum suppression.Counts
	for i := range imports {
		require.NoError(t, errs[i])
		sum.Added += counts[i].Added
		sum.Changed += counts[i].Changed
		sum.Unchanged += counts[i].Unchanged
	}
	require.Equal(t, suppression.Counts{Added: entries, Unchanged: entries * (imports - 1)}, sum)
}

// TestALotIsStoredOrNot: with one entry that cannot be stored, none is.
func TestALotIsStoredOrNot(t *testing.T) {
	t.Parallel()
	b := dbsetup.New(t)
	l := lotOf(3, "")
	l.Entries[2].Scope = "some"
	_, err := b.Suppressions.StoreLot(b.Ctx, b.Customer, l)
	require.Error(t, err)
	require.Zero(t, b.Count("SELECT count(*) FROM suppressions"))
}

// TestALotKeepsWhatItDoesNotSay: reason and note, for the formats without them; the time always.
func TestALotKeepsWhatItDoesNotSay(t *testing.T) {
	t.Parallel()
	b := dbsetup.New(t)
	e, created, err := b.Suppressions.AddSuppression(b.Ctx, b.Customer, suppression.Entry{
		Address: "a0@x.test", Scope: suppression.ScopeAll, Reason: suppression.Complaint, Source: suppression.FromCustomer, Note: "mine", ExpiresAt: time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond),
	})
	require.NoError(t, err)
	require.True(t, created)
	l := lotOf(1, "theirs")
	l.Entries[0].CreatedAt = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	l.KeepReason, l.KeepNote = true, true
	n, err := b.Suppressions.StoreLot(b.Ctx, b.Customer, l)
	require.NoError(t, err)
	require.Equal(t, suppression.Counts{Changed: 1}, n)
	got, err := b.Suppressions.Suppression(b.Ctx, b.Customer, e.ID)
	require.NoError(t, err)
	want := e
	want.ExpiresAt, want.Source = time.Time{}, suppression.FromImport
	require.Equal(t, want, got)
	l.KeepReason, l.KeepNote = false, false
	_, err = b.Suppressions.StoreLot(b.Ctx, b.Customer, l)
	require.NoError(t, err)
	got, err = b.Suppressions.Suppression(b.Ctx, b.Customer, e.ID)
	require.NoError(t, err)
	want.Reason, want.Note = suppression.HardBounce, "theirs"
	require.Equal(t, want, got)
	_, err = b.Suppressions.Suppression(b.Ctx, "01a20894-d574-79b4-a163-2c334f1ed74c", e.ID)
	require.Equal(t, email.CodeNotFound, email.FailureCode(err))
}
