package httpserver_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/httpserver"
)

// paced starts a server with short limits on a real socket.
func paced(t *testing.T, h http.HandlerFunc) (dial func() net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := httpserver.NewPaced(h, httpserver.Pace{BodyGrace: 2 * time.Second, BodyRate: 1 << 20, BodyMax: time.Minute, AnswerPiece: 64 << 10, AnswerTime: 2 * time.Second})
	go func() { _ = srv.Serve(l) }() // closed below
	t.Cleanup(func() { require.NoError(t, srv.Close()) })
	return func() net.Conn {
		conn, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		return conn
	}
}

// The handler's write returns an error if the client reads nothing.
func TestSlowReaderIsDisconnected(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	dial := paced(t, func(w http.ResponseWriter, _ *http.Request) {
		// One write that is larger than any socket buffer.
		_, err := w.Write(make([]byte, 64<<20))
		ended <- err
	})
	_, err := io.WriteString(dial(), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	require.ErrorIs(t, <-ended, os.ErrDeadlineExceeded)
}

// The deadline moves as the client reads, so the whole answer may take longer than one piece.
func TestSteadyReaderReceivesAll(t *testing.T) {
	t.Parallel()
	const size = 16 << 20
	ended := make(chan error, 1)
	dial := paced(t, func(w http.ResponseWriter, _ *http.Request) {
		_, err := w.Write(make([]byte, size))
		ended <- err
	})
	conn := dial()
	for range 2 { // the connection is as good as new afterwards
		_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		defer resp.Body.Close()
		n, err := io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		require.EqualValues(t, size, n)
		require.NoError(t, <-ended)
	}
}

// The handler's read returns an error if the body does not arrive.
func TestSlowBodyIsDisconnected(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	dial := paced(t, func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		ended <- err
	})
	_, err := io.WriteString(dial(), "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 37748736\r\n\r\n{")
	require.NoError(t, err)
	require.ErrorIs(t, <-ended, os.ErrDeadlineExceeded)
}

// A handler may run longer than the deadline of the body after it has read the body.
func TestBodyDeadlineEndsWithBody(t *testing.T) {
	t.Parallel()
	grace := time.NewTimer(3 * time.Second) // past BodyGrace
	ended := make(chan error, 1)
	dial := paced(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			ended <- err
			return
		}
		select {
		case <-r.Context().Done(): // the server took a deadline for the client's end
			ended <- errors.New("the client is still there")
		case <-grace.C:
			_, err := fmt.Fprint(w, "done")
			ended <- err
		}
	})
	conn := dial()
	_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n{")
	require.NoError(t, err)
	require.NoError(t, <-ended)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "done", string(body))
}

func TestTooLargeHeaderIsRefused(t *testing.T) {
	t.Parallel()
	dial := paced(t, func(http.ResponseWriter, *http.Request) {})
	conn := dial()
	go func() {
		_, _ = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Long: %s\r\n\r\n", strings.Repeat("x", 100<<10)) // the server closes
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, resp.StatusCode)
}
