package inbound

import (
	"cmp"
	"maps"
	"net/netip"
	"time"
)

// progress says how far a client is behind, and how long it has had its place. The server waits for
// it from begin to end; the time of the server's own work does not count as being behind.
// connections.mu guards all of it.
type progress struct {
	// waiting: the server waits for the client, since when. reading: it waits for bytes, else for
	// the client to take a reply.
	waiting, reading bool
	since            time.Time
	// replied: the client has been sent a reply and has not been read since. The next wait has a
	// round trip in it.
	replied bool
	// lag is how long the server has waited since the client connected, or since its last message
	// was stored. The time that its bytes take at minRate is taken off, and a round trip of up to
	// roundTrip for each wait after a reply.
	lag time.Duration
	// messageLag is the time waited since the message at hand began, without the time of its bytes
	// at minRate. Round trips count.
	messageLag time.Duration
	// begun is when the client connected, or its last message was stored. sent is how long the
	// bytes that it has sent since take at busyRate.
	begun time.Time
	sent  time.Duration
	// stored: a message of this session was stored.
	stored bool
	// evicted: another client has the place of this connection, which is not read any more.
	evicted bool
}

const (
	// minRate is the rate, in bytes a second, below which a client falls behind.
	minRate = 1 << 10
	// roundTrip is the most that a wait after a reply may take before the client falls behind.
	// Round trips between continents take 0.3 seconds, those over a satellite 0.6.
	roundTrip = 500 * time.Millisecond
	// silentFor is how far a client is behind before it loses its place while few wait.
	silentFor = time.Second
	// tenure is how long a session that is not silent keeps its place without a stored message.
	tenure = 10 * time.Second
	// busyRate is the rate, in bytes a second, at which a session does not grow older (held). All
	// places at this rate take most of what one processor may read (totalRate).
	busyRate = 64 << 10
	// barredFor is how long a site is refused while the port is nearly full. It is barred after a
	// session without a stored message that lost its place, or ended while the port was nearly full.
	barredFor = time.Minute
)

// waited is how long the server has waited for a client, without the latency that it may have.
func (p progress) waited(now time.Time) time.Duration {
	took := now.Sub(p.since)
	if p.reading && p.replied {
		return max(0, took-roundTrip)
	}
	return took
}

// behind is how far a client is behind now.
func (p progress) behind(now time.Time) time.Duration {
	if !p.waiting {
		return 0
	}
	return p.lag + p.waited(now)
}

// held is how long a session has had its place since begun. The time that its bytes take at busyRate
// is taken off.
func (p progress) held(now time.Time) time.Duration {
	return now.Sub(p.begun) - p.sent
}

// bytesAt is how long n bytes take at a rate in bytes a second.
func bytesAt(n, rate int) time.Duration {
	return time.Duration(n) * time.Second / time.Duration(rate)
}

// beginRead notes that the server waits for a client to send. left is how far the client may fall
// behind within a message; it is not positive for a client that is too slow.
func (s *connections) beginRead(c *conn) (left time.Duration) {
	return s.beginWait(c, true)
}

// beginWrite notes that the server waits for a client to take a reply.
func (s *connections) beginWrite(c *conn) {
	s.beginWait(c, false)
}

func (s *connections) beginWait(c *conn, reading bool) (left time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &c.progress
	p.waiting, p.reading, p.since = true, reading, s.now()
	return c.readTimeout - p.messageLag
}

// endWait notes that n bytes have come, or that the client has taken a reply. It reports whether the
// connection still has its place.
func (s *connections) endWait(c *conn, n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, p := s.now(), &c.progress
	sent := bytesAt(n, minRate)
	p.lag = max(0, p.lag+p.waited(now)-sent)
	p.messageLag = max(0, p.messageLag+now.Sub(p.since)-sent)
	p.waiting, p.replied = false, !p.reading
	p.sent = min(p.sent+bytesAt(n, busyRate), now.Sub(p.begun)) // bytes sent fast do not count for the time to come
	return !p.evicted
}

// isEvicted reports whether another client has the place of a connection.
func (s *connections) isEvicted(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.progress.evicted
}

// beginMessage notes that a message begins.
func (s *connections) beginMessage(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.progress.messageLag = 0
}

// storedMessage notes that a client's message was stored.
func (s *connections) storedMessage(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &c.progress
	p.lag, p.begun, p.sent, p.stored = 0, s.now(), 0, true
}

// evict chooses the session that ends for a new one while all places are taken, and removes it. If it
// returns nil, the new one is refused. A session whose message the server is storing, or whose
// bytes wait for their turn (pace), does not end. The others end in this order:
//
//  1. Silent ones: they are behind by silentFor or more. Of the address that has most of these,
//     the one that is behind most.
//  2. If none is silent, and the server waits for more than half of all: the one that has had its
//     place for longest (held), of those that connected or had a message stored tenure ago or more.
//
// So a session that keeps up has at least tenure for each message. It loses its place only after all
// that have held theirs for longer. The site of a session that ended without a stored message is
// refused for barredFor while the port is nearly full. So a client that loses its place, or gives it
// up, cannot take that of another by connecting again.
//
// The caller holds s.mu.
func (s *connections) evict() *conn {
	now := s.now()
	silent, waiting := map[string]int{}, 0
	for c := range s.open {
		if c.progress.waiting {
			waiting++
		}
		if c.progress.behind(now) >= silentFor {
			silent[c.key]++
		}
	}
	var first *conn
	for c := range s.open {
		switch p := c.progress; {
		case !p.waiting:
		case len(silent) > 0:
			if p.behind(now) >= silentFor && (first == nil || cmp.Or(cmp.Compare(silent[c.key], silent[first.key]), cmp.Compare(p.behind(now), first.progress.behind(now))) > 0) {
				first = c
			}
		case 2*waiting > s.max && now.Sub(p.begun) >= tenure:
			if first == nil || p.held(now) > first.progress.held(now) {
				first = c
			}
		}
	}
	if first != nil {
		first.progress.evicted = true
		s.forget(first)
		if !first.progress.stored {
			s.bar(first, now)
		}
	}
	return first
}

// bar refuses the site of a connection until barredFor has passed. The caller holds s.mu.
func (s *connections) bar(c *conn, now time.Time) {
	if len(s.barred) >= s.pruneAt {
		maps.DeleteFunc(s.barred, func(_ string, until time.Time) bool { return !now.Before(until) })
		s.pruneAt = max(s.max, 2*len(s.barred))
	}
	s.barred[siteOf(c.key)] = now.Add(barredFor)
}

// isBarred: s.mu is held.
func (s *connections) isBarred(c *conn) bool {
	return s.now().Before(s.barred[siteOf(c.key)])
}

// siteOf is the IPv6 /48 of a countKey, which one household or server may have; an IPv4 address is
// its own.
func siteOf(key string) string {
	p, err := netip.ParsePrefix(key)
	if err != nil {
		return key
	}
	site, err := p.Addr().Prefix(48)
	if err != nil {
		return key
	}
	return site.String()
}
