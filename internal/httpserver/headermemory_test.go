package httpserver_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/httpserver"
)

// inUse returns the memory of heap and stacks after a garbage collection.
func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// A header arrives before its request is authenticated, and stays as long as the request.
// MaxConnections of them fit a process of 512 MB, in each form, and with a trailer after a chunked
// body. Not parallel: the memory of other tests would count.
func TestMemoryOfLargestHeaders(t *testing.T) {
	const connections = 200
	for name, header := range map[string]string{
		"short lines":        shortLines(90),
		"long lines":         strings.Repeat("a: "+strings.Repeat("b", 110)+"\r\n", 90),
		"a trailer is named": "Trailer: " + manyNames(3000) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var read sync.WaitGroup
			read.Add(connections)
			end, trailers := make(chan struct{}), make(chan int, connections)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			srv := httpserver.New(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				trailers <- len(r.Trailer)
				read.Done()
				<-end
			}))
			served := make(chan error, 1)
			go func() { served <- srv.Serve(httpserver.LimitConnections(l, httpserver.MaxConnections, 0, nil)) }()
			t.Cleanup(func() { require.NoError(t, srv.Close()); require.ErrorIs(t, <-served, http.ErrServerClosed) })
			request := "POST /?" + strings.Repeat("q", 1000) + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + header + "\r\n0\r\n" + shortLines(800) + "\r\n"

			before := inUse()
			for range connections {
				conn, err := net.Dial("tcp", l.Addr().String())
				require.NoError(t, err)
				defer conn.Close()
				_, err = io.WriteString(conn, request)
				require.NoError(t, err)
			}
			read.Wait()
			each := (inUse() - before) / connections
			close(end)
			t.Logf("%d bytes of header: %d of memory for each connection", len(header), each)
			require.Less(t, each, int64(httpserver.ConnectionBytes))
			for range connections {
				require.Zero(t, <-trailers)
			}
		})
	}
}

// shortLines returns n header lines of five bytes.
func shortLines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%s:\r\n", shortName(i))
	}
	return b.String()
}

// manyNames returns n names, separated by commas.
func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(shortName(i) + ",")
	}
	return b.String()
}

// shortName returns a name of two characters that differs for each i below 36*36.
func shortName(i int) string {
	const chars = "abcdefghijklmnopqrstuvwxyz0123456789"
	return string([]byte{chars[i/len(chars)%len(chars)], chars[i%len(chars)]})
}

// A header has at most 12 KiB, including the query.
func TestHeaderSizeLimit(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := httpserver.New(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	go func() { _ = srv.Serve(httpserver.LimitConnections(l, httpserver.MaxConnections, 0, nil)) }() // it ends with the test
	t.Cleanup(func() { srv.Close() })
	for size, want := range map[int]int{11 << 10: http.StatusNoContent, 13 << 10: http.StatusRequestHeaderFieldsTooLarge} {
		conn, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		_, err = fmt.Fprintf(conn, "GET /?%s HTTP/1.1\r\nHost: x\r\nA: %s\r\n\r\n", strings.Repeat("q", size/2), strings.Repeat("b", size/2))
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.Equal(t, want, resp.StatusCode, size)
		require.NoError(t, resp.Body.Close())
		conn.Close()
	}
}
