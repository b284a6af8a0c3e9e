package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Texts that Postgres cannot store are refused, and cause no 500.
func TestUnstorableTextsAreRefused(t *testing.T) {
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
	key := b.adminKey()
	hook := b.as("POST", "/v1.0/webhooks", `{"url":"https://x.test/"}`).field(t, "id")
	for _, first := range []string{"0000-01-01", "0000-12-31T23:59:59Z", "0000-01-01%2000:00:00", "0001-01-01T00:00:00%2B01:00"} {
		for _, path := range []string{"/v1.0/emails?created_from=", "/v1.0/emails/stats?created_before=", "/v1.0/emails?page_token=", "/v1.0/accesskeys?page_token=", "/v1.0/audit?page_token="} {
			a := b.as("GET", path+first, "")
			require.Equal(t, 400, a.status, "%s%s: %s", path, first, a.body)
		}
		require.Equal(t, 400, b.with(key, "GET", "/v1.0/customers?page_token="+first, "").status)
	}
	later := b.as("POST", "/v1.0/emails", strings.Replace(basic, `"subject"`, `"send_at":"`+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+`","subject"`, 1)).field(t, "id")
	for _, year0 := range []string{"0000-01-01T00:00:00Z", "0001-01-01T00:00:00+00:01"} {
		require.Equal(t, 400, b.as("POST", "/v1.0/emails/"+later+"/reschedule", `{"send_at":"`+year0+`"}`).status)
		require.Equal(t, 400, b.as("POST", "/v1.0/webhooks/"+hook+"/replay", `{"since":"`+year0+`"}`).status)
	}
	literal := b.as("POST", "/v1.0/accesskeys", `{"name":"a backslash and \\u0000"}`)
	require.Equal(t, 200, literal.status, literal.body)
}
