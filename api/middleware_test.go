package api_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestQueryLimits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for path, want := range map[string]int{
		"/v1.0/emails?page_size=1": 200, "/v1.0/emails?page_size=1" + strings.Repeat("&0", 100): 400,
		"/v1.0/files?" + strings.Repeat("0&", 4000): 400, "/v1.0/emails?tag=" + strings.Repeat("a", 9000): 400,
	} {
		got := b.as("GET", path, "")
		require.Equal(t, want, got.status, path[:20]+" "+got.body)
	}
	require.Contains(t, b.as("GET", "/v1.0/files?"+strings.Repeat("0&", 4000), "").body, "at most 100 parameters")
}

// Answers contain tokens and mail, so no cache may store them.
func TestAnswersForbidCaching(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, a := range []answer{
		b.call("POST", "/auth/login", `{"username":"nobody","password":"x"}`), b.as("GET", "/v1.0/customer", ""), b.as("POST", "/v1.0/accesskeys", `{}`),
		b.as("POST", "/v1.0/emails", basic), b.as("GET", "/v1.0/nowhere", ""), b.call("GET", "/v1.0/customer", ""), b.call("GET", "/healthz", ""),
	} {
		require.Equal(t, "no-store", a.header.Get("Cache-Control"), a.body)
		require.Equal(t, "nosniff", a.header.Get("X-Content-Type-Options"), a.body)
	}
}
