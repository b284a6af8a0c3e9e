package client_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/client"
)

// TestAnImportIsSentAsItIsRead: the server has the first line before the second one is read, and the call
// is not repeated.
func TestAnImportIsSentAsItIsRead(t *testing.T) {
	t.Parallel()
	from, file := io.Pipe()
	received := make(chan string)
	srv := serve(t, answer(503, `{"code":"unavailable"}`))
	srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first := make([]byte, len("a@x.test\n"))
		if _, err := io.ReadFull(r.Body, first); err != nil {
			t.Error(err)
		}
		received <- r.Method + " " + r.URL.String() + " " + r.Header.Get("Content-Type")
		rest, err := io.ReadAll(r.Body)
		if err != nil || string(rest) != "b@x.test\n" {
			t.Errorf("%q, %v", rest, err)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	go func() {
		_, _ = io.WriteString(file, "a@x.test\n") // the server says what it has received
		if got := <-received; got != "POST /v1.0/suppressions/import?format=list&reason=complaint text/csv" {
			t.Error(got)
		}
		_, _ = io.WriteString(file, "b@x.test\n")
		_ = file.Close()
	}()
	_, err := newClient(t, srv.URL).ImportSuppressions(t.Context(), from, client.SuppressionFile{Format: "list", Reason: "complaint"})
	refused, ok := errors.AsType[*client.Error](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, 503, refused.Status)
}

func TestImportReport(t *testing.T) {
	t.Parallel()
	s := serve(t, answer(200, `{"format":"ses","read":3,"added":1,"changed":1,"unchanged":0,"refused":1,"errors":[{"line":4,"column":"Reason","code":"invalid","detail":"d"}]}`))
	got, err := newClient(t, s.URL).ImportSuppressions(t.Context(), strings.NewReader("x"), client.SuppressionFile{})
	require.NoError(t, err)
	require.Equal(t, client.SuppressionImport{Format: "ses", Read: 3, Added: 1, Changed: 1, Refused: 1, Errors: []client.SuppressionLineError{{Line: 4, Column: "Reason", Code: "invalid", Detail: "d"}}}, got)
}

// TestAnExportThatBreaksOffIsAnError: what was written is not taken for all.
func TestAnExportThatBreaksOffIsAnError(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "address\na@x.test\n")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		panic(http.ErrAbortHandler)
	}, answer(200, "address\na@x.test\nb@x.test\n"), answer(403, `{"code":"forbidden","detail":"no"}`))
	c := newClient(t, s.URL)
	var out bytes.Buffer
	require.ErrorIs(t, c.ExportSuppressions(t.Context(), &out), io.ErrUnexpectedEOF)
	require.Len(t, s.requests(), 1, "it is not repeated behind what was written")
	out.Reset()
	require.NoError(t, c.ExportSuppressions(t.Context(), &out))
	require.Equal(t, "address\na@x.test\nb@x.test\n", out.String())
	out.Reset()
	require.ErrorContains(t, c.ExportSuppressions(t.Context(), &out), "no")
	require.Zero(t, out.Len())
}

func TestSuppressionRequests(t *testing.T) {
	t.Parallel()
	s := serve(t, answer(201, `{"id":"`+anID+`","address":null,"scope":"topic","stream":null,"topic":"news","expires_at":null,"created_at":"2026-01-02T03:04:05.000Z"}`),
		answer(200, `{"result":[{"address":"a@x.test","suppressed":true,"suppressions":[{"reason":"manual"}]}]}`), answer(200, `{"id":"`+anID+`","emails_30d":3}`),
		answer(200, `{"result":[],"next_page_token":""}`))
	c := newClient(t, s.URL)
	added, err := c.AddSuppression(t.Context(), client.NewSuppression{Address: "a@x.test", Topic: "news", ExpiresAt: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)})
	require.NoError(t, err)
	require.Equal(t, client.Suppression{ID: anID, Scope: "topic", Topic: "news", CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, added)
	checked, err := c.CheckSuppressions(t.Context(), client.SuppressionCheck{Addresses: []string{"a@x.test"}})
	require.NoError(t, err)
	require.Equal(t, []client.CheckedAddress{{Address: "a@x.test", Suppressed: true, Suppressions: []client.Suppression{{Reason: "manual"}}}}, checked)
	_, emails, err := c.DeleteSuppression(t.Context(), anID)
	require.NoError(t, err)
	require.Equal(t, 3, emails)
	for _, err := range c.ActingFor(anID).Suppressions(t.Context(), client.SuppressionFilter{Address: "a+b@x.test", Reason: "manual"}) {
		require.NoError(t, err)
	}
	require.JSONEq(t, `{"address":"a@x.test","topic":"news","expires_at":"2027-01-01T00:00:00Z"}`, s.requests()[0].body)
	require.JSONEq(t, `{"addresses":["a@x.test"]}`, s.requests()[1].body)
	require.Equal(t, "address=a%2Bb%40x.test&customer_id="+anID+"&reason=manual", s.requests()[3].query)
}
