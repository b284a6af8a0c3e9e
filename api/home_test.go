package api_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/api"
)

func TestHome(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.call("GET", "/", "")
	require.Equal(t, http.StatusOK, got.status)
	require.JSONEq(t, `{"api":"/v1.0","docs":"/docs","openapi":"/openapi.json"}`, got.body, "outside of development nobody is told of the rest")
	require.NotContains(t, b.call("GET", "/", "", "Accept", "text/html").body, "Temporal")

	dev := setupFor(t, setupOptions{home: api.Home{TemporalUI: "http://127.0.0.1:8233", Inbox: "smtp://127.0.0.1:2525"}})
	require.JSONEq(t, `{"api":"/v1.0","docs":"/docs","openapi":"/openapi.json","temporal_ui":"http://127.0.0.1:8233","inbox":"smtp://127.0.0.1:2525","messages":"/v1.0/mailboxes"}`,
		dev.call("GET", "/", "").body)
	page := dev.call("GET", "/", "", "Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	require.Equal(t, "text/html; charset=utf-8", page.header.Get("Content-Type"))
	require.Contains(t, page.header.Get("Content-Security-Policy"), "default-src 'none'")
	for _, link := range []string{`href="/docs"`, `href="http://127.0.0.1:8233"`, "smtp://127.0.0.1:2525", "/v1.0/mailboxes"} {
		require.Contains(t, page.body, link)
	}
	require.Contains(t, b.call("GET", "/elsewhere", "").field(t, "detail"), "described at /docs")
}

// A GET with a slash at the end is redirected to the path without it, on the same host.
func TestTrailingSlashRedirect(t *testing.T) {
	t.Parallel()
	b := setup(t)
	location := func(method, target string) (int, string) {
		rec := httptest.NewRecorder()
		b.server.ServeHTTP(rec, httptest.NewRequest(method, target, nil))
		return rec.Code, rec.Header().Get("Location")
	}
	for from, to := range map[string]string{"/docs/": "/docs", "/v1.0/emails/?page_size=1&accesskey=k": "/v1.0/emails?page_size=1&accesskey=k", "/v1.0/batches//": "/v1.0/batches",
		"/healthz/": "/healthz", "/openapi.json/": "/openapi.json", "/metrics/": "/metrics", "/v1.0/emails/x/events/": "/v1.0/emails/x/events"} {
		status, got := location("GET", from)
		require.Equal(t, http.StatusPermanentRedirect, status, from)
		require.Equal(t, to, got)
	}
	for _, from := range []string{"http://x.test//evil.test/", "http://x.test//evil.test/docs/", "/elsewhere/", "/v1.0/", "/v1.0/elsewhere/", "/v1.0/emails//events/", "/v1.0//emails/", "http://x.test/\\evil.test/"} {
		status, got := location("GET", from)
		require.Equal(t, http.StatusNotFound, status, from)
		require.Empty(t, got)
	}
	status, got := location("POST", "/v1.0/emails/")
	require.Equal(t, http.StatusNotFound, status)
	require.Empty(t, got)
	require.Contains(t, b.call("POST", "/v1.0/emails/", "{}").field(t, "detail"), "remove the slash at its end")
	for _, r := range b.server.Routes() {
		if r.Method == http.MethodGet && r.Path != "/" {
			status, got := location("GET", r.Path+"/")
			require.Equal(t, http.StatusPermanentRedirect, status, r.Path)
			require.Equal(t, r.Path, got)
		}
	}
}
