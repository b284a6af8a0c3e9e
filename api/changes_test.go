package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestACustomersChangesLeaveConnectionsToOthers: those that wait for the same row's lock have
// half of the connections for changes at most, and others' go on.
func TestACustomersChangesLeaveConnectionsToOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, other := b.newCustomer("Other", "other.test")
	tx, err := b.raw.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "SELECT 1 FROM customers WHERE id = ? FOR UPDATE", b.customer.ID)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() { b.as("PUT", "/v1.0/customer", `{"name":"ACME"}`) })
	}
	waiting := func() (n int) {
		require.NoError(t, b.raw.NewRaw("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(t.Context(), &n))
		return n
	}
	require.Eventually(t, func() bool { return waiting() > 0 }, time.Minute, 10*time.Millisecond)
	for n := range 30 {
		body := strings.ReplaceAll(strings.Replace(basic, `"content":`, `"callback_url":"https://hooks.test/x","content":`, 1), "acme.test", "other.test")
		a := b.call("POST", "/v1.0/emails", body, "Authorization", "Bearer "+other, "Idempotency-Key", fmt.Sprint("k", n))
		require.Equal(t, http.StatusAccepted, a.status, a.body)
		require.Less(t, waiting(), 6)
	}
	require.NoError(t, tx.Rollback())
	wg.Wait()
}
