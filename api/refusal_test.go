package api_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/internal/httpserver"
)

// On each route that needs a credential, a request without one is answered before its body arrives,
// and its connection is closed.
func TestRefusalDoesNotWaitForBody(t *testing.T) {
	t.Parallel()
	s := newServer(t, stubs(), api.Options{TokenKey: make([]byte, 32)})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := httpserver.NewPaced(s, httpserver.Pace{BodyGrace: time.Hour, BodyRate: 1, BodyMax: time.Hour, AnswerPiece: 64 << 10, AnswerTime: time.Hour})
	go func() { _ = srv.Serve(l) }() // closed below
	t.Cleanup(func() { require.NoError(t, srv.Close()) })
	for _, r := range s.Routes() {
		if r.Public {
			continue
		}
		t.Run(r.Method+" "+r.Path, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
			_, err = io.WriteString(conn, r.Method+" "+r.Path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
			require.NoError(t, err)
			in := bufio.NewReader(conn)
			resp, err := http.ReadResponse(in, nil)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
			require.True(t, resp.Close)
			_, err = in.ReadByte()
			require.ErrorIs(t, err, io.EOF)
		})
	}
}
