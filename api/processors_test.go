package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/turns"
)

// waitForProcessor sends requests with a key in the background, until each waits for a
// processor, and returns their statuses.
func (b *bench) waitForProcessor(processors *turns.Turns, key string, requests [][2]string) <-chan int {
	b.t.Helper()
	waiting := processors.Waiting()
	answers := make(chan int, len(requests))
	for i, r := range requests {
		go func() {
			req := httptest.NewRequestWithContext(b.t.Context(), "POST", r[0], strings.NewReader(r[1]))
			req.Header.Set("Authorization", "Bearer "+key)
			req.Header.Set("Content-Type", "application/json")
			rec := httptest.NewRecorder()
			b.server.ServeHTTP(rec, req)
			answers <- rec.Code
		}()
		require.Eventually(b.t, func() bool { return processors.Waiting() == waiting+i+1 }, time.Minute, time.Millisecond, r[0])
	}
	return answers
}

// Large requests of all kinds, and batches of a large text, wait for a processor. Smaller requests and
// logins do not.
func TestLargeRequestsWaitForProcessor(t *testing.T) {
	t.Parallel()
	processors := &turns.Turns{}
	b := setupFor(t, setupOptions{processors: processors, maxBytes: 1 << 20})
	_, other := b.newCustomer("Other", "other.test")
	text := strings.Repeat("x", 260<<10)
	single := fmt.Sprintf(`{"from":{"email":"shop@acme.test"},"to":[{"email":"bob@y.test"}],"subject":"s","content":%q}`, text)
	batch := fmt.Sprintf(`{"message":{"from":{"email":"shop@acme.test"},"subject":"s","content":%q},"recipients":[{"email":"bob@y.test"}]}`, text)
	end, err := processors.Acquire(t.Context(), "another")
	require.NoError(t, err)
	requests := [][2]string{
		{"/v1.0/emails", single}, {"/v1.0/emails/preview", single}, {"/v1.0/emails/batch", batch}, {"/v1.0/emails/preview", batch}, {"/v1.0/emails/batch", strings.Replace(batch, text, text[:20<<10], 1)},
	}
	answers := b.waitForProcessor(processors, b.key, requests)
	theirs := strings.ReplaceAll(basic, "acme.test", "other.test")
	require.Equal(t, http.StatusAccepted, b.with(other, "POST", "/v1.0/emails", theirs).status)
	require.Equal(t, http.StatusUnauthorized, b.with("", "POST", "/auth/login", `{"username":"x@other.test","password":"wrong password"}`).status)
	medium := strings.ReplaceAll(strings.Replace(single, text, text[:250<<10], 1), "acme.test", "other.test")
	require.Equal(t, http.StatusAccepted, b.with(other, "POST", "/v1.0/emails", medium).status)
	require.Equal(t, http.StatusOK, b.with(other, "POST", "/v1.0/emails/preview", theirs).status)
	require.Empty(t, answers)
	end()
	for range requests {
		require.Less(t, <-answers, http.StatusBadRequest)
	}
}

// A customer's requests that wait hold at most 32 connections in one queue. The next one is
// answered at once, and other customers still wait for their turn.
func TestWaitingRequestsOfOneCustomerAreBounded(t *testing.T) {
	t.Parallel()
	processors := &turns.Turns{}
	b := setupFor(t, setupOptions{mediumProcessors: processors, maxBytes: 1 << 20})
	_, other := b.newCustomer("Other", "other.test")
	end, err := processors.Acquire(t.Context(), "another")
	require.NoError(t, err)
	preview := func(body string, n int) (out [][2]string) {
		for range n {
			out = append(out, [2]string{"/v1.0/emails/preview", body})
		}
		return out
	}
	mine := b.waitForProcessor(processors, b.key, preview(basic, 32))
	refused := b.as("POST", "/v1.0/emails/preview", basic)
	require.Equal(t, http.StatusServiceUnavailable, refused.status, refused.body)
	require.NotEmpty(t, refused.header.Get("Retry-After"))
	require.Equal(t, 32, processors.Waiting(), "it does not wait")
	theirs := b.waitForProcessor(processors, other, preview(strings.ReplaceAll(basic, "acme.test", "other.test"), 1))
	end()
	require.Equal(t, http.StatusOK, <-theirs)
	for range 32 {
		require.Equal(t, http.StatusOK, <-mine)
	}
}
