package api

import (
	"cmp"
	"net"
	"net/http"
	"sync"
	"time"
)

// waits says what a connection waits for.
type waits int

const (
	// forServer: a request is being worked on, a ?wait= too. Such a connection is never closed.
	forServer waits = iota
	// forRequest: its last request has been answered.
	forRequest
	// forFirst: nothing has ever come.
	forFirst
	// forHeader, forBody: part of a header has come; a header, and not all of its body.
	forHeader
	forBody
	// forReader: its client does not take the answer.
	forReader
)

// idleConnections closes connections that wait for their clients while more than half of a
// port's are open. So clients that hold theirs without progress, from however many addresses,
// leave the others a place. It closes one whenever a connection is opened or falls idle, and
// goes on doing so while the port is full. The order is:
//
//  1. the one that has waited longest for another request;
//  2. of those whose client has been silent for silentFor, or slower than pacedRate for so
//     long, one of the address that has the most of them, the one that fell behind first;
//  3. if more than a quarter of what the port may have wait for their clients, and not for
//     another request, the one that fell behind first.
//
// Connections of trusted proxies are not closed.
type idleConnections struct {
	most int // open ones beyond which one is closed
	full int // the most that the port may have
	now  func() time.Time

	mu   sync.Mutex
	open int
	// waiting are those that wait for their client; idle is how many of them wait for another request.
	waiting map[*headerConn]struct{}
	idle    int
}

func newIdleConnections(maximum int) *idleConnections {
	return &idleConnections{most: maximum / 2, full: maximum, now: time.Now, waiting: map[*headerConn]struct{}{}}
}

const (
	// silentFor is how long a client may do nothing before others' connections come first.
	silentFor = time.Second
	// pacedRate is how fast a client must send or take, in bytes a second, not to fall behind.
	pacedRate = 8 << 10
	// fullCheck is how often a full port is looked at.
	fullCheck = 50 * time.Millisecond
)

// opened counts a connection, which is fresh until something comes.
func (i *idleConnections) opened(c *headerConn) {
	i.mu.Lock()
	i.open++
	surplus := i.surplus()
	i.move(c, forFirst, 0)
	i.mu.Unlock()
	surplus.giveUp()
}

func (i *idleConnections) fellIdle(c *headerConn) {
	i.mu.Lock()
	i.move(c, forRequest, 0)
	surplus := i.surplus()
	i.mu.Unlock()
	surplus.giveUp()
}

// begin says that a connection waits for something of its client until end. What it waited for
// before is returned.
func (i *idleConnections) begin(c *headerConn, what waits) (before waits) {
	i.mu.Lock()
	defer i.mu.Unlock()
	before = c.waits
	if c.lagOf != what {
		c.lagOf, c.lag = what, 0
	}
	i.move(c, what, c.lag)
	return before
}

// end says that n bytes have come or were taken. The connection is as it was before.
func (i *idleConnections) end(c *headerConn, n int, before waits) {
	i.mu.Lock()
	defer i.mu.Unlock()
	c.lag = i.lag(c, n)
	i.move(c, before, 0)
}

// came says that n bytes of a header have come.
func (i *idleConnections) came(c *headerConn, n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	lag := time.Duration(0)
	if c.waits == forFirst || c.waits == forHeader {
		lag = i.lag(c, n)
	}
	i.move(c, forHeader, lag)
}

// lag is how far a client is behind that has sent or taken n bytes more.
func (i *idleConnections) lag(c *headerConn, n int) time.Duration {
	return max(0, i.now().Sub(c.since)-time.Duration(n)*time.Second/pacedRate)
}

// busy says that a request is being worked on.
func (i *idleConnections) busy(c *headerConn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	c.lagOf, c.lag = forServer, 0
	i.move(c, forServer, 0)
}

func (i *idleConnections) closed(c *headerConn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if c.gone {
		return
	}
	i.move(c, forServer, 0)
	c.gone = true
	i.open--
}

// move notes what a connection waits for, and that its client is so far behind. i.mu is held.
func (i *idleConnections) move(c *headerConn, to waits, lag time.Duration) {
	if c.gone || c.keep {
		return
	}
	if c.waits == forRequest {
		i.idle--
	}
	if to == forRequest {
		i.idle++
	}
	c.waits, c.since = to, i.now().Add(-lag)
	if to == forServer {
		delete(i.waiting, c)
	} else {
		i.waiting[c] = struct{}{}
	}
}

// surplus takes the connection that is to be closed off the list; nil is none. i.mu is held.
func (i *idleConnections) surplus() *headerConn {
	if i.open <= i.most {
		return nil
	}
	silent := i.now().Add(-silentFor)
	crowded := len(i.waiting)-i.idle > i.most/2
	rank := func(c *headerConn) int {
		switch {
		case c.waits == forRequest:
			return 0
		case c.since.Before(silent):
			return 1
		case crowded:
			return 2
		}
		return 3
	}
	of := map[string]int{}
	if i.idle == 0 {
		for c := range i.waiting {
			if rank(c) == 1 {
				of[c.key]++
			}
		}
	}
	var first *headerConn
	for c := range i.waiting {
		if rank(c) == 3 {
			continue
		}
		if first == nil || cmp.Or(cmp.Compare(rank(c), rank(first)), cmp.Compare(of[first.key], of[c.key]), c.since.Compare(first.since)) < 0 {
			first = c
		}
	}
	if first != nil {
		i.move(first, forServer, 0)
	}
	return first
}

// whileFull looks at a full port until stop is called: connections that were opened a moment
// ago may have fallen silent, and nothing else happens that would have them closed.
func (i *idleConnections) whileFull() (stop func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.open < i.full {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(fullCheck)
		defer tick.Stop()
		for {
			i.mu.Lock()
			surplus := i.surplus()
			i.mu.Unlock()
			surplus.giveUp()
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() { close(done) }
}

// giveUp closes a connection; nil is none.
func (c *headerConn) giveUp() {
	if c != nil {
		_ = c.Close() // whatever its last error
	}
}

// connState is an http.Server's ConnState.
func connState(c net.Conn, state http.ConnState) {
	own, ok := c.(*headerConn)
	switch {
	case ok && state == http.StateIdle:
		own.owner.fellIdle(own)
	case ok && state == http.StateActive: // a header is there, which may have come with the last request
		own.owner.busy(own)
	}
}
