package httpserver

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
	for range 11 { // more than a quarter of 40
		open("crowd", "192.0.2.9")
	}
	require.Equal(t, "keeps up", next(), "in a crowd the oldest one")
	require.Equal(t, "crowd", next())
	require.Equal(t, "none", next())
	require.False(t, worksLong.gone)
}
