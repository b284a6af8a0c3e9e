package api_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/api"
)

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

// A process with a worker accepts mail while the worker polls no task queue.
func TestReadyzShowsWorkerState(t *testing.T) {
	t.Parallel()
	fine := func(context.Context) error { return nil }
	var idle error
	deps := stubs()
	deps.Ready, deps.WorkerReady = fine, func(context.Context) error { return idle }
	h := newServer(t, deps, api.Options{TokenKey: make([]byte, 32)})
	status, body := get(t, h, "/readyz")
	require.Equal(t, 200, status)
	require.JSONEq(t, `{"status":"ready","worker":"ready"}`, body)
	idle = errors.New("temporal does not answer: dial tcp 10.0.0.7:7233")
	status, body = get(t, h, "/readyz")
	require.Equal(t, 200, status)
	require.JSONEq(t, `{"status":"ready","worker":"unavailable"}`, body, "without addresses: everybody may ask")
}

func TestNewNamesMissingDependencies(t *testing.T) {
	t.Parallel()
	deps := stubs()
	deps.Emails, deps.Log, deps.WorkerReady = nil, nil, nil
	_, err := api.New(deps, api.Options{})
	require.EqualError(t, err, "api.Deps lacks Emails, Log")
}

// The health port of a worker shows why it is not ready.
func TestWorkerHealthShowsReason(t *testing.T) {
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

func TestHealth(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, 200, b.call("GET", "/healthz", "").status)
	require.Equal(t, 200, b.call("GET", "/readyz", "").status)
	require.NoError(t, b.store.Close())
	unready := b.call("GET", "/readyz", "")
	require.Equal(t, 503, unready.status)
	require.Equal(t, "Postgres does not answer", unready.field(t, "detail"))
	require.Equal(t, 200, b.call("GET", "/healthz", "").status)
	res := b.as("POST", "/v1.0/emails", basic)
	require.GreaterOrEqual(t, res.status, 500, "without a commit there is no 202")
}
