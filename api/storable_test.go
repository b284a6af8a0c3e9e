package api_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWhatPostgresDoesNotTakeIsRefused: never a 500.
func TestWhatPostgresDoesNotTakeIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, bad := range []string{"%00", "a%00b", "%ff", "%ed%a0%80"} {
		for _, query := range []string{"tag=", "subject=", "to=x@", "from=@", "status_detail=", "page_token=", "colour="} {
			for _, path := range []string{"/v1.0/emails?", "/v1.0/emails/stats?"} {
				a := b.as("GET", path+query+bad, "")
				require.Equal(t, 400, a.status, "%s%s%s: %s", path, query, bad, a.body)
			}
		}
		require.Equal(t, 400, b.as("GET", "/v1.0/events?after="+bad, "").status)
		require.Equal(t, 404, b.as("GET", "/v1.0/emails/"+bad, "").status)
		require.Equal(t, 404, b.as("POST", "/v1.0/deliveries/msg_"+bad+"/retry", "").status)
		require.Equal(t, 400, b.call("GET", "/v1.0/emails?accesskey=pr_"+bad, "").status)
	}
	for path, body := range map[string]string{
		"/v1.0/auth/login": `{"username":"a\u0000b","password":"correct horse"}`, "/v1.0/accesskeys": `{"name":"\u0000"}`,
		"/v1.0/webhooks": `{"url":"https://x.test/","tags":["a\u0000"]}`,
	} {
		a := b.as("POST", path, body)
		require.Equal(t, 400, a.status, path+a.body)
	}
	literal := b.as("POST", "/v1.0/accesskeys", `{"name":"a backslash and \\u0000"}`)
	require.Equal(t, 200, literal.status, literal.body)
}
