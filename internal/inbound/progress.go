package inbound

import (
	"cmp"
	"time"
)

// progress says how far a client is behind. The server waits for it from begin to end; the time of
// the server's own work does not count. connections.mu guards all of it.
type progress struct {
	// waiting: the server waits for the client, since when.
	waiting bool
	since   time.Time
	// lag is how long the server has waited since the client connected, or since its last message
	// was stored. The time that its bytes take at minRate is taken off.
	lag time.Duration
	// messageLag is the same since the message at hand began.
	messageLag time.Duration
	// evicted: another client has the place of this connection, which is not read any more.
	evicted bool
}

const (
	// minRate is the rate, in bytes a second, below which a client falls behind.
	minRate = 1 << 10
	// silentFor is how far a client is behind before it loses its place while few wait.
	silentFor = time.Second
)

// behind is how far a client is behind now.
func (p progress) behind(now time.Time) time.Duration {
	if !p.waiting {
		return 0
	}
	return p.lag + now.Sub(p.since)
}

// beginWait notes that the server waits for a client. left is how far the client may fall behind
// within a message; it is not positive for a client that is too slow.
func (s *connections) beginWait(c *conn) (left time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.progress.waiting, c.progress.since = true, s.now()
	return c.readTimeout - c.progress.messageLag
}

// endWait notes that n bytes have come. It reports whether the connection still has its place.
func (s *connections) endWait(c *conn, n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &c.progress
	took := s.now().Sub(p.since) - time.Duration(n)*time.Second/minRate
	p.waiting, p.lag, p.messageLag = false, max(0, p.lag+took), max(0, p.messageLag+took)
	return !p.evicted
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
	c.progress.lag = 0
}

// evict gives the place of a connection away, and returns that connection; nil is none. It takes a
// client that the server waits for:
//
//  1. one that is behind by silentFor or more, of the address that has most of these; among them
//     the one that is behind most;
//  2. if there is none, and the server waits for more than half of all: the one that is behind most.
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
		if !c.progress.waiting || c.progress.behind(now) < silentFor && (len(silent) > 0 || 2*waiting <= s.max) {
			continue
		}
		if first == nil || cmp.Or(cmp.Compare(silent[first.key], silent[c.key]), cmp.Compare(first.progress.behind(now), c.progress.behind(now))) < 0 {
			first = c
		}
	}
	if first != nil {
		first.progress.evicted = true
		s.forget(first)
	}
	return first
}
