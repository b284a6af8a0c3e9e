package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/turns"
)

// Changes that wait for the same row lock hold at most half of the connections for changes. Other
// customers' changes go on.
func TestChangesLeaveConnectionsToOtherCustomers(t *testing.T) {
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

// changesWait makes 40 changes by the fixture's customer that wait for the lock of its row.
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

// slowStats blocks Stats until its request is canceled.
type slowStats struct{ arrived chan struct{} }

func (s slowStats) Stats(ctx context.Context, _ string, _ email.Filter) (email.Stats, error) {
	if ctx.Err() == nil {
		s.arrived <- struct{}{}
	}
	<-ctx.Done()
	return email.Stats{}, ctx.Err()
}

// A customer that has all the slow queries that it may have gets 503. Other customers are answered.
func TestSlowQueriesLeaveConnectionsToOtherCustomers(t *testing.T) {
	t.Parallel()
	const atOnce = 40
	slow := slowStats{arrived: make(chan struct{}, atOnce)}
	b := setupFor(t, setupOptions{stats: slow})
	_, other := b.newCustomer("Other", "other.test")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answers := make(chan int, atOnce)
	get := func(ctx context.Context, key, path string) int {
		req := httptest.NewRequestWithContext(ctx, "GET", path, nil)
		req.Header.Set("Authorization", "Bearer "+key)
		rec := httptest.NewRecorder()
		b.server.ServeHTTP(rec, req)
		return rec.Code
	}
	for range atOnce {
		go func() { answers <- get(ctx, b.key, "/v1.0/emails/stats") }()
	}
	const fit = 5 // half of half of the pool
	for range fit {
		<-slow.arrived
	}
	require.Equal(t, http.StatusOK, get(t.Context(), other, "/v1.0/emails"))
	cancel()
	for range atOnce {
		require.Contains(t, []int{http.StatusServiceUnavailable, 499}, <-answers)
	}
	require.Empty(t, slow.arrived, "nobody else got there")
}

// Requests that wait for the turn of large requests hold no connection to Postgres: other requests of
// their customer, and other customers, go on.
func TestWaitForTurnHoldsNoConnection(t *testing.T) {
	t.Parallel()
	const waiting = 12 // more than there are connections for slow queries
	large := &turns.Turns{}
	b := setupFor(t, setupOptions{maxBytes: 1 << 20, memory: 4 << 20, turns: large})
	_, other := b.newCustomer("Other", "other.test")
	sent := b.as("POST", "/v1.0/emails", fmt.Sprintf(`{"from":{"email":"shop@acme.test"},"to":[{"email":"bob@x.test"}],"subject":"s","content":%q}`, strings.Repeat("x", 500<<10)))
	require.Equal(t, http.StatusAccepted, sent.status, sent.body)
	end, err := large.Acquire(t.Context(), "another")
	require.NoError(t, err)
	answers := make(chan int, waiting)
	for range waiting {
		go func() { answers <- b.as("GET", "/v1.0/emails/"+sent.field(t, "id"), "").status }()
	}
	require.Eventually(t, func() bool { return b.server.TurnsWaiting() == waiting }, time.Minute, time.Millisecond)
	require.Zero(t, b.server.QueriesHeld())
	require.Equal(t, http.StatusOK, b.as("GET", "/v1.0/emails/stats", "").status)
	require.Equal(t, http.StatusOK, b.with(other, "GET", "/v1.0/emails/stats", "").status)
	end()
	for range waiting {
		require.Equal(t, http.StatusOK, <-answers)
	}
}

// pagesWait blocks Emails until free is closed.
type pagesWait struct {
	emailsAPI
	arrived, free chan struct{}
}

func (p pagesWait) Emails(ctx context.Context, customerID string, f email.Filter, after email.Cursor, limit int) ([]email.Email, *email.Cursor, error) {
	p.arrived <- struct{}{}
	<-p.free
	return p.emailsAPI.Emails(ctx, customerID, f, after, limit)
}

// A list reserves memory for as many e-mails as its page may have. Lists of 20 are read at the same
// time where lists of 100 are read one after the other.
func TestShortPagesReserveLittle(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ size, atOnce int }{{20, 4}, {100, 1}} {
		t.Run(fmt.Sprint(tt.size), func(t *testing.T) {
			t.Parallel()
			wait := pagesWait{arrived: make(chan struct{}, 8), free: make(chan struct{})}
			b := setupFor(t, setupOptions{memory: 44 << 20, emails: func(e api.Emails) api.Emails { wait.emailsAPI = e; return wait }})
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					got := b.as("GET", fmt.Sprintf("/v1.0/emails?page_size=%d", tt.size), "")
					require.Equal(t, http.StatusOK, got.status, got.body)
				})
			}
			require.Eventually(t, func() bool { return len(wait.arrived) == tt.atOnce }, time.Minute, time.Millisecond)
			require.Eventually(t, func() bool { return len(wait.arrived)+b.server.TurnsWaiting() == 4 }, time.Minute, time.Millisecond)
			close(wait.free)
			wg.Wait()
		})
	}
}
