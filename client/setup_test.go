package client_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
)

const anID = "01a20894-d574-79b4-a163-2c334f1ed74c"

// request is what a server was asked.
type request struct {
	method, path, query, key, auth, body string
}

// server answers with its script, a line per request, and repeats the last one.
type server struct {
	*httptest.Server
	mu   sync.Mutex
	seen []request
}

func serve(t *testing.T, script ...http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		s.seen = append(s.seen, request{r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Get("Idempotency-Key"), r.Header.Get("Authorization"), string(body)})
		next := script[min(len(s.seen), len(script))-1]
		s.mu.Unlock()
		next(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) requests() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// answer is a line of a script.
func answer(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // a client that has gone fails the test by itself
	}
}

// hangUp ends the connection without an answer.
func hangUp(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		err = conn.Close()
	}
	if err != nil {
		panic(err)
	}
}

var anEmail = `{"id":"` + anID + `","status":"queued","recipients":[{"address":"b@y.com","status":"queued"}]}`

// quick retries without delay.
var quick = client.WithRetry(client.Retry{Tries: 4, First: time.Millisecond})

func newClient(t *testing.T, url string, opts ...client.Option) *client.Client {
	t.Helper()
	c, err := client.New(url, "pr_secret", append([]client.Option{quick}, opts...)...)
	require.NoError(t, err)
	return c
}

var hello = client.Message{From: client.Address{Email: "a@x.com"}, To: []client.Address{{Email: "b@y.com"}}, Subject: "s", Content: client.Content{Text: "x"}}

// full has every member that a message can have.
var full = client.Message{
	From: client.Address{Email: "a@x.com", Name: "Ä"}, To: []client.Address{{Email: "b@y.com", Name: "B"}, {Email: "c@y.com"}},
	Cc: []client.Address{{Email: "d@y.com"}}, Bcc: []client.Address{{Email: "e@y.com"}}, ReplyTo: []client.Address{{Email: "r@x.com"}},
	Subject: "Grüße <b>", Content: client.Content{Text: "text", HTML: "<p>a & b</p>"},
	Attachments: []client.Attachment{
		{Filename: "i.pdf", Content: []byte("%PDF\x00\xff"), Type: "application/pdf"},
		{Filename: "logo.png", Content: []byte{1}, ContentID: "logo"},
		{Filename: "empty.txt", Content: []byte{}},
		{ReferenceType: email.ReferenceRecording, ReferenceID: anID, Optional: true},
		{URL: "https://x.com/f?a=1&b=2"},
	},
	Headers:  client.Headers{{Name: "X-Second", Value: "2 \"é"}, {Name: "X-First", Value: "1"}},
	Metadata: map[string]string{"order": "12345"}, Tags: []string{"orders", "eu"},
	SendAt: time.Date(2026, 1, 2, 3, 4, 5, 600000000, time.UTC), ExpiresAt: time.Date(2026, 1, 3, 3, 4, 5, 0, time.FixedZone("", 3600)),
	OnAmbiguous: email.AmbiguousFail, Stream: email.StreamBroadcast, CallbackURL: "https://x.com/told", IgnoreSuppressions: true,
	Unsubscribe: &client.Unsubscribe{Topic: "news"},
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	var pretty bytes.Buffer
	require.NoError(t, json.Indent(&pretty, []byte(got), "", "  "))
	require.Equal(t, string(want), pretty.String())
}
