package client_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
)

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

// The answer to a replay is the first one; a client that waits wants the verdict.
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
