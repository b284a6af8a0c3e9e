package safehttp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/safehttp"
)

// quiet swallows what a server says of the handshakes that a test wants to fail.
var quiet = log.New(io.Discard, "", 0)

var dev = safehttp.Options{AllowHTTP: true, AllowLoopback: true}

// serveOn runs handler on ip with a port of its own and counts the connections.
func serveOn(t *testing.T, ip, port string, handler http.HandlerFunc) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(ip, port))
	require.NoError(t, err)
	srv := httptest.NewUnstartedServer(handler)
	require.NoError(t, srv.Listener.Close())
	var conns atomic.Int64
	srv.Listener = ln
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Config.SetKeepAlivesEnabled(false)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv, &conns
}

func get(t *testing.T, c *safehttp.Client, url string) (safehttp.Response, error) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	require.NoError(t, err)
	return c.Do(t.Context(), req, 1024)
}

func requireBlocked(t *testing.T, err error, reason string) {
	t.Helper()
	blocked, ok := errors.AsType[*safehttp.BlockedError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, reason, blocked.Reason)
}

func ok(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }

func TestAnswer(t *testing.T) {
	t.Parallel()
	srv, _ := serveOn(t, "127.0.0.1", "0", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Seen", r.Method)
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, strings.Repeat("x", 2000))
	})
	resp, err := get(t, safehttp.New(dev), srv.URL)
	require.NoError(t, err)
	require.Equal(t, http.StatusTeapot, resp.Status)
	require.Equal(t, "GET", resp.Header.Get("X-Seen"))
	require.Len(t, resp.Body, 1024)
	require.True(t, resp.Truncated)
	require.False(t, resp.Private)
}

// The name resolves to an address that may be called, and then to one that may
// not: what counts is the address at the moment of the call.
func TestRebinding(t *testing.T) {
	t.Parallel()
	good, _ := serveOn(t, "127.0.0.2", "0", ok)
	_, port, err := net.SplitHostPort(good.Listener.Addr().String())
	require.NoError(t, err)
	_, hits := serveOn(t, "127.0.0.1", port, ok)
	allowed, internal := netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")
	dns, resolver := newNameServer(t, []netip.Addr{allowed}, []netip.Addr{internal}, []netip.Addr{netip.MustParseAddr("169.254.169.254")})
	c := safehttp.New(safehttp.Options{AllowHTTP: true, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}, Resolver: resolver})

	resp, err := get(t, c, "http://rebind.example:"+port+"/")
	require.NoError(t, err)
	require.Equal(t, "hello", string(resp.Body))
	require.True(t, resp.Private, "only the list made it reachable")

	_, err = get(t, c, "http://rebind.example:"+port+"/")
	requireBlocked(t, err, "loopback")
	require.NotContains(t, err.Error(), "127.0.0.1")
	_, err = get(t, c, "http://rebind.example:"+port+"/")
	requireBlocked(t, err, "link-local")
	require.Equal(t, 3, dns.questions())
	require.Zero(t, hits.Load())
}

func TestOfSeveralAddressesOnlyAllowedOnesAreCalled(t *testing.T) {
	t.Parallel()
	good, _ := serveOn(t, "127.0.0.2", "0", ok)
	_, port, err := net.SplitHostPort(good.Listener.Addr().String())
	require.NoError(t, err)
	_, hits := serveOn(t, "127.0.0.1", port, ok)
	_, resolver := newNameServer(t, []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")})
	c := safehttp.New(safehttp.Options{AllowHTTP: true, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}, Resolver: resolver})
	resp, err := get(t, c, "http://both.example:"+port+"/")
	require.NoError(t, err)
	require.Equal(t, "hello", string(resp.Body))
	require.Zero(t, hits.Load())
}

// Names that a resolver turns into internal addresses, past CheckURL.
func TestNamesOfInternalAddresses(t *testing.T) {
	t.Parallel()
	for addr, reason := range map[string]string{"127.0.0.1": "loopback", "10.0.0.1": "private", "169.254.169.254": "link-local", "0.0.0.0": "unspecified"} {
		_, resolver := newNameServer(t, []netip.Addr{netip.MustParseAddr(addr)})
		_, err := get(t, safehttp.New(safehttp.Options{Resolver: resolver}), "https://innocent.example/")
		requireBlocked(t, err, reason)
	}
}

func TestMetadataStaysBlockedWhenListed(t *testing.T) {
	t.Parallel()
	_, resolver := newNameServer(t, []netip.Addr{netip.MustParseAddr("169.254.169.254")})
	c := safehttp.New(safehttp.Options{AllowHTTP: true, AllowLoopback: true, Resolver: resolver, AllowPrivate: []netip.Prefix{
		netip.MustParsePrefix("169.254.169.254/32"), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"),
	}})
	_, err := get(t, c, "http://metadata.example/latest/meta-data/")
	requireBlocked(t, err, "link-local")
	for _, host := range []string{"169.254.169.254", "[fd00:ec2::254]", "100.100.100.200", "[64:ff9b::a9fe:a9fe]", "[::ffff:169.254.169.254]"} {
		_, err := get(t, c, "http://"+host+"/")
		_, blocked := errors.AsType[*safehttp.BlockedError](err)
		require.True(t, blocked, "%s: %v", host, err)
	}
}

func TestDoJudgesTheShapeToo(t *testing.T) {
	t.Parallel()
	_, err := get(t, safehttp.New(safehttp.Options{}), "http://example.com/?key=s3cret")
	_, isURL := errors.AsType[*safehttp.URLError](err)
	require.True(t, isURL, "%v", err)
	require.NotContains(t, err.Error(), "s3cret")
}

func TestRedirectsAreAnswers(t *testing.T) {
	t.Parallel()
	var hits atomic.Int64
	srv, _ := serveOn(t, "127.0.0.1", "0", func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	})
	resp, err := get(t, safehttp.New(dev), srv.URL)
	require.NoError(t, err)
	require.Equal(t, http.StatusFound, resp.Status)
	require.Equal(t, int64(1), hits.Load())
}

func TestProxyFromTheEnvironmentIsIgnored(t *testing.T) { // not parallel: environment
	var proxied atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { proxied.Add(1) }))
	t.Cleanup(proxy.Close)
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	_, resolver := newNameServer(t, []netip.Addr{netip.MustParseAddr("127.0.0.1")})
	_, err := get(t, safehttp.New(safehttp.Options{AllowHTTP: true, Resolver: resolver}), "http://inside.example/")
	requireBlocked(t, err, "loopback")
	require.Zero(t, proxied.Load())
}

func TestOldTLSAndUnknownCertificatesAreRefused(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(ok))
	srv.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	srv.Config.ErrorLog = quiet
	srv.StartTLS()
	t.Cleanup(srv.Close)
	trusting := dev
	trusting.RootCAs = srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	_, err := get(t, safehttp.New(trusting), srv.URL)
	require.ErrorContains(t, err, "protocol version")

	modern := httptest.NewUnstartedServer(http.HandlerFunc(ok))
	modern.Config.ErrorLog = quiet
	modern.StartTLS()
	t.Cleanup(modern.Close)
	_, err = get(t, safehttp.New(dev), modern.URL)
	require.ErrorContains(t, err, "failed to verify certificate")
	_, err = get(t, safehttp.New(trusting), modern.URL)
	require.NoError(t, err)
}

func TestErrorsKeepSecrets(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := ln.Addr().String()
	require.NoError(t, ln.Close())
	_, err = get(t, safehttp.New(dev), "http://"+addr+"/hooks/s3cret?key=s3cret")
	require.EqualError(t, err, "GET "+addr+": connection refused")
	for e := err; e != nil; e = errors.Unwrap(e) {
		require.NotContains(t, e.Error(), "s3cret")
	}
}

// A peer that is not HTTP must not be quoted: it may be a private one.
func TestBannersAreNotRepeated(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return // the test is over
		}
		defer conn.Close()
		io.WriteString(conn, "SSH-2.0-OpenSSH_9.2\r\n\r\n")
	}()
	_, err = get(t, safehttp.New(dev), "http://"+ln.Addr().String())
	require.EqualError(t, err, "GET "+ln.Addr().String()+": the answer is not valid HTTP")
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	srv, _ := serveOn(t, "127.0.0.1", "0", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			io.WriteString(w, "begun")
			w.(http.Flusher).Flush()
		}
		<-release
	})
	t.Cleanup(func() { close(release) })
	opts := dev
	opts.Timeout = 200 * time.Millisecond

	resp, err := get(t, safehttp.New(opts), srv.URL+"/head")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "timed out")
	require.Zero(t, resp.Status)

	resp, err = get(t, safehttp.New(opts), srv.URL+"/body")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, http.StatusOK, resp.Status)
	require.Equal(t, "begun", string(resp.Body))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req, err := http.NewRequest(http.MethodGet, srv.URL, nil)
	require.NoError(t, err)
	_, err = safehttp.New(dev).Do(ctx, req, 1)
	require.ErrorIs(t, err, context.Canceled)
}

func TestOpenHandsTheBodyOverUnread(t *testing.T) {
	t.Parallel()
	goOn := make(chan struct{})
	srv, _ := serveOn(t, "127.0.0.1", "0", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/whole" {
			io.WriteString(w, "hello")
			return
		}
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "begun")
		w.(http.Flusher).Flush()
		<-goOn
		panic(http.ErrAbortHandler)
	})
	srv.Config.ErrorLog = quiet
	open := func(path string) safehttp.Stream {
		req, err := http.NewRequest(http.MethodGet, srv.URL+path+"?key=s3cret", nil)
		require.NoError(t, err)
		s, err := safehttp.New(dev).Open(t.Context(), req)
		require.NoError(t, err)
		return s
	}
	whole := open("/whole")
	body, err := io.ReadAll(whole.Body)
	require.NoError(t, err)
	require.Equal(t, "hello", string(body))
	require.Equal(t, int64(5), whole.Length)
	require.False(t, whole.Private)
	require.NoError(t, whole.Body.Close())

	broken := open("/broken")
	begun := make([]byte, 5)
	_, err = io.ReadFull(broken.Body, begun)
	require.NoError(t, err, "before the answer is at its end")
	close(goOn)
	_, err = io.ReadAll(broken.Body)
	_, isCall := errors.AsType[*safehttp.CallError](err)
	require.True(t, isCall, "%v", err)
	require.EqualError(t, err, "GET "+strings.TrimPrefix(srv.URL, "http://")+": the connection ended before the answer did")
	require.NoError(t, broken.Body.Close())

	req, err := http.NewRequest(http.MethodGet, "https://127.0.0.1/", nil)
	require.NoError(t, err)
	_, err = safehttp.New(safehttp.Options{}).Open(t.Context(), req)
	requireBlocked(t, err, "loopback")
}

func TestAnEndlessAnswerIsCutOff(t *testing.T) {
	t.Parallel()
	var written atomic.Int64
	stopped := make(chan struct{})
	srv, _ := serveOn(t, "127.0.0.1", "0", func(w http.ResponseWriter, _ *http.Request) {
		defer close(stopped)
		chunk := make([]byte, 1<<20)
		for range 1024 {
			n, err := w.Write(chunk)
			written.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	resp, err := get(t, safehttp.New(dev), srv.URL)
	require.NoError(t, err)
	require.Len(t, resp.Body, 1024)
	require.True(t, resp.Truncated)
	<-stopped
	require.Less(t, written.Load(), int64(64<<20), "of 1 GiB only what fitted into buffers was sent")
}
