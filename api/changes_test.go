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
	t.Run("with a body", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.changesWait(t, "customers WHERE id = ?", func() { b.as("PUT", "/v1.0/customer", `{"name":"ACME"}`) })
	})
	t.Run("without a body, whose length is not announced", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		hook := b.as("POST", "/v1.0/webhooks", `{"url":"https://hooks.example.com/mail"}`).field(t, "id")
		b.changesWait(t, "webhook_endpoints WHERE customer_id = ?", func() {
			b.post(t.Context(), b.key, "/v1.0/webhooks/"+hook+"/rotate-secret", strings.NewReader(""), -1)
		})
	})
}

// changesWait makes 40 changes by the bench's customer that wait for the lock of its row.
func (b *bench) changesWait(t *testing.T, row string, change func()) {
	t.Helper()
	_, other := b.newCustomer("Other", "other.test")
	tx, err := b.raw.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "SELECT 1 FROM "+row+" FOR UPDATE", b.customer.ID)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(change)
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
