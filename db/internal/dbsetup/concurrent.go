package dbsetup

import (
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
)

// WhileInsertsWait makes two calls at once, 0 and 1, and returns their errors that are not nil. No
// row comes into the table before both calls wait for a lock. So neither call sees the other's row,
// unless it waits for the other's transaction.
func (b *Bench) WhileInsertsWait(table string, call func(i int) error) (errs []error) {
	b.T.Helper()
	tx, err := b.Raw.BeginTx(b.Ctx, nil)
	require.NoError(b.T, err)
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	_, err = tx.ExecContext(b.Ctx, "LOCK TABLE ? IN SHARE MODE", bun.Ident(table))
	require.NoError(b.T, err)
	done := make(chan error, 2)
	for i := range 2 {
		go func() { done <- call(i) }()
	}
	require.Eventually(b.T, func() bool {
		return b.Count("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 2
	}, time.Minute, 5*time.Millisecond, "both wait")
	require.NoError(b.T, tx.Commit())
	for range 2 {
		if err := <-done; err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}
