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
)

// Half of the connections may wait for verdicts, and half of those for one customer. Further
// requests are answered with the present state.
func TestWaitLimitPerCustomer(t *testing.T) {
	t.Parallel()
	b := setupFor(t, setupOptions{maxBytes: maxBytes, connections: 16})
	_, other := b.newCustomer("Other", "other.test")
	mail := "/v1.0/emails/" + b.as("POST", "/v1.0/emails", basic).field(t, "id")
	waiting := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool { return b.server.Waiting() == n }, time.Minute, time.Millisecond)
	}
	const most = 4
	answers := make(chan answer, most+1)
	for range most {
		go func() { answers <- b.as("GET", mail+"?wait=60s", "") }()
	}
	waiting(most)
	beyond := b.as("GET", mail+"?wait=60s", "")
	require.Equal(t, 200, beyond.status)
	require.Equal(t, "queued", beyond.field(t, "status"))
	require.Equal(t, 202, b.as("POST", "/v1.0/emails?wait=60s", basic).status)
	require.Equal(t, most, b.server.Waiting(), "they wait still")

	theirs := "/v1.0/emails/" + b.with(other, "POST", "/v1.0/emails", strings.ReplaceAll(basic, "acme.test", "other.test")).field(t, "id")
	go func() { answers <- b.with(other, "GET", theirs+"?wait=60s", "") }()
	waiting(most + 1)
	require.Equal(t, 200, b.as("POST", mail+"/cancel", "").status)
	waiting(1)
	require.Equal(t, 200, b.with(other, "POST", theirs+"/cancel", "").status)
	for range most + 1 {
		require.Equal(t, "canceled", (<-answers).field(t, "status"))
	}
}

// settling is a store whose e-mail has its verdict at the second call of Settled.
type settling struct {
	store
	header http.Header
	left   []int // header fields that the request has at each call
}

func (s *settling) FirstVerdict(_ context.Context, ids []string) ([]string, error) {
	if s.left = append(s.left, len(s.header)); len(s.left) == 1 {
		return nil, nil
	}
	return ids, nil
}

func TestWaitReleasesRequestHeader(t *testing.T) {
	t.Parallel()
	s := &settling{}
	b := setupFor(t, setupOptions{maxBytes: maxBytes, emails: func(e api.Emails) api.Emails { s.store = e; return s }})
	id := b.as("POST", "/v1.0/emails", basic).field(t, "id")
	req, rec := httptest.NewRequest("GET", "/v1.0/emails/"+id+"?wait=60s", nil), httptest.NewRecorder()
	req.Header.Set("Authorization", "Bearer "+b.key)
	req.Header.Set("X-Large", strings.Repeat("a", 4000))
	s.header = req.Header
	b.server.ServeHTTP(rec, req)
	require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
	require.Equal(t, []int{2, 0}, s.left, "before and while it waits")
}
