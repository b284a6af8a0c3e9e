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
	"github.com/postrider/postrider/internal/turns"
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

// largeCopies returns a batch of n e-mails of 28 KB each, whose body has 28 KB and 24 bytes for each.
func largeCopies(n int) string {
	return `{"message":{"from":{"email":"shop@acme.test"},"subject":"s","content":"t","headers":{"X-Large":"` + strings.TrimSpace(strings.Repeat("x ", 14_000)) +
		`"}},"recipients":[` + strings.TrimSuffix(strings.Repeat(`{"email":"bob@x.test"},`, n), ",") + `]}`
}

// A batch with many copies of a message that is not large takes no turn: it is stored while another
// request has the turn, with the memory of a container of 512 MB.
func TestBatchesOfSmallMessagesTakeNoTurn(t *testing.T) {
	t.Parallel()
	large := &turns.Turns{}
	b := setupFor(t, setupOptions{memory: 85 << 20, turns: large})
	end, err := large.Acquire(t.Context(), "another")
	require.NoError(t, err)
	defer end()
	sent := b.as("POST", "/v1.0/emails/batch", largeCopies(400))
	require.Equal(t, http.StatusAccepted, sent.status, sent.body)
}

// A batch whose client has gone ends with its present statement and stores nothing. Its turn goes to
// others.
func TestABatchEndsWithItsClient(t *testing.T) {
	t.Parallel()
	large := &turns.Turns{}
	b := setupFor(t, setupOptions{memory: 4 << 20, turns: large}) // so little that the batch takes the turn
	tx, err := b.raw.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "LOCK TABLE emails IN SHARE MODE")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body := largeCopies(100)
	answered := make(chan int)
	go func() {
		answered <- b.post(ctx, b.key, "/v1.0/emails/batch", strings.NewReader(body), int64(len(body))).Code
	}()
	require.Eventually(t, func() bool {
		var n int
		require.NoError(t, b.raw.NewRaw("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(t.Context(), &n))
		return n > 0
	}, time.Minute, 10*time.Millisecond)
	got := make(chan func())
	go func() {
		end, err := large.Acquire(t.Context(), "another")
		if err == nil {
			got <- end
		}
	}()
	require.Eventually(t, func() bool { return large.Waiting() == 1 }, time.Minute, time.Millisecond, "the batch has the turn")
	cancel()
	require.NoError(t, tx.Commit())
	require.Equal(t, 499, <-answered)
	(<-got)()
	var stored int
	require.NoError(t, b.raw.NewRaw("SELECT count(*) FROM batches").Scan(t.Context(), &stored))
	require.Zero(t, stored)
}
