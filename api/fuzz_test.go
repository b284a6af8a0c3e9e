package api_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzPostEmail sends bodies to a whole API over a real database. Each is accepted and can be read,
// or is refused with a 4xx status, never with 500.
func FuzzPostEmail(f *testing.F) {
	b := setup(f)
	b.lenient = true // what a body may be is intake's fuzz test's to find
	for _, body := range []string{
		basic, `{`, `[]`, `{"from":{"email":"shop@acme.test"},"bcc":[{"email":"üser@bücher.test"}],"subject":"\u2028","content":"x"}`,
		`{"source":{"type":"email","target":"shop@acme.test","target_name":"\ud83d\ude00"},"destinations":[{"target":"b@x.test"}],"subject":"s","content":"x","tags":["a"],"metadata":{"k":"\u0001"}}`,
		`{"from":{"email":"shop@acme.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":{"html":"<p>"},"headers":{"X-A":"b"},"send_at":"0000-01-01T00:00:00Z","stream":"broadcast"}`,
		`{"from":{"email":"shop@acme.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":"x","expires_at":"9999-12-31T23:59:59.999999999-23:59","callback_url":"https://x.test/"}`,
		`{"from":{"email":"shop@acme.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":"x","attachments":[{"filename":"a.txt","content":"aGk=","content_id":"c"},{"url":"https://x.test/a"}]}`,
	} {
		f.Add(body, "", "")
	}
	f.Add(basic, "key", "a=%ff&b=%00")
	f.Add(basic, "k\x00", "page_token=x")
	f.Fuzz(func(t *testing.T, body, key, query string) {
		if v, err := url.ParseQuery(query); err != nil || v.Get("wait") != "" || v.Has("token") || v.Has("accesskey") {
			query = "" // it would wait, or carry another credential
		}
		req := httptest.NewRequest("POST", "/v1.0/emails", strings.NewReader(body))
		req.URL.RawQuery = query
		req.Header.Set("Authorization", "Bearer "+b.key)
		if key != "" {
			req.Header["Idempotency-Key"] = []string{key}
		}
		rec := httptest.NewRecorder()
		b.server.ServeHTTP(rec, req)
		if rec.Code != http.StatusAccepted {
			require.Contains(t, []int{400, 403, 409, 413, 415}, rec.Code, "%s", rec.Body)
			require.Equal(t, "application/problem+json", rec.Header().Get("Content-Type"))
			return
		}
		id := answer{rec.Code, rec.Header(), rec.Body.String()}.field(t, "id")
		here := *b
		here.t = t
		require.Equal(t, http.StatusOK, here.as("GET", "/v1.0/emails/"+id, "").status)
	})
}
