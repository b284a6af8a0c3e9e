package sendcli

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/client"
)

// trySend sends with --json, and returns the output and the error.
func trySend(t *testing.T, url string) (failureJSON, error) {
	t.Helper()
	f := parseSend(t, "--to", "a@x.test", "--subject", "s", "--text", "t", "--json", "--idempotency-key", "k")
	m, err := f.message(nil)
	require.NoError(t, err)
	c, err := client.New(url, "key", client.WithRetry(client.Retry{Tries: 1}))
	require.NoError(t, err)
	_, cause := c.Send(t.Context(), m, client.IdempotencyKey(f.key))
	require.Error(t, cause)
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(f.refusal(w, "", cause)) }()
	text, err := io.ReadAll(r)
	require.NoError(t, err)
	var got failureJSON
	require.NoError(t, json.Unmarshal(text, &got), string(text))
	return got, f.explain(url, "", cause)
}

// TestSendConnectionErrors: without a connection nothing was accepted. If the connection breaks,
// the outcome is unknown.
func TestSendConnectionErrors(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	for name, url := range map[string]string{"refused": "http://" + closed.Addr().String(), "no such name": "http://mail.invalid"} {
		got, err := trySend(t, url)
		require.ErrorContains(t, err, "nothing was accepted", name)
		require.NotContains(t, err.Error(), "not known", name)
		require.Equal(t, codeNotSent, got.Code, name)
		require.Equal(t, "k", got.IdempotencyKey)
	}
	broken := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(broken.Close)
	got, err := trySend(t, broken.URL)
	require.ErrorContains(t, err, "it is not known whether the e-mail was accepted")
	require.Equal(t, codeOutcomeUnknown, got.Code)
}

func TestSendRefusalsAsJSON(t *testing.T) {
	t.Parallel()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"code":"invalid_request","detail":"no","errors":[{"pointer":"/to/0/email","code":"invalid","detail":"bad"}],"request_id":"r"}`)
	}))
	t.Cleanup(api.Close)
	got, err := trySend(t, api.URL)
	require.EqualError(t, err, `--to "a@x.test": bad`)
	require.Equal(t, http.StatusBadRequest, got.Status)
	require.EqualValues(t, "invalid_request", got.Code)
	require.Equal(t, "/to/0/email", got.Errors[0].Pointer)
	require.Equal(t, "r", got.RequestID)
}
