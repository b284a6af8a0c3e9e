package api

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestWhichConnectionIsClosedFirst, by a clock of the test's own.
func TestWhichConnectionIsClosedFirst(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0)
	i := newIdleConnections(40)
	i.now = func() time.Time { return at }
	pass := func(d time.Duration) { at = at.Add(d) }
	names := map[*headerConn]string{nil: "none"}
	open := func(name, key string) *headerConn {
		conn, other := net.Pipe()
		t.Cleanup(func() { require.NoError(t, other.Close()) })
		c := &headerConn{Conn: conn, owner: i, key: key}
		names[c] = name
		i.open++
		i.move(c, forFirst, 0)
		return c
	}
	next := func() string {
		i.mu.Lock()
		c := i.surplus()
		i.mu.Unlock()
		if c != nil {
			require.NoError(t, c.Close())
		}
		return names[c]
	}
	i.open = i.most // by requests that are being worked on, which are never closed
	i.busy(open("busy", "192.0.2.1"))

	i.begin(open("body of one", "192.0.2.2"), forBody)
	pass(time.Millisecond)
	i.came(open("header of two", "192.0.2.3"), 10)
	i.begin(open("answer of two", "192.0.2.3"), forReader)
	trickles := open("trickles", "192.0.2.4")
	keepsUp := open("keeps up", "192.0.2.5")
	for range 20 { // 2 s, with 100 bytes a second, and 10 KiB a second
		before := i.begin(trickles, forBody)
		beside := i.begin(keepsUp, forBody)
		pass(100 * time.Millisecond)
		i.end(trickles, 10, before)
		i.end(keepsUp, 1<<10, beside)
	}
	i.begin(trickles, forBody)
	i.begin(keepsUp, forBody)
	worksLong := open("works long", "192.0.2.6")
	i.busy(worksLong)
	fresh := open("fresh", "192.0.2.7")
	idle := open("idle", "192.0.2.8")
	i.fellIdle(idle) // it closes what comes first
	require.True(t, idle.gone, "one that waits for another request costs its client least")
	require.Contains(t, next(), "of two", "an address with two, before one that has waited longer")
	require.Equal(t, "body of one", next())
	require.Contains(t, next(), "of two")
	require.Equal(t, "trickles", next(), "what comes too slowly is as if it had not come")
	require.Equal(t, "none", next(), "those that keep up, are new, or wait for the server stay")
	pass(silentFor + time.Millisecond)
	before := i.begin(keepsUp, forBody)
	i.end(keepsUp, 16<<10, before)
	i.begin(keepsUp, forBody)
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
