package api_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/db"
)

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

// A process that runs a worker too goes on accepting mail while the worker gets none.
func TestReadyzTellsOfTheWorkerBeside(t *testing.T) {
	t.Parallel()
	fine := func(context.Context) error { return nil }
	var idle error
	store := new(db.Store)
	h := api.New(api.Deps{
		Ready: fine, WorkerReady: func(context.Context) error { return idle }, Metrics: http.NotFoundHandler(), Log: slog.New(slog.DiscardHandler),
		// The parts that a probe does not reach.
		Emails: store, Batches: store, Events: store, Previews: store, Files: store, Accounts: store, Keys: store, Customers: store, Users: store, Domains: store, Pauses: store, Webhooks: store, Mailboxes: store,
	}, api.Options{TokenKey: make([]byte, 32)})
	status, body := get(t, h, "/readyz")
	require.Equal(t, 200, status)
	require.JSONEq(t, `{"status":"ready","worker":"ready"}`, body)
	idle = errors.New("temporal does not answer: dial tcp 10.0.0.7:7233")
	status, body = get(t, h, "/readyz")
	require.Equal(t, 200, status)
	require.JSONEq(t, `{"status":"ready","worker":"unavailable"}`, body, "without addresses: everybody may ask")
}

// A worker's own port says why it is not ready.
func TestAWorkersPortSaysWhy(t *testing.T) {
	t.Parallel()
	why := errors.New(`search attributes are missing: run "migrate up"`)
	h := api.Health(func(context.Context) error { return why }, http.NotFoundHandler())
	status, body := get(t, h, "/readyz")
	require.Equal(t, 503, status)
	require.JSONEq(t, `{"status":"unavailable","reason":"search attributes are missing: run \"migrate up\""}`, body)
	status, _ = get(t, h, "/healthz")
	require.Equal(t, 200, status)
	why = nil
	status, body = get(t, h, "/readyz")
	require.Equal(t, 200, status)
	require.JSONEq(t, `{"status":"ready"}`, body)
}
