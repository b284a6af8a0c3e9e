package accounts_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/internal/senderdomain"
)

// due gives a customer domains whose check is due, and returns their ids in the order of their names.
func (b *bench) due(customerID string, n int) (ids []string) {
	b.T.Helper()
	err := b.Raw.NewRaw(`WITH made AS (INSERT INTO domains (id, customer_id, name, started_at, next_check_at)
			SELECT gen_random_uuid(), ?0, 'd' || lpad(n::text, 4, '0') || '.' || clock_timestamp(), now(), now() FROM generate_series(1, ?1) AS n RETURNING id, name)
		SELECT id FROM made ORDER BY name`, customerID, n).Scan(b.Ctx, &ids)
	require.NoError(b.T, err)
	return ids
}

// begin reports which of some domains' checks begin.
func (b *bench) begin(ids ...string) (begun []senderdomain.Begun) {
	b.T.Helper()
	for _, id := range ids {
		check, err := b.Accounts.BeginCheck(b.Ctx, id, false)
		require.NoError(b.T, err)
		require.NotEqual(b.T, check.Due, check.Waits)
		if check.Due {
			begun = append(begun, check)
		} else {
			require.WithinDuration(b.T, time.Now().Add(time.Hour), check.NextCheckAt, 10*time.Minute, "its run sleeps")
		}
	}
	return begun
}

func (b *bench) end(begun senderdomain.Begun) {
	b.T.Helper()
	_, err := b.Accounts.SaveCheck(b.Ctx, begun, senderdomain.Findings{})
	require.NoError(b.T, err)
}

func (b *bench) turns(limit int) []string {
	b.T.Helper()
	ids, err := b.Accounts.GiveTurns(b.Ctx, limit)
	require.NoError(b.T, err)
	return ids
}

// The domains of a customer whose name servers do not answer wait for each other, in their order, and for
// no other customer. Each comes once for its turn.
func TestDomainsOfACustomerTakeTurns(t *testing.T) {
	t.Parallel()
	b := strict(t)
	silent := b.due(b.Customer, 12)
	begun := b.begin(silent...)
	require.Len(t, begun, 5)
	require.Empty(t, b.begin(silent[5:]...), "a run that comes again takes no place")
	require.Empty(t, b.turns(10), "no place is free")
	require.Len(t, b.begin(b.due(b.otherCustomer(), 1)...), 1, "another customer has places of its own")

	b.Exec("UPDATE domains SET next_check_at = now() - interval '1 hour'")
	overdue, err := b.Accounts.ClaimOverdueDomains(b.Ctx, 100)
	require.NoError(t, err)
	require.Empty(t, overdue, "those that wait are not woken before their turn")

	b.end(begun[0])
	late := b.due(b.Customer, 1)[0]
	require.Empty(t, b.begin(late), "the place is the next one's")
	require.Equal(t, []string{silent[5]}, b.turns(10))
	require.Empty(t, b.turns(10))
	require.Len(t, b.begin(silent[5]), 1)
	b.end(begun[1])
	b.end(begun[2])
	require.Equal(t, []string{silent[6]}, b.turns(1))
	require.Equal(t, []string{silent[7]}, b.turns(10))
}

// A place that no look gives back is free after its lease. The domain is found by a sweep.
func TestAPlaceOfARunThatIsLostIsFreeAgain(t *testing.T) {
	t.Parallel()
	b := strict(t)
	ids := b.due(b.Customer, 7)
	begun := b.begin(ids...)
	require.Len(t, b.begin(ids[0]), 1, "an activity that runs twice keeps its place")
	b.Exec("UPDATE domains SET place_until = now() - interval '1 second', claimed_until = now() - interval '1 second', next_check_at = now() - interval '1 minute' WHERE id IN (?, ?)", begun[0].ID, begun[1].ID)
	overdue, err := b.Accounts.ClaimOverdueDomains(b.Ctx, 100)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{ids[0], ids[1], ids[5], ids[6]}, overdue)
	require.Len(t, b.begin(ids[5], ids[6]), 2)
	require.Empty(t, b.begin(ids[0], ids[1]), "the places are taken")

	b.Exec("UPDATE domains SET next_check_at = NULL WHERE id = ?", ids[0])
	check, err := b.Accounts.BeginCheck(b.Ctx, ids[0], false)
	require.NoError(t, err)
	require.False(t, check.Due || check.Waits, "a check that is not due waits for nothing")
	require.Equal(t, 1, b.Count("SELECT count(*) FROM domains WHERE queued_at IS NOT NULL"))
	_, err = b.Accounts.DeleteOwnDomain(b.Ctx, b.Customer, ids[5])
	require.NoError(t, err)
	require.Equal(t, []string{ids[1]}, b.turns(10), "a deleted domain has no place")
}

// Many customers whose name servers do not answer leave places to a customer without a look under way. When
// all places are taken, the customers with the fewest come first, however long others have waited.
func TestCustomersTakeTurns(t *testing.T) {
	t.Parallel()
	b := strict(t)
	var begun []senderdomain.Begun
	for range 23 {
		begun = append(begun, b.begin(b.due(b.otherCustomer(), 6)...)...)
	}
	require.Len(t, begun, 60+11, "12 have five places, the others have one of those that are kept for them")
	honest := b.due(b.Customer, 2)
	require.Len(t, b.begin(honest[0]), 1)
	require.Empty(t, b.begin(honest[1]))

	for range 28 {
		begun = append(begun, b.begin(b.due(b.otherCustomer(), 2)...)...)
	}
	require.Len(t, begun, 99)
	late := b.otherCustomer()
	waits := b.due(late, 2)
	require.Empty(t, b.begin(waits...))
	require.Empty(t, b.turns(10))
	b.end(begun[0])
	require.Equal(t, waits[:1], b.turns(10), "the customer that has had no turn is next")
	for _, done := range begun[1:41] {
		b.end(done)
	}
	for range 59 { // now 60 are left, with the honest one's and the late one's
		for _, id := range b.turns(1) {
			require.NotEqual(t, honest[1], id)
			require.NotEqual(t, waits[1], id, "those with more places wait")
		}
	}
}

// Customers without a place come in the order of their last turns.
func TestTurnsGoRoundByCustomer(t *testing.T) {
	t.Parallel()
	b := strict(t)
	owner := map[string]int{}
	var customers [][]string
	for n := range 101 {
		ids := b.due(b.otherCustomer(), 3)
		for _, id := range ids {
			owner[id] = n
		}
		customers = append(customers, ids)
	}
	running := map[int]senderdomain.Begun{}
	for n, ids := range customers {
		for _, begun := range b.begin(ids[0]) {
			running[n] = begun
		}
	}
	require.True(t, len(running) == 100 && running[100].ID == "", "each has one, the last none")
	for _, ids := range customers {
		require.Empty(t, b.begin(ids[1:]...))
	}
	var order []int
	for n := range 5 {
		b.end(running[n])
		for _, id := range b.turns(1) {
			order = append(order, owner[id])
			running[owner[id]] = b.begin(id)[0]
		}
	}
	require.Equal(t, []int{100, 0, 1, 2, 3}, order)
}

// Places are given once, however many look for one at the same time.
func TestPlacesAreGivenOnce(t *testing.T) {
	t.Parallel()
	b := strict(t)
	ids := b.due(b.Customer, 40)
	var group errgroup.Group
	for _, id := range slices.Concat(ids, ids) {
		group.Go(func() error {
			check, err := b.Accounts.BeginCheck(b.Ctx, id, false)
			if err != nil || !check.Due {
				return err
			}
			if _, err = b.Accounts.SaveCheck(b.Ctx, check, senderdomain.Findings{}); err != nil {
				return err
			}
			given, err := b.Accounts.GiveTurns(b.Ctx, 3)
			if len(given) > 3 {
				return fmt.Errorf("%d turns", len(given))
			}
			return err
		})
	}
	require.NoError(t, group.Wait())
	require.LessOrEqual(t, b.Count("SELECT count(*) FROM domains WHERE place_until > now()"), 5)
}

// Looks without an answer keep their places for a while, also if the servers refuse at once.
func TestALookWithoutAnAnswerKeepsItsPlace(t *testing.T) {
	t.Parallel()
	b := strict(t)
	ids := b.due(b.Customer, 6)
	begun := b.begin(ids...)[0]
	refused := []senderdomain.Record{{Kind: senderdomain.DKIM, Required: true, Status: senderdomain.TemporaryFailure, Problem: senderdomain.Unavailable}}
	_, err := b.Accounts.SaveCheck(b.Ctx, begun, senderdomain.Findings{Records: refused})
	require.NoError(t, err)
	require.Equal(t, 1, b.Count("SELECT count(*) FROM domains WHERE place_until = place_at + interval '10 seconds'"))
	b.Exec("UPDATE domains SET place_until = now() + interval '1 minute' WHERE id = ?", begun.ID) // this test may be slow
	require.Empty(t, b.turns(10))
	_, err = b.Accounts.CheckDomainNow(b.Ctx, b.Customer, begun.ID)
	require.NoError(t, err)
	check, err := b.Accounts.BeginCheck(b.Ctx, begun.ID, false)
	require.NoError(t, err)
	require.False(t, check.Due || check.Waits)
	require.Empty(t, b.turns(10), "asking again does not free it")
	b.Exec("UPDATE domains SET place_until = now() - interval '1 second' WHERE id = ?", begun.ID)
	require.Equal(t, ids[5:], b.turns(10))
}

// A domain whose name servers do not answer is looked at less often, also if its customer asks again and again.
func TestADomainThatDoesNotAnswerIsAskedLessOften(t *testing.T) {
	t.Parallel()
	b := strict(t)
	d := b.create(b.Customer, "acme.test")
	var pauses []time.Duration
	for range 6 {
		b.Exec("UPDATE domains SET next_check_at = now(), checked_at = checked_at - interval '10 seconds'")
		_, err := b.Accounts.CheckDomainNow(b.Ctx, b.Customer, d.ID)
		require.NoError(t, err)
		begun := b.begin(d.ID)[0]
		begun.Records[0].Status, begun.Records[0].Problem = senderdomain.TemporaryFailure, senderdomain.Unavailable
		d, err = b.Accounts.SaveCheck(b.Ctx, begun, senderdomain.Findings{Records: begun.Records})
		require.NoError(t, err)
		pauses = append(pauses, d.NextCheckAt.Sub(d.CheckedAt))
	}
	require.Equal(t, []time.Duration{10 * time.Second, 10 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute}, pauses)
	d = b.check(d.ID, "pr1r._domainkey")
	require.Equal(t, 10*time.Second, d.NextCheckAt.Sub(d.CheckedAt), "an answer ends that")
}
