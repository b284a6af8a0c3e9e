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

// Large requests of all kinds wait for a processor. Small requests and logins do not.
func TestLargeRequestsWaitForProcessor(t *testing.T) {
	t.Parallel()
	processors := &turns.Turns{}
	b := setupFor(t, setupOptions{processors: processors, maxBytes: 1 << 20})
	_, other := b.newCustomer("Other", "other.test")
	text := strings.Repeat("x", 20<<10)
	single := fmt.Sprintf(`{"from":{"email":"shop@acme.test"},"to":[{"email":"bob@y.test"}],"subject":"s","content":%q}`, text)
	batch := fmt.Sprintf(`{"message":{"from":{"email":"shop@acme.test"},"subject":"s","content":%q},"recipients":[{"email":"bob@y.test"}]}`, text)
	end, err := processors.Acquire(t.Context(), "another")
	require.NoError(t, err)
	requests := [][2]string{
		{"/v1.0/emails", single}, {"/v1.0/emails/preview", single}, {"/v1.0/emails/batch", batch}, {"/v1.0/emails/preview", batch},
	}
	answers := make(chan int, len(requests))
	for i, r := range requests {
		go func() {
			req := httptest.NewRequestWithContext(t.Context(), "POST", r[0], strings.NewReader(r[1]))
			req.Header.Set("Authorization", "Bearer "+b.key)
			req.Header.Set("Content-Type", "application/json")
			rec := httptest.NewRecorder()
			b.server.ServeHTTP(rec, req)
			answers <- rec.Code
		}()
		require.Eventually(t, func() bool { return processors.Waiting() == i+1 }, time.Minute, time.Millisecond, r[0])
	}
	theirs := strings.ReplaceAll(basic, "acme.test", "other.test")
	require.Equal(t, http.StatusAccepted, b.with(other, "POST", "/v1.0/emails", theirs).status)
	require.Equal(t, http.StatusOK, b.with(other, "POST", "/v1.0/emails/preview", theirs).status)
	require.Equal(t, http.StatusUnauthorized, b.with("", "POST", "/auth/login", `{"username":"x@other.test","password":"wrong password"}`).status)
	require.Empty(t, answers)
	end()
	for range requests {
		require.Less(t, <-answers, http.StatusBadRequest)
	}
}
