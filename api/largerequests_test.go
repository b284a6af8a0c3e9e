package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/email"
)

// emailsAPI is api.Emails under a name that differs from its method Emails, so that structs can
// embed it.
type emailsAPI = api.Emails

// lateEmails blocks Accept of a message of more than 1 MiB until free is closed.
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

// Requests that need more memory than the budget allows at once are processed one at a time. Small
// requests do not wait for them.
func TestLargeRequestsTakeTurns(t *testing.T) {
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
	theirs := strings.ReplaceAll(large, "acme.test", "other.test")
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan *httptest.ResponseRecorder)
	go func() { waited <- post(ctx, other, theirs) }()
	require.Eventually(t, func() bool { return b.server.TurnsWaiting() == 1 }, time.Minute, 10*time.Millisecond)
	cancel()
	refused := <-waited
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
