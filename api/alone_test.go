package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/email"
)

// emailsAPI is embedded under a name that none of its methods has.
type emailsAPI = api.Emails

// lateEmails takes no e-mail of more than a MiB before it is let go.
type lateEmails struct {
	emailsAPI
	arrived, free chan struct{}
}

func (l lateEmails) Accept(ctx context.Context, customerID string, m email.Message, owner string, idem email.Idempotency) (email.Email, bool, error) {
	if len(m.Text) > 1<<20 {
		l.arrived <- struct{}{}
		<-l.free
	}
	return l.emailsAPI.Accept(ctx, customerID, m, owner, idem)
}

// TestLargeRequestsAreWorkedOnOneAtATime: those that take more memory than they can be
// charged. Small ones do not wait for them.
func TestLargeRequestsAreWorkedOnOneAtATime(t *testing.T) {
	t.Parallel()
	late := lateEmails{arrived: make(chan struct{}, 2), free: make(chan struct{})}
	b := setupFor(t, setupOptions{emails: func(e api.Emails) api.Emails { late.emailsAPI = e; return late }, maxBytes: 25 << 20})
	_, other := b.newCustomer("Other", "other.test")
	large := strings.Replace(basic, `"content":`, `"metadata":{},"content":`, 1)
	large = large[:strings.Index(large, `"content":`)] + `"content":"` + strings.Repeat("x", 12<<20) + `"}`
	post := func(ctx context.Context, key, body string) *httptest.ResponseRecorder {
		return b.post(ctx, key, "/v1.0/emails", strings.NewReader(body), int64(len(body)))
	}
	first := make(chan int)
	go func() { first <- post(t.Context(), b.key, large).Code }()
	<-late.arrived
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	theirs := strings.ReplaceAll(large, "acme.test", "other.test")
	refused := post(ctx, other, theirs)
	require.Equal(t, http.StatusServiceUnavailable, refused.Code)
	require.Equal(t, "5", refused.Header().Get("Retry-After"))
	require.Contains(t, refused.Body.String(), "one at a time")
	small := post(t.Context(), other, strings.ReplaceAll(basic, "acme.test", "other.test"))
	require.Equal(t, http.StatusAccepted, small.Code)
	require.Equal(t, http.StatusOK, b.with(other, "GET", small.Header().Get("Location"), "").status)
	close(late.free)
	require.Equal(t, http.StatusAccepted, <-first)
	require.Equal(t, http.StatusAccepted, post(t.Context(), other, theirs).Code)
}

// TestAPreviewIsOfWhatPeopleRead: what nobody would read is not shown, and not checked.
func TestAPreviewIsOfWhatPeopleRead(t *testing.T) {
	t.Parallel()
	b := setupFor(t, setupOptions{maxBytes: 25 << 20})
	for n, want := range map[int]int{4 << 20: http.StatusOK, 4<<20 + 1: http.StatusRequestEntityTooLarge} {
		single := fmt.Sprintf(`{"from":{"email":"shop@acme.test"},"to":[{"email":"bob@y.test"}],"subject":"s","content":%q}`, strings.Repeat("x", n))
		require.Equal(t, want, b.as("POST", "/v1.0/emails/preview", single).status, n)
		batch := b.as("POST", "/v1.0/emails/preview", fmt.Sprintf(`{"messages":[%s]}`, single))
		require.Equal(t, want, batch.status, n)
		if want != http.StatusOK {
			require.Contains(t, batch.body, `"pointer":"/messages/0/content"`)
		}
	}
}

// slowStats count until nobody waits for it.
type slowStats struct{ arrived chan struct{} }

func (s slowStats) Stats(ctx context.Context, _ string, _ email.Filter) (email.Stats, error) {
	if ctx.Err() == nil {
		s.arrived <- struct{}{}
	}
	<-ctx.Done()
	return email.Stats{}, ctx.Err()
}

// TestLongQueriesOfOneCustomerLeaveOthersConnections: a customer that waits for all it
// may have of them is told to come again, and others are answered.
func TestLongQueriesOfOneCustomerLeaveOthersConnections(t *testing.T) {
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
