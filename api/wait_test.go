package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestACustomerDoesNotWaitOnAllConnections: half of them may wait for e-mails, half of those for
// one customer's. What comes beyond is answered with the present state.
func TestACustomerDoesNotWaitOnAllConnections(t *testing.T) {
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
