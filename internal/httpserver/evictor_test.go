package httpserver

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/netutil"
)

// The order in which connections are closed, with a clock of the test.
func TestEvictorOrder(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0)
	e := newEvictor(40)
	e.now = func() time.Time { return at }
	pass := func(d time.Duration) { at = at.Add(d) }
	names := map[*trackedConn]string{nil: "none"}
	open := func(name, key string) *trackedConn {
		conn, other := net.Pipe()
		t.Cleanup(func() { require.NoError(t, other.Close()) })
		c := &trackedConn{Conn: conn, owner: e, site: key}
		names[c] = name
		e.open++
		e.move(c, unused, 0)
		return c
	}
	next := func() string {
		e.mu.Lock()
		c := e.choose()
		e.mu.Unlock()
		if c != nil {
			require.NoError(t, c.Close())
		}
		return names[c]
	}
	e.open = e.above // by requests that are being worked on, which are never closed
	e.serves(open("busy", "192.0.2.1"))

	e.begin(open("body of one", "192.0.2.2"), readingBody)
	pass(time.Millisecond)
	e.receivedHeader(open("header of two", "192.0.2.3"), 10)
	e.begin(open("answer of two", "192.0.2.3"), writingAnswer)
	trickles := open("trickles", "192.0.2.4")
	keepsUp := open("keeps up", "192.0.2.5")
	for range 20 { // 2 s, with 100 bytes a second, and 10 KiB a second
		before := e.begin(trickles, readingBody)
		beside := e.begin(keepsUp, readingBody)
		pass(100 * time.Millisecond)
		e.end(trickles, 10, before)
		e.end(keepsUp, 1<<10, beside)
	}
	e.begin(trickles, readingBody)
	e.begin(keepsUp, readingBody)
	worksLong := open("works long", "192.0.2.6")
	e.serves(worksLong)
	fresh := open("fresh", "192.0.2.7")
	waiting := open("idle", "192.0.2.8")
	e.becameIdle(waiting) // it closes what comes first
	require.True(t, waiting.gone, "one that waits for another request costs its client least")
	require.Contains(t, next(), "of two", "an address with two, before one that has waited longer")
	require.Equal(t, "body of one", next())
	require.Contains(t, next(), "of two")
	require.Equal(t, "trickles", next(), "what comes too slowly is as if it had not come")
	require.Equal(t, "none", next(), "those that keep up, are new, or wait for the server stay")
	pass(silentFor + time.Millisecond)
	before := e.begin(keepsUp, readingBody)
	e.end(keepsUp, 16<<10, before)
	e.begin(keepsUp, readingBody)
	require.Equal(t, "fresh", next())
	require.True(t, fresh.gone)
	require.Equal(t, "none", next())
	pass(time.Millisecond)
	e.begin(open("reads its answer", "192.0.2.9"), writingAnswer)
	pass(time.Millisecond)
	for range 8 {
		e.receivedHeader(open("header", "192.0.2.9"), 1)
	}
	pass(time.Millisecond)
	e.begin(open("rest of a body", "192.0.2.9"), discarding)
	pass(time.Millisecond)
	open("sends nothing", "192.0.2.9")
	require.Equal(t, "header", next(), "12 are a crowd, more than a quarter of 40; 2 of them have a request")
	require.Equal(t, "header", next())
	require.Equal(t, "none", next(), "10 are no crowd")
	for range 6 {
		open("sends nothing", "192.0.2.9")
		require.Equal(t, "header", next())
	}
	open("sends nothing", "192.0.2.9")
	require.Equal(t, "rest of a body", next(), "the first of nine that have no request, with two that do")
	for range 3 {
		e.begin(open("body", "192.0.2.9"), readingBody)
		require.Equal(t, "sends nothing", next())
	}
	pass(time.Millisecond)
	e.begin(open("body", "192.0.2.9"), readingBody)
	require.Equal(t, "keeps up", next(), "the oldest of six with a request, with five that have none")
	require.Equal(t, "none", next())
	require.False(t, worksLong.gone)
}

// A request whose body pauses goes on while silent connections, each younger than the pause, are
// opened again as soon as they are closed.
func TestABodyGoesOnWhileSilentConnectionsComeAgain(t *testing.T) {
	t.Parallel()
	const maximum = 40
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var mu sync.Mutex
	at := time.Unix(1000, 0)
	e := newEvictor(maximum)
	e.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return at }
	pass := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); at = at.Add(d) }
	srv := NewPaced(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client gets no answer
		}
		_, _ = w.Write(body) // the client checks it
	}), Pace{BodyGrace: time.Hour, BodyRate: 1, BodyMax: time.Hour, AnswerPiece: 64 << 10, AnswerTime: time.Hour})
	srv.ReadHeaderTimeout = time.Hour
	limited := trackedListener{netutil.LimitListener(l, maximum), e, func(net.Addr) bool { return false }}
	go func() { _ = srv.Serve(limited) }() // closed below
	t.Cleanup(func() { require.NoError(t, srv.Close()) })
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() }) // the server may have closed it
		require.NoError(t, conn.SetDeadline(time.Now().Add(2*time.Minute)))
		return conn
	}
	in := func(state connState) (n int) {
		e.mu.Lock()
		defer e.mu.Unlock()
		for c := range e.waiting {
			if c.state == state {
				n++
			}
		}
		return n
	}
	reaches := func(state connState, n int) {
		t.Helper()
		require.Eventually(t, func() bool { return in(state) == n }, 2*time.Minute, time.Millisecond)
	}

	var silent []net.Conn
	for i := range maximum / 2 {
		silent = append(silent, dial())
		reaches(unused, i+1)
		pass(5 * time.Millisecond)
	}
	closed := func() {
		t.Helper()
		_, err := silent[0].Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF, "the oldest silent one is closed for a new one")
		silent = silent[1:]
	}
	post := dial()
	closed()
	_, err = io.WriteString(post, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
	require.NoError(t, err)
	reaches(readingBody, 1)
	for range 60 { // the body pauses for 300 ms
		pass(5 * time.Millisecond)
		silent = append(silent, dial())
		closed()
		require.Equal(t, 1, in(readingBody))
	}
	_, err = io.WriteString(post, "cd")
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(post), nil)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "abcd", string(body))
}
