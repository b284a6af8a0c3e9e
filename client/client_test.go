package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
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
	OnAmbiguous: email.AmbiguousFail, Stream: email.StreamBroadcast, CallbackURL: "https://x.com/told",
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	var pretty bytes.Buffer
	require.NoError(t, json.Indent(&pretty, []byte(got), "", "  "))
	require.Equal(t, string(want), pretty.String())
}

func TestRequestBodies(t *testing.T) {
	t.Parallel()
	name, off := "ACME", ""
	for file, do := range map[string]func(ctx context.Context, c *client.Client) error{
		"send.json":    func(ctx context.Context, c *client.Client) error { _, err := c.Send(ctx, full); return err },
		"minimal.json": func(ctx context.Context, c *client.Client) error { _, err := c.Send(ctx, hello); return err },
		"batch.json": func(ctx context.Context, c *client.Client) error {
			_, err := c.SendBatch(ctx, client.Batch{Mode: email.BatchPermissive, Messages: []client.Message{hello, full}})
			return err
		},
		"template.json": func(ctx context.Context, c *client.Client) error {
			m := hello
			m.To, m.Subject = nil, "{{name}}"
			_, err := c.SendBatch(ctx, client.Batch{Message: &m, Recipients: []client.BatchRecipient{
				{Address: client.Address{Email: "b@y.com", Name: "B"}, Variables: map[string]string{"order": "1 < 2"}}, {Address: client.Address{Email: "c@y.com"}},
			}})
			return err
		},
		"reschedule.json": func(ctx context.Context, c *client.Client) error {
			_, err := c.Reschedule(ctx, anID, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
			return err
		},
		"accesskey.json": func(ctx context.Context, c *client.Client) error {
			_, err := c.CreateAccessKey(ctx, client.NewAccessKey{Name: "shop", Detail: "d", Life: 1500 * time.Millisecond,
				Scopes: []string{"send"}, SenderDomains: []string{"x.com"}, Networks: []string{"10.0.0.0/8"}})
			return err
		},
		"customer.json": func(ctx context.Context, c *client.Client) error {
			_, err := c.UpdateCustomer(ctx, client.CustomerUpdate{Name: &name, WebhookURI: &off, DefaultSource: &client.Address{}})
			return err
		},
		"pause.json": func(ctx context.Context, c *client.Client) error {
			_, err := c.Pause(ctx, client.Pause{Scope: email.PauseRelay, Key: "primary", Reason: "r", CreatedAt: time.Now()})
			return err
		},
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			s := serve(t, answer(200, `{}`))
			require.NoError(t, do(t.Context(), newClient(t, s.URL)))
			golden(t, file, s.requests()[0].body)
		})
	}
}

// TestRoutes calls everything and looks at where it goes.
func TestRoutes(t *testing.T) {
	t.Parallel()
	s := serve(t, answer(200, `{}`))
	c, ctx := newClient(t, s.URL+"/mail/"), t.Context()
	var errs []error
	add := func(_ any, err error) { errs = append(errs, err) }
	add(c.Send(ctx, hello, client.IdempotencyKey("k"), client.Wait(90*time.Second/2)))
	add(c.Get(ctx, anID, client.Wait(time.Second)))
	add(c.Get(ctx, anID))
	add(c.Delete(ctx, anID))
	add(c.Cancel(ctx, anID))
	add(c.Hold(ctx, anID))
	add(c.Resume(ctx, anID))
	add(c.RetryNow(ctx, anID))
	add(c.Reschedule(ctx, anID, time.Now()))
	add(c.Resend(ctx, anID))
	add(c.SendBatch(ctx, client.Batch{}, client.Wait(time.Second)))
	add(c.PreviewBatch(ctx, client.Batch{}))
	add(c.Batch(ctx, anID))
	add(c.CancelBatch(ctx, anID))
	add(c.HoldBatch(ctx, anID))
	add(c.ResumeBatch(ctx, anID))
	for _, err := range c.Batches(ctx, client.PageSize(7)) {
		add(nil, err)
	}
	add(c.Events(ctx, anID))
	add(c.Attempts(ctx, anID))
	add(c.Feed(ctx, ""))
	add(c.Feed(ctx, "7,8"))
	add(c.Customer(ctx))
	add(c.UpdateCustomer(ctx, client.CustomerUpdate{}))
	add(c.CreateAccessKey(ctx, client.NewAccessKey{}))
	add(c.AccessKey(ctx, anID))
	add(c.DeleteAccessKey(ctx, anID))
	add(c.Pauses(ctx))
	add(c.Pause(ctx, client.Pause{Scope: email.PauseInstallation}))
	add(c.Unpause(ctx, email.PauseInstallation, ""))
	add(c.Unpause(ctx, email.PauseRelay, "a b"))
	add(c.Mailboxes(ctx))
	add(c.Message(ctx, anID, anID))
	add(c.RawMessage(ctx, anID, anID))
	add(c.MessageAttachment(ctx, anID, anID, 2))
	for _, err := range c.List(ctx, email.Filter{
		Statuses: []email.Status{email.StatusQueued, email.StatusSending}, Detail: email.DetailHeld, To: "@y.com", From: "a@x.com", Tag: "t", BatchID: anID, Stream: email.StreamBroadcast,
		Subject: "a b", CreatedFrom: time.Date(2025, 3, 14, 19, 4, 1, 160250000, time.FixedZone("", 3600)), CreatedBefore: time.Date(2025, 3, 15, 0, 0, 0, 0, time.UTC),
	}, client.PageSize(5)) {
		add(nil, err)
	}
	add(c.Stats(ctx, email.Filter{Tag: "t"}))
	for _, err := range c.AccessKeys(ctx) {
		add(nil, err)
	}
	for _, err := range c.Messages(ctx, anID) {
		add(nil, err)
	}
	require.NoError(t, errors.Join(errs...))
	var got bytes.Buffer
	for _, r := range s.requests() {
		require.Equal(t, "Bearer pr_secret", r.auth)
		fmt.Fprintln(&got, strings.TrimSpace(r.method+" "+r.path+" "+r.query))
	}
	want, err := os.ReadFile("testdata/routes.txt")
	require.NoError(t, err)
	require.Equal(t, string(want), got.String())
	require.Equal(t, "k", s.requests()[0].key)
}

// An id that is none would name another resource: nothing is asked.
func TestIDsAreChecked(t *testing.T) {
	t.Parallel()
	s := serve(t, answer(200, `{}`))
	c := newClient(t, s.URL)
	for _, id := range []string{"", ".", "..", "a/b", anID + "?x=y", "%2e%2e", "ä"} {
		_, err := c.Delete(t.Context(), id)
		require.ErrorContains(t, err, "is not an id", id)
		_, err = c.RawMessage(t.Context(), anID, id)
		require.ErrorContains(t, err, "is not an id", id)
	}
	require.Empty(t, s.requests())
}

// JSON would hold another text, and nobody would be told.
func TestTextsAreUTF8(t *testing.T) {
	t.Parallel()
	s := serve(t, answer(202, anEmail))
	const latin1 = "Gr\xfc\xdfe"
	for pointer, change := range map[string]func(*client.Message){
		"/from/name":              func(m *client.Message) { m.From.Name = latin1 },
		"/to/0/email":             func(m *client.Message) { m.To = []client.Address{{Email: latin1}} },
		"/reply_to/0/name":        func(m *client.Message) { m.ReplyTo = []client.Address{{Name: latin1}} },
		"/subject":                func(m *client.Message) { m.Subject = latin1 },
		"/content/text":           func(m *client.Message) { m.Content.Text = latin1 },
		"/content/html":           func(m *client.Message) { m.Content.HTML = latin1 },
		"/attachments/0/filename": func(m *client.Message) { m.Attachments = []client.Attachment{{Filename: latin1}} },
		"/headers":                func(m *client.Message) { m.Headers = client.Headers{{Name: "X", Value: latin1}} },
		"/metadata":               func(m *client.Message) { m.Metadata = map[string]string{"a": latin1} },
		"/tags/0":                 func(m *client.Message) { m.Tags = []string{latin1} },
	} {
		m := hello
		change(&m)
		_, err := newClient(t, s.URL).Send(t.Context(), m)
		var e *client.Error
		require.ErrorAs(t, err, &e, pointer)
		require.Len(t, e.Fields, 1)
		require.Equal(t, pointer, e.Fields[0].Pointer)
		require.EqualError(t, e, "POST /v1.0/emails: invalid_request: the message is not valid; nothing was sent; "+pointer+": give the text as UTF-8")
	}
	require.Empty(t, s.requests())
}

func TestSendIsRepeated(t *testing.T) {
	t.Parallel()
	unavailable := answer(503, `{"code":"unavailable","detail":"later"}`)
	for name, script := range map[string][]http.HandlerFunc{
		"no answer":           {hangUp, answer(202, anEmail)},
		"half an answer":      {answer(202, anEmail[:20], "Content-Length", "100"), answer(202, anEmail)},
		"too many requests":   {answer(429, ""), answer(202, anEmail)},
		"bad gateway":         {answer(502, "<html>"), answer(202, anEmail)},
		"unavailable":         {unavailable, answer(202, anEmail)},
		"gateway timeout":     {answer(504, ""), answer(202, anEmail)},
		"one after the other": {hangUp, unavailable, answer(502, ""), answer(202, anEmail)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, script...)
			sent, err := newClient(t, s.URL).Send(t.Context(), hello)
			require.NoError(t, err)
			require.Equal(t, anID, sent.ID)
			require.Len(t, s.requests(), len(script))
			require.Len(t, s.requests()[0].key, 26, "a random key")
			for _, r := range s.requests() {
				require.Equal(t, s.requests()[0], r, "every try is the same")
			}
		})
	}
	t.Run("a key for each message", func(t *testing.T) {
		t.Parallel()
		s := serve(t, answer(202, anEmail))
		for range 2 {
			_, err := newClient(t, s.URL).Send(t.Context(), hello, client.IdempotencyKey(""))
			require.NoError(t, err)
		}
		require.NotEqual(t, s.requests()[0].key, s.requests()[1].key)
	})
	t.Run("a key of one's own", func(t *testing.T) {
		t.Parallel()
		s := serve(t, hangUp, answer(202, anEmail))
		_, err := newClient(t, s.URL).Send(t.Context(), hello, client.IdempotencyKey("order-1"))
		require.NoError(t, err)
		require.Equal(t, "order-1", s.requests()[0].key)
		require.Equal(t, "order-1", s.requests()[1].key)
	})
	t.Run("the tries end", func(t *testing.T) {
		t.Parallel()
		s := serve(t, unavailable)
		_, err := newClient(t, s.URL).Send(t.Context(), hello)
		var e *client.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, email.CodeUnavailable, e.Code)
		require.Len(t, s.requests(), 4)
	})
	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.NoError(t, l.Close())
		_, err = newClient(t, "http://"+l.Addr().String()).Send(t.Context(), hello)
		require.ErrorContains(t, err, "POST /v1.0/emails: dial tcp")
	})
}

// The answer to a replay is the first one; whoever waits wants the verdict.
func TestReplayIsWaitedFor(t *testing.T) {
	t.Parallel()
	delivered := `{"id":"` + anID + `","status":"delivered"}`
	s := serve(t, hangUp, answer(202, anEmail, "Idempotent-Replayed", "true"), answer(200, delivered))
	sent, err := newClient(t, s.URL).Send(t.Context(), hello, client.Wait(20*time.Second))
	require.NoError(t, err)
	require.True(t, sent.Replayed)
	require.Equal(t, email.StatusDelivered, sent.Status)
	require.Equal(t, "wait=20s", s.requests()[1].query)
	require.Regexp(t, `^wait=19\.\d+s$`, s.requests()[2].query, "what is left of the time")

	s = serve(t, answer(202, anEmail, "Idempotent-Replayed", "true"))
	sent, err = newClient(t, s.URL).Send(t.Context(), hello)
	require.NoError(t, err)
	require.True(t, sent.Replayed)
	require.Len(t, s.requests(), 1)

	s = serve(t, answer(202, anEmail, "Idempotent-Replayed", "true"), answer(500, ""))
	sent, err = newClient(t, s.URL).Send(t.Context(), hello, client.Wait(time.Second))
	require.ErrorContains(t, err, "accepted as "+anID)
	require.Equal(t, anID, sent.ID)
}

func TestWhatIsRepeated(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		do    func(ctx context.Context, c *client.Client) error
		tries int
	}{
		"get":    {func(ctx context.Context, c *client.Client) error { _, err := c.Get(ctx, anID); return err }, 4},
		"raw":    {func(ctx context.Context, c *client.Client) error { _, err := c.RawMessage(ctx, anID, anID); return err }, 4},
		"cancel": {func(ctx context.Context, c *client.Client) error { _, err := c.Cancel(ctx, anID); return err }, 1},
		"resend": {func(ctx context.Context, c *client.Client) error { _, err := c.Resend(ctx, anID); return err }, 1},
		"delete": {func(ctx context.Context, c *client.Client) error { _, err := c.Delete(ctx, anID); return err }, 1},
		"key": {func(ctx context.Context, c *client.Client) error {
			_, err := c.CreateAccessKey(ctx, client.NewAccessKey{})
			return err
		}, 1},
		"customer": {func(ctx context.Context, c *client.Client) error {
			_, err := c.UpdateCustomer(ctx, client.CustomerUpdate{})
			return err
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, line := range []http.HandlerFunc{answer(503, ""), hangUp} {
				s := serve(t, line)
				require.Error(t, tt.do(t.Context(), newClient(t, s.URL)))
				require.Len(t, s.requests(), tt.tries)
			}
		})
	}
	for _, status := range []int{301, 307, 400, 401, 403, 404, 409, 413, 415, 500, 501} {
		s := serve(t, answer(status, "", "Location", "/elsewhere"))
		_, err := newClient(t, s.URL).Send(t.Context(), hello)
		var e *client.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, status, e.Status)
		require.Len(t, s.requests(), 1, status)
	}
	t.Run("a server that is not trusted is not asked again", func(t *testing.T) {
		t.Parallel()
		var handshakes atomic.Int32
		tls := httptest.NewUnstartedServer(answer(200, `{}`))
		tls.Config.ErrorLog = log.New(io.Discard, "", 0)
		tls.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				handshakes.Add(1)
			}
		}
		tls.StartTLS()
		_, err := newClient(t, tls.URL).Get(t.Context(), anID)
		tls.Close()
		require.ErrorContains(t, err, "certificate")
		require.EqualValues(t, 1, handshakes.Load())
	})
}

// transport answers without a network, in a bubble with a clock of its own.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestPausesBetweenTries(t *testing.T) {
	t.Parallel()
	// run makes one call and returns when each try came.
	run := func(t *testing.T, retry client.Retry, timeout time.Duration, retryAfter func() string) (at []time.Duration, err error) {
		start := time.Now()
		c, err := client.New("http://mail.test", "k", client.WithRetry(retry), client.WithHTTPClient(&http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			at = append(at, time.Since(start))
			res := httptest.NewRecorder()
			if s := retryAfter(); s != "" {
				res.Header().Set("Retry-After", s)
			}
			res.WriteHeader(503)
			out := res.Result()
			out.Request = r
			return out, nil
		})}))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		_, err = c.Get(ctx, anID)
		return at, err
	}
	none := func() string { return "" }
	t.Run("they double", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			at, err := run(t, client.Retry{}, time.Hour, none)
			require.Error(t, err)
			require.Len(t, at, 6)
			for i, longest := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second} {
				pause := at[i+1] - at[i]
				require.GreaterOrEqual(t, pause, longest/2)
				require.LessOrEqual(t, pause, longest)
			}
		})
	})
	t.Run("they are bounded", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			at, err := run(t, client.Retry{Tries: 40, Max: time.Second}, time.Hour, none)
			require.Error(t, err)
			require.Len(t, at, 40)
			require.LessOrEqual(t, at[39], 39*time.Second)
		})
	})
	t.Run("the server says for how long", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			at, err := run(t, client.Retry{Tries: 2}, time.Hour, func() string { return "20" })
			var e *client.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, 20*time.Second, e.RetryAfter)
			require.Len(t, at, 2)
			require.GreaterOrEqual(t, at[1], 20*time.Second+250*time.Millisecond, "not all at once")
			require.LessOrEqual(t, at[1], 20*time.Second+500*time.Millisecond)
		})
	})
	t.Run("or until when", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			until := time.Now().Add(10 * time.Second).UTC().Format(http.TimeFormat)
			at, err := run(t, client.Retry{Tries: 2}, time.Hour, func() string { return until })
			require.Error(t, err)
			require.Len(t, at, 2)
			require.GreaterOrEqual(t, at[1], 9*time.Second)
		})
	})
	t.Run("too long is for the caller", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			at, err := run(t, client.Retry{}, time.Hour, func() string { return "31" })
			var e *client.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, 31*time.Second, e.RetryAfter)
			require.Equal(t, []time.Duration{0}, at)
		})
	})
	t.Run("the context has no time left for another", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			at, err := run(t, client.Retry{}, 5*time.Second, func() string { return "5" })
			var e *client.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, []time.Duration{0}, at)
			require.Zero(t, time.Since(start), "said at once")
		})
	})
}

func TestContextEnds(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	stuck := func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}
	why := errors.New("the shop closes")
	t.Run("in a try", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancelCause(t.Context())
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			cancel(why)
			stuck(w, r)
		})
		_, err := newClient(t, s.URL).Send(ctx, hello)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, why)
		require.Len(t, s.requests(), 1)
	})
	t.Run("between tries", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Minute, func() { cancel(why) })
			_, err := newClient(t, "http://mail.test", client.WithRetry(client.Retry{First: time.Hour, Max: time.Hour}), client.WithHTTPClient(&http.Client{
				Transport: transport(func(r *http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: 503, Body: http.NoBody, Request: r}, nil
				})})).Send(ctx, hello)
			require.ErrorIs(t, err, why)
			var e *client.Error
			require.ErrorAs(t, err, &e, "and what the server said")
		})
	})
	t.Run("a server that says nothing", func(t *testing.T) {
		t.Parallel()
		s := serve(t, stuck)
		_, err := newClient(t, s.URL, client.WithTimeout(20*time.Millisecond)).Cancel(t.Context(), anID)
		require.ErrorContains(t, err, "no answer within 20ms")
	})
	// get reads a message whose first byte comes after a time, and the others one by
	// one, on a clock of its own.
	get := func(t *testing.T, first, next time.Duration, bytes int, opts ...client.GetOption) (tries int, err error) {
		c := newClient(t, "http://mail.test", client.WithRetry(client.Retry{Tries: 2}), client.WithHTTPClient(&http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			tries++
			select {
			case <-time.After(first):
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
			return &http.Response{StatusCode: 200, Body: &dripping{ctx: r.Context(), every: next, text: `{"subject":"` + strings.Repeat("x", bytes) + `"}`}, Request: r}, nil
		})}))
		_, err = c.Get(t.Context(), anID, opts...)
		return tries, err
	}
	for name, tt := range map[string]struct {
		first, next time.Duration
		wait        client.Wait
		tries       int
	}{
		"an answer in time":                     {first: 29 * time.Second, tries: 1},
		"an answer too late":                    {first: 31 * time.Second, tries: 2},
		"waiting is not silence":                {first: 59 * time.Second, wait: client.Wait(30 * time.Second), tries: 1},
		"waiting has an end":                    {first: 61 * time.Second, wait: client.Wait(30 * time.Second), tries: 2},
		"an answer that takes hours, but moves": {next: 29 * time.Second, tries: 1},
		"an answer that stops in the middle":    {next: 31 * time.Second, tries: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tries, err := get(t, tt.first, tt.next, 500, tt.wait)
				require.Equal(t, tt.tries, tries)
				if tt.tries == 1 {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, "no answer within")
				}
			})
		})
	}
}

// dripping is a body that comes byte by byte.
type dripping struct {
	ctx   context.Context
	every time.Duration
	text  string
}

func (d *dripping) Read(p []byte) (int, error) {
	if d.text == "" {
		return 0, io.EOF
	}
	select {
	case <-time.After(d.every):
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
	n := copy(p[:1], d.text)
	d.text = d.text[n:]
	return n, nil
}

func (d *dripping) Close() error { return nil }

func TestErrors(t *testing.T) {
	t.Parallel()
	get := func(t *testing.T, line http.HandlerFunc) *client.Error {
		t.Helper()
		_, err := newClient(t, serve(t, line).URL, client.WithRetry(client.Retry{Tries: 1})).Get(t.Context(), anID)
		var e *client.Error
		require.ErrorAs(t, err, &e)
		return e
	}
	t.Run("a problem", func(t *testing.T) {
		t.Parallel()
		e := get(t, answer(400, `{"type":"about:blank","title":"Bad Request","status":400,"code":"invalid_request","detail":"errors says why",
			"errors":[{"pointer":"/to/0/email","code":"invalid_address","detail":"no @"},{"pointer":"/subject","code":"missing","detail":"give one"}],
			"request_id":"r1","later":{"x":1}}`, "Content-Type", "application/problem+json", "X-Request-Id", "r1"))
		require.Equal(t, &client.Error{Method: "GET", Path: "/v1.0/emails/" + anID, Status: 400, Code: email.CodeInvalidRequest, Detail: "errors says why", RequestID: "r1",
			Fields: []email.FieldError{{Pointer: "/to/0/email", Code: "invalid_address", Detail: "no @"}, {Pointer: "/subject", Code: "missing", Detail: "give one"}}}, e)
		require.EqualError(t, e, "GET /v1.0/emails/"+anID+": 400 invalid_request: errors says why; /to/0/email: no @; /subject: give one (request r1)")
	})
	t.Run("a proxy's page", func(t *testing.T) {
		t.Parallel()
		e := get(t, answer(502, "<html>oops</html>", "Retry-After", "7", "X-Request-Id", "p1"))
		require.Equal(t, &client.Error{Method: "GET", Path: "/v1.0/emails/" + anID, Status: 502, Detail: "Bad Gateway", RequestID: "p1", RetryAfter: 7 * time.Second}, e)
	})
	t.Run("a redirect", func(t *testing.T) {
		t.Parallel()
		e := get(t, answer(301, "", "Location", "https://mail.example.com/"))
		require.EqualError(t, e, "GET /v1.0/emails/"+anID+": 301: Moved Permanently: the address has moved to https://mail.example.com/")
	})
	t.Run("a success that is none", func(t *testing.T) {
		t.Parallel()
		s := serve(t, answer(200, "<html>log in", "Content-Type", "text/html"))
		_, err := newClient(t, s.URL).Send(t.Context(), hello)
		require.ErrorContains(t, err, "answered 200 with text/html that cannot be read")
		require.Len(t, s.requests(), 1)
	})
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	const body = `{"id":"` + anID + `","status":"sending","status_detail":"partial","tm_create":"2025-03-14 19:04:01.160250","tm_delete":"9999-01-01 00:00:00.000000",
		"next_attempt_at":"2025-03-14T19:05:01.000Z","send_at":null,"counts":{"total":2,"open":1,"delivered":1},"source":{"target":"a@x.com"},
		"recipients":[{"address":"b@y.com","status":"delivered","smtp_code":250,"accepted_by":{"host":"h","code":250,"means":"final","at":"2025-03-14T19:04:02.000Z"}},
		{"address":"c@y.com","status":"deferred","attempts":1}],"from_the_future":{"a":[1]}}`
	e, err := newClient(t, serve(t, answer(200, body)).URL).Get(t.Context(), anID)
	require.NoError(t, err)
	require.Equal(t, email.StatusSending, e.Status)
	require.Equal(t, email.DetailPartial, e.StatusDetail)
	require.Equal(t, time.Date(2025, 3, 14, 19, 4, 1, 160250000, time.UTC), e.TmCreate.Time)
	require.True(t, e.TmDelete.IsZero())
	require.Equal(t, time.Date(2025, 3, 14, 19, 5, 1, 0, time.UTC), e.NextAttemptAt)
	require.True(t, e.SendAt.IsZero())
	require.Equal(t, email.Counts{Total: 2, Open: 1, Delivered: 1}, e.Counts)
	require.Equal(t, email.AcceptsFinal, e.Recipients[0].AcceptedBy.Means)
	require.Nil(t, e.Recipients[1].AcceptedBy)
	require.JSONEq(t, body, string(e.JSON()))

	_, err = newClient(t, serve(t, answer(200, `{"tm_create":"yesterday"}`)).URL).Get(t.Context(), anID)
	require.ErrorContains(t, err, "a tm_ member")
}

func TestListsArePaged(t *testing.T) {
	t.Parallel()
	pages := []http.HandlerFunc{
		answer(200, `{"result":[{"id":"1"},{"id":"2"}],"next_page_token":"2025-03-14 19:04:01.160250,x"}`),
		answer(503, ""), // a page is tried again, too
		answer(200, `{"result":[{"id":"3"}],"next_page_token":""}`),
	}
	ids := func(c *client.Client) (out []string, err error) {
		for e, err := range c.List(t.Context(), email.Filter{}, client.PageSize(2)) {
			if err != nil {
				return out, err
			}
			out = append(out, e.ID)
		}
		return out, nil
	}
	s := serve(t, pages...)
	got, err := ids(newClient(t, s.URL))
	require.NoError(t, err)
	require.Equal(t, []string{"1", "2", "3"}, got)
	require.Equal(t, "page_size=2", s.requests()[0].query)
	require.Equal(t, "page_size=2&page_token=2025-03-14+19%3A04%3A01.160250%2Cx", s.requests()[2].query)

	s = serve(t, pages[0], answer(500, `{"code":"internal"}`))
	got, err = ids(newClient(t, s.URL))
	require.Error(t, err)
	require.Equal(t, []string{"1", "2"}, got)

	s = serve(t, pages[0], pages[2], pages[0])
	seq := newClient(t, s.URL).List(t.Context(), email.Filter{})
	for _, err := range seq {
		require.NoError(t, err)
	}
	for e, err := range seq {
		require.NoError(t, err)
		require.Equal(t, "1", e.ID, "from the beginning")
		break
	}
	require.Len(t, s.requests(), 3, "no page is fetched that nobody reads")
	require.Equal(t, s.requests()[0], s.requests()[2])
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "mail.example.com", "ftp://x", "http://", "http://user:pass@x", "http://x?a=b", "http://x/v1.0", "http://x/v1.0/", "http://x#y", ":"} {
		_, err := client.New(bad, "k")
		require.ErrorContains(t, err, "base URL", bad)
	}
	for _, bad := range []string{"", "a b", "a\n", "ä"} {
		_, err := client.New("http://x", bad)
		require.ErrorContains(t, err, "access key", bad)
	}
	c := newClient(t, "http://mail.example.com")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		require.NotContains(t, fmt.Sprintf(verb, c), "pr_secret")
		require.NotContains(t, fmt.Sprintf(verb, struct{ C *client.Client }{c}), "pr_secret")
	}
}
