package webhook_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/endpoint"
	"github.com/postrider/postrider/internal/safehttp"
	"github.com/postrider/postrider/internal/webhook"
)

// call is one request as the receiver saw it.
type call struct {
	method string
	header http.Header
	body   []byte
}

// receiver is a customer's server: it sends the given answers and keeps the requests.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	calls []call
}

func newReceiver(t *testing.T, answer http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		r.calls = append(r.calls, call{req.Method, req.Header.Clone(), body})
		r.mu.Unlock()
		answer(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) got() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]call(nil), r.calls...)
}

func devPoster() *webhook.Poster {
	return webhook.NewPoster(safehttp.New(safehttp.Options{AllowHTTP: true, AllowLoopback: true}), "1.2.3")
}

func due(t *testing.T, url string) endpoint.Due {
	t.Helper()
	return endpoint.Due{
		Endpoint: endpoint.Endpoint{ID: "e1", URL: url, Secrets: []endpoint.Secret{newSecret(t)}},
		Delivery: endpoint.Delivery{ID: "msg_1", EndpointID: "e1", Type: "email.delivered", Body: []byte(`{"type":"email.delivered", "x":"<ü>"}`)},
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func TestRequest(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "thanks") })
	d := due(t, r.URL+"/hook?token=x")
	old := newSecret(t)
	old.ValidUntil = time.Now().Add(time.Hour)
	d.Endpoint.Secrets = append(d.Endpoint.Secrets, old)
	before := time.Now().Unix()
	res := devPoster().Post(t.Context(), d, 0)
	require.Empty(t, res.Error)
	require.Equal(t, endpoint.VerdictDelivered, res.Verdict)
	require.Equal(t, 200, res.Status)
	require.Equal(t, "thanks", res.BodyExcerpt)
	require.Positive(t, res.Duration)

	calls := r.got()
	require.Len(t, calls, 1)
	got := calls[0]
	require.Equal(t, "POST", got.method)
	require.Equal(t, d.Delivery.Body, got.body)
	require.Equal(t, "application/json", got.header.Get("Content-Type"))
	require.Equal(t, "Postrider/1.2.3", got.header.Get("User-Agent"))
	require.Equal(t, "msg_1", got.header.Get("webhook-id"))
	require.Equal(t, "1", got.header.Get("x-postrider-attempt"))
	at, err := strconv.ParseInt(got.header.Get("webhook-timestamp"), 10, 64)
	require.NoError(t, err)
	require.GreaterOrEqual(t, at, before)
	require.LessOrEqual(t, at, time.Now().Unix())
	require.NoError(t, verify(t, d.Endpoint.Secrets[0], got.body, got.header))
	require.NoError(t, verify(t, old, got.body, got.header))
}

func TestEveryAttemptSendsTheSameBytes(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, status(500))
	d := due(t, r.URL)
	for n := range 3 {
		d.Delivery.Attempts = n
		require.Equal(t, endpoint.VerdictRetry, devPoster().Post(t.Context(), d, 0).Verdict)
	}
	calls := r.got()
	require.Len(t, calls, 3)
	for i, c := range calls {
		require.Equal(t, d.Delivery.Body, c.body)
		require.Equal(t, "msg_1", c.header.Get("webhook-id"))
		require.Equal(t, strconv.Itoa(i+1), c.header.Get("x-postrider-attempt"))
		require.NoError(t, verify(t, d.Endpoint.Secrets[0], c.body, c.header))
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, status(204))
	for _, method := range []string{"POST", "PUT", "GET", "DELETE"} {
		d := due(t, r.URL)
		d.Endpoint.Method = method
		require.Equal(t, endpoint.VerdictDelivered, devPoster().Post(t.Context(), d, 0).Verdict)
		calls := r.got()
		require.Equal(t, method, calls[len(calls)-1].method)
		require.Equal(t, d.Delivery.Body, calls[len(calls)-1].body)
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Second) // a date has whole seconds
	date := func(d time.Duration) string { return now.Add(d).UTC().Format(http.TimeFormat) }
	for name, tc := range map[string]struct {
		status     int
		retryAfter string
		verdict    endpoint.Verdict
		wait       time.Duration
		error      string
	}{
		"202":              {202, "", endpoint.VerdictDelivered, 0, ""},
		"302":              {302, "", endpoint.VerdictRetry, 0, "answered 302 Found"},
		"410":              {410, "", endpoint.VerdictGone, 0, "answered 410 Gone"},
		"429 in seconds":   {429, "3600", endpoint.VerdictRetry, time.Hour, "answered 429 Too Many Requests"},
		"429 with a date":  {429, date(time.Hour), endpoint.VerdictRetry, time.Hour, "answered 429 Too Many Requests"},
		"429 in two days":  {429, "172800", endpoint.VerdictRetry, 24 * time.Hour, "answered 429 Too Many Requests"},
		"429 to a far day": {429, date(72 * time.Hour), endpoint.VerdictRetry, 24 * time.Hour, "answered 429 Too Many Requests"},
		"500":              {500, "", endpoint.VerdictRetry, 0, "answered 500 Internal Server Error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
				if tc.retryAfter != "" {
					w.Header().Set("Retry-After", tc.retryAfter)
				}
				w.Header().Set("Location", "/login")
				w.WriteHeader(tc.status)
			})
			res := devPoster().WithClock(func() time.Time { return now }).Post(t.Context(), due(t, r.URL), 0)
			require.Equal(t, tc.status, res.Status)
			require.Equal(t, tc.verdict, res.Verdict)
			require.Equal(t, tc.wait, res.RetryAfter)
			require.Equal(t, tc.error, res.Error)
			require.Len(t, r.got(), 1, "a redirect is not followed")
		})
	}
}

func TestHangingReceiver(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	r := newReceiver(t, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	res := devPoster().Post(t.Context(), due(t, r.URL+"/?token=s3cret"), 200*time.Millisecond)
	require.Equal(t, endpoint.VerdictRetry, res.Verdict)
	require.Zero(t, res.Status)
	require.Contains(t, res.Error, "timed out")
	require.NotContains(t, res.Error, "s3cret")
	require.GreaterOrEqual(t, res.Duration, 200*time.Millisecond)
	require.Less(t, res.Duration, 10*time.Second)
}

// The status is the answer; a body that never ends does not undo it.
func TestAcceptedWithAnEndlessBody(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "ok")
		w.(http.Flusher).Flush()
		<-release
	})
	t.Cleanup(func() { close(release) })
	res := devPoster().Post(t.Context(), due(t, r.URL), 200*time.Millisecond)
	require.Equal(t, endpoint.VerdictDelivered, res.Verdict)
	require.Equal(t, "ok", res.BodyExcerpt)
	require.Empty(t, res.Error)
}

func TestGigabyteAnswerIsCutOff(t *testing.T) {
	t.Parallel()
	var written atomic.Int64
	stopped := make(chan struct{})
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		defer close(stopped)
		chunk := []byte(strings.Repeat("ü", 1<<19))
		for range 1024 {
			n, err := w.Write(chunk)
			written.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	res := devPoster().Post(t.Context(), due(t, r.URL), 0)
	require.Equal(t, endpoint.VerdictDelivered, res.Verdict)
	require.Equal(t, strings.Repeat("ü", 512), res.BodyExcerpt)
	<-stopped
	require.Less(t, written.Load(), int64(64<<20), "of 1 GiB only what fitted into buffers was sent")
}

func TestExcerptIsText(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(500)
		w.Write([]byte("a\x00b\xffc" + strings.Repeat("€", 1000)))
	})
	res := devPoster().Post(t.Context(), due(t, r.URL), 0)
	require.True(t, utf8.ValidString(res.BodyExcerpt))
	require.True(t, strings.HasPrefix(res.BodyExcerpt, "a\uFFFDb\uFFFDc€"))
	require.LessOrEqual(t, len(res.BodyExcerpt), 1024)
	require.Greater(t, len(res.BodyExcerpt), 1020)
}

func TestInternalAddressesGetNoCall(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, status(200))
	_, port, err := net.SplitHostPort(r.Listener.Addr().String())
	require.NoError(t, err)
	p := webhook.NewPoster(safehttp.New(safehttp.Options{AllowHTTP: true}), "1.2.3")
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "0x7f.1", "2130706433", "017700000001"} {
		res := p.Post(t.Context(), due(t, "http://"+host+":"+port+"/"), time.Second)
		require.Equal(t, endpoint.VerdictRetry, res.Verdict, host)
		require.Zero(t, res.Status, host)
		require.NotEmpty(t, res.Error, host)
	}
	require.Empty(t, r.got())
}

// An endpoint in a private network that the operator listed gets its calls;
// what it answers is not shown.
func TestListedAddressIsCalledButNotQuoted(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "internal") })
	p := webhook.NewPoster(safehttp.New(safehttp.Options{AllowHTTP: true, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}), "1.2.3")
	res := p.Post(t.Context(), due(t, r.URL), 0)
	require.Equal(t, endpoint.VerdictDelivered, res.Verdict)
	require.Empty(t, res.BodyExcerpt)
}

func TestWithoutASecretNothingIsSent(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, status(200))
	d := due(t, r.URL)
	d.Endpoint.Secrets[0].ValidUntil = time.Now().Add(-time.Second)
	res := devPoster().Post(t.Context(), d, 0)
	require.Equal(t, endpoint.VerdictRetry, res.Verdict)
	require.Contains(t, res.Error, "no secret")
	require.Empty(t, r.got())
}

func TestBadMethodAndURLAreReportedWithoutTheURL(t *testing.T) {
	t.Parallel()
	d := due(t, "http://127.0.0.1:9999/?token=s3cret")
	d.Endpoint.Method = "PO ST"
	require.Equal(t, `endpoint e1: method "PO ST"`, devPoster().Post(t.Context(), d, 0).Error)
	res := devPoster().Post(t.Context(), due(t, "http://user:s3cret@127.0.0.1:9999/"), 0)
	require.NotEmpty(t, res.Error)
	require.NotContains(t, res.Error, "s3cret")
}
