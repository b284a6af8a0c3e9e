package httpserver

import (
	"cmp"
	"net"
	"net/http"
	"sync"
	"time"
)

// connState says what a connection waits for.
type connState int

const (
	// serving: the server works on a request, which may wait for a verdict (?wait=). Such a
	// connection is never closed.
	serving connState = iota
	// idle: its last request has been answered.
	idle
	// unused: it has never received a byte.
	unused
	// discarding: a request has been answered before its body was received, and the rest of that is
	// discarded.
	discarding
	// readingHeader: it has received part of a header.
	readingHeader
	// readingBody: it has received a header, and not all of the body.
	readingBody
	// writingAnswer: the client has not read the answer yet.
	writingAnswer
)

// isRequest reports whether a connection waits for its client within a request.
func (s connState) isRequest() bool { return s == readingBody || s == writingAnswer }

// evictor closes connections that wait for their clients while more than half of the port's
// maximum are open. So clients that keep connections open without progress, from any number of
// addresses, do not use up those of others. It closes a connection whenever one is opened or
// becomes idle, and every fullCheck while the port is full. It chooses:
//
//  1. the connection that has been idle for the longest time;
//  2. if none is idle: among those that have been without progress, or slower than pacedRate, for
//     silentFor, one of the address or IPv6 /48 that has most of them; among these the one that
//     fell behind first;
//  3. if more than a quarter of the maximum wait for their clients and are not idle: the one that
//     fell behind first in the larger of two groups. One group receives a body or sends an answer;
//     the other one is all others.
//
// So a request that has begun, and comes at pacedRate, goes on while silent clients connect again
// as soon as their connections are closed. Each of theirs is younger than a pause of the request.
// If it is requests that crowd the port, new connections have the time to send theirs.
//
// Connections of trusted proxies are not closed.
type evictor struct {
	above   int // number of open connections above which one is closed
	maximum int
	now     func() time.Time

	mu   sync.Mutex
	open int
	// waiting are the connections that wait for their clients, idleOnes how many of them are idle.
	waiting  map[*trackedConn]struct{}
	idleOnes int
}

func newEvictor(maximum int) *evictor {
	return &evictor{above: maximum / 2, maximum: maximum, now: time.Now, waiting: map[*trackedConn]struct{}{}}
}

const (
	// silentFor is how far a client may fall behind before its connection may be closed.
	silentFor = time.Second
	// pacedRate is the rate, in bytes per second, below which a client falls behind.
	pacedRate = 8 << 10
	// fullCheck is the interval at which a full port is checked.
	fullCheck = 50 * time.Millisecond
)

// opened adds a connection.
func (e *evictor) opened(c *trackedConn) {
	e.mu.Lock()
	e.open++
	evicted := e.choose()
	e.move(c, unused, 0)
	e.mu.Unlock()
	evicted.evict()
}

// becameIdle records that a request has been answered completely.
func (e *evictor) becameIdle(c *trackedConn) {
	e.mu.Lock()
	e.move(c, idle, 0)
	evicted := e.choose()
	e.mu.Unlock()
	evicted.evict()
}

// begin records that a connection waits for its client until end is called. It returns the state
// before, for end.
func (e *evictor) begin(c *trackedConn, state connState) (before connState) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before = c.state
	if c.lagOf != state {
		c.lagOf, c.lag = state, 0
	}
	e.move(c, state, c.lag)
	return before
}

// end records that n bytes were received or sent, and sets the state before begin.
func (e *evictor) end(c *trackedConn, n int, before connState) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c.lag = e.lag(c, n)
	e.move(c, before, 0)
}

// receivedHeader records that n bytes of a header were received.
func (e *evictor) receivedHeader(c *trackedConn, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	lag := time.Duration(0)
	if c.state == unused || c.state == readingHeader {
		lag = e.lag(c, n)
	}
	e.move(c, readingHeader, lag)
}

// lag returns how far a client is behind pacedRate after n more bytes.
func (e *evictor) lag(c *trackedConn, n int) time.Duration {
	return max(0, e.now().Sub(c.since)-time.Duration(n)*time.Second/pacedRate)
}

// serves records that a header is complete: the server works on the request.
func (e *evictor) serves(c *trackedConn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c.lagOf, c.lag = serving, 0
	e.move(c, serving, 0)
}

// closed removes a connection. A second call does nothing.
func (e *evictor) closed(c *trackedConn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.gone {
		return
	}
	e.move(c, serving, 0)
	c.gone = true
	e.open--
}

// move sets the state of a connection, and how far its client is behind. The caller holds e.mu.
func (e *evictor) move(c *trackedConn, to connState, lag time.Duration) {
	if c.gone || c.trusted {
		return
	}
	if c.state == idle {
		e.idleOnes--
	}
	if to == idle {
		e.idleOnes++
	}
	c.state, c.since = to, e.now().Add(-lag)
	if to == serving {
		delete(e.waiting, c)
	} else {
		e.waiting[c] = struct{}{}
	}
}

// choose removes the connection to close from waiting and returns it; nil is none. The caller
// holds e.mu.
func (e *evictor) choose() *trackedConn {
	if e.open <= e.above {
		return nil
	}
	silent := e.now().Add(-silentFor)
	crowded := len(e.waiting)-e.idleOnes > e.above/2
	requests := 0
	for c := range e.waiting {
		if c.state.isRequest() {
			requests++
		}
	}
	requestsFirst := 2*requests > len(e.waiting)-e.idleOnes
	rank := func(c *trackedConn) int {
		switch {
		case c.state == idle:
			return 0
		case c.since.Before(silent):
			return 1
		case crowded && c.state.isRequest() == requestsFirst:
			return 2
		}
		return 3
	}
	of := map[string]int{} // connections of rank 1 by site
	if e.idleOnes == 0 {
		for c := range e.waiting {
			if rank(c) == 1 {
				of[c.site]++
			}
		}
	}
	var first *trackedConn
	for c := range e.waiting {
		if rank(c) == 3 {
			continue
		}
		if first == nil || cmp.Or(cmp.Compare(rank(c), rank(first)), cmp.Compare(of[first.site], of[c.site]), c.since.Compare(first.since)) < 0 {
			first = c
		}
	}
	if first != nil {
		e.move(first, serving, 0)
	}
	return first
}

// whileFull checks a full port every fullCheck until stop is called. Otherwise no event would
// close connections that have fallen behind since the last one was opened.
func (e *evictor) whileFull() (stop func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open < e.maximum {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(fullCheck)
		defer tick.Stop()
		for {
			e.mu.Lock()
			evicted := e.choose()
			e.mu.Unlock()
			evicted.evict()
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() { close(done) }
}

// evict closes a connection; it does nothing with nil.
func (c *trackedConn) evict() {
	if c != nil {
		_ = c.Close() // the connection is gone even if closing returns an error
	}
}

// trackState is the ConnState function of an http.Server.
func trackState(c net.Conn, state http.ConnState) {
	conn, ok := c.(*trackedConn)
	switch {
	case ok && state == http.StateIdle:
		conn.owner.becameIdle(conn)
	case ok && state == http.StateActive: // the next header may have arrived with the last request
		conn.owner.serves(conn)
	}
}
