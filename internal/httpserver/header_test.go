package httpserver_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/httpserver"
)

// A header with too many lines ends its connection before the handler runs. Each line takes more
// than a hundred bytes of memory.
func TestHeaderLineLimit(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := httpserver.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client sees that there is no answer
		}
		fmt.Fprintf(w, "%d headers, %d bytes", len(r.Header), len(body))
	}))
	go func() { _ = srv.Serve(httpserver.LimitConnections(l, httpserver.MaxConnections, 0, nil)) }() // it ends with the test
	t.Cleanup(func() { srv.Close() })
	dial := func() (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		return conn, bufio.NewReader(conn)
	}
	header := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "h%d:\r\n", i)
		}
		return b.String()
	}
	answer := func(r *bufio.Reader) string {
		resp, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(body)
	}

	// A body may have any number of lines. The lines of each header are counted anew.
	conn, r := dial()
	body := strings.Repeat("\r\n", 50_000)
	for _, before := range []string{"", "\r\n", ""} { // RFC 9112 section 2.2
		_, err := fmt.Fprintf(conn, "%sPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n%s", before, len(body), header(90), body)
		require.NoError(t, err)
		require.Equal(t, "91 headers, 100000 bytes", answer(r))
	}
	// An endless header is read up to the limit.
	conn, r = dial()
	_, err = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\n%s", header(200))
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, r)
	var timeout net.Error
	require.NotErrorAs(t, err, &timeout, "the connection has ended, and not by a time-out")
	// The limit also holds for the second request of a connection.
	conn, r = dial()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	require.Equal(t, "0 headers, 0 bytes", answer(r))
	_, err = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\n%s\r\n", header(200))
	require.NoError(t, err)
	_, err = r.ReadByte()
	require.Error(t, err)
}
