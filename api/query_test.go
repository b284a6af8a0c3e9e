package api_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestALongQueryIsNotParsed(t *testing.T) {
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
