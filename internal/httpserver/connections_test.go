package httpserver_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/httpserver"
)

// from is a listener whose connections have addresses that the test chooses.
type from struct {
	net.Listener
	next chan string
}

type fromConn struct {
	net.Conn
	addr net.Addr
}

func (c fromConn) RemoteAddr() net.Addr { return c.addr }

func (l from) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return fromConn{conn, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(<-l.next), 1))}, nil
}

// limited starts a server with 40 connections in all and perIP for each address. client makes one
// request on a new connection, which stays open, and returns the status. The handler of the path
// /busy answers at once, but does not return.
func limited(t *testing.T, path string, perIP int) (client func(ip string) (conn net.Conn, status int)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addresses := make(chan string, 1)
	srv := httpserver.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNoContent)
		if r.URL.Path != "/busy" {
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-r.Context().Done()
	}))
	limited := httpserver.LimitConnections(from{l, addresses}, 40, perIP, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")})
	go func() { _ = srv.Serve(limited) }() // closed below
	t.Cleanup(func() { require.NoError(t, srv.Close()) })
	return func(ip string) (net.Conn, int) {
		t.Helper()
		addresses <- ip
		conn, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		in := bufio.NewReader(conn)
		_, err = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		res, err := http.ReadResponse(in, nil)
		if err != nil { // a refusal that the reset of the connection has overtaken
			return conn, http.StatusTooManyRequests
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		if res.StatusCode == http.StatusTooManyRequests {
			require.Contains(t, string(body), `"code":"too_many_requests"`)
		}
		return conn, res.StatusCode
	}
}

// Connections of one address leave some for other addresses. The addresses of an IPv6 /64 count as
// one. Closed connections are free again.
func TestConnectionsPerAddress(t *testing.T) {
	t.Parallel()
	client := limited(t, "/busy", 8)
	fill := func(ips ...string) (open []net.Conn) {
		for i := 0; ; i++ {
			require.Less(t, i, 40)
			conn, status := client(ips[i%len(ips)])
			if status == http.StatusTooManyRequests {
				return open
			}
			require.Equal(t, http.StatusNoContent, status)
			open = append(open, conn)
		}
	}
	open := fill("192.0.2.1")
	require.Len(t, open, 8)
	require.Len(t, fill("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"), 8)
	_, status := client("2001:db8:0:2::1")
	require.Equal(t, http.StatusNoContent, status, "another /64")
	_, status = client("::ffff:192.0.2.1")
	require.Equal(t, http.StatusTooManyRequests, status, "the same IPv4 address")

	require.NoError(t, open[0].Close())
	require.Eventually(t, func() bool { _, status := client("192.0.2.1"); return status == http.StatusNoContent }, time.Minute, 10*time.Millisecond)
	for range 10 {
		_, status = client("10.1.2.3")
		require.Equal(t, http.StatusNoContent, status, "a trusted proxy carries the requests of many")
	}
	// 27 of 40 are in use. New addresses may have half of the free ones, at least four.
	require.Len(t, fill("198.51.100.1"), 4)
	require.Len(t, fill("198.51.100.2"), 4)
	require.Len(t, fill("198.51.100.3"), 4)
	_, status = client("198.51.100.4")
	require.Equal(t, http.StatusNoContent, status)
}

// Idle connections from many addresses are closed for new ones.
func TestIdleConnectionsAreEvicted(t *testing.T) {
	t.Parallel()
	client := limited(t, "/", 8)
	proxy, status := client("10.1.2.3")
	require.Equal(t, http.StatusNoContent, status)
	var first net.Conn
	for i := range 120 {
		conn, status := client(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).String())
		require.Equal(t, http.StatusNoContent, status, i)
		if i == 0 {
			first = conn
		}
	}
	_, err := first.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the oldest is closed")
	_, err = io.WriteString(proxy, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(proxy), nil)
	require.NoError(t, err, "the connection of a proxy stays open")
	require.NoError(t, resp.Body.Close())
}

// An IPv6 /48 may have four times perIP, from any number of its /64s.
func TestConnectionsPerIPv6Site(t *testing.T) {
	t.Parallel()
	client := limited(t, "/busy", 2)
	var open int
	for i := range 40 {
		ip := netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, byte(i), 15: 1}).String()
		if _, status := client(ip); status == http.StatusNoContent {
			open++
		}
	}
	require.Equal(t, 8, open)
	_, status := client("2001:db8:2::1")
	require.Equal(t, http.StatusNoContent, status, "another site")
}

// Connections that have never sent anything are closed for new ones.
func TestSilentConnectionsAreEvicted(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := httpserver.New(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	go func() { _ = srv.Serve(httpserver.LimitConnections(l, 40, 0, nil)) }() // closed below
	t.Cleanup(func() { require.NoError(t, srv.Close()) })
	var first net.Conn
	for range 60 {
		conn, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		if first == nil {
			first = conn
		}
	}
	_, err = first.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
}

// Connections without progress are closed for new ones, in each state that waits for the client.
func TestConnectionsWithoutProgressAreEvicted(t *testing.T) {
	t.Parallel()
	const post = "POST /read HTTP/1.1\r\nHost: x\r\n"
	for name, sends := range map[string]string{
		"a header that has begun":      "GET / HTTP/1.1\r\nHost: ",
		"a body that does not come":    post + "Content-Length: 10\r\n\r\n",
		"chunks that do not come":      post + "Transfer-Encoding: chunked\r\n\r\n",
		"a body that has begun":        post + "Content-Length: 10\r\n\r\n{",
		"a body that is not asked for": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
		"a body after 100 Continue":    post + "Expect: 100-continue\r\nContent-Length: 10\r\n\r\n",
		"an answer that is not read":   "GET /large HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			srv := httpserver.NewPaced(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/read":
					if _, err := io.ReadAll(r.Body); err != nil {
						return
					}
				case "/large":
					_, _ = w.Write(make([]byte, 64<<20)) // the client is cut off
					return
				}
				w.WriteHeader(http.StatusNoContent)
			}), httpserver.Pace{BodyGrace: time.Hour, BodyRate: 1, BodyMax: time.Hour, AnswerPiece: 64 << 10, AnswerTime: time.Hour})
			srv.ReadHeaderTimeout = time.Hour
			go func() { _ = srv.Serve(httpserver.LimitConnections(l, 40, 0, nil)) }() // closed below
			t.Cleanup(func() { require.NoError(t, srv.Close()) })
			connect := func(sends string) net.Conn {
				conn, err := net.Dial("tcp", l.Addr().String())
				require.NoError(t, err)
				t.Cleanup(func() { conn.Close() })
				_, err = io.WriteString(conn, sends)
				require.NoError(t, err)
				return conn
			}
			for range 60 {
				connect(sends)
			}
			conn := connect("POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusNoContent, resp.StatusCode)
		})
	}
}
