package api

import (
	"container/list"
	"net"
	"net/http"
	"sync"
	"time"
)

// idleConnections closes connections on which nothing comes while more than half of a
// port's are open. So clients that keep theirs, from however many addresses, leave the
// others a place. It takes part whenever a connection is opened or falls idle, and closes:
//
//  1. the one that has been idle for the longest time after a request, else
//  2. the oldest one of those that never sent anything, if it had freshFor to do so, or if
//     they are a quarter of all that the port may have.
type idleConnections struct {
	most int // open ones beyond which idle ones are closed

	mu          sync.Mutex
	open        int
	idle, fresh list.List // of *headerConn, the oldest first
}

// freshFor is how long a new connection may take to send something.
const freshFor = time.Second

// opened counts a connection, which is fresh until something comes.
func (i *idleConnections) opened(c *headerConn) {
	i.mu.Lock()
	i.open++
	surplus := i.surplus()
	if !c.keep {
		c.in, c.waits = &i.fresh, i.fresh.PushBack(c)
	}
	i.mu.Unlock()
	surplus.giveUp()
}

func (i *idleConnections) fellIdle(c *headerConn) {
	i.mu.Lock()
	if c.waits == nil && !c.gone && !c.keep {
		c.in, c.waits = &i.idle, i.idle.PushBack(c)
	}
	surplus := i.surplus()
	i.mu.Unlock()
	surplus.giveUp()
}

// surplus takes the connection that is to be closed off its list; nil is none. i.mu is held.
func (i *idleConnections) surplus() *headerConn {
	if i.open <= i.most {
		return nil
	}
	if e := i.idle.Front(); e != nil {
		c := e.Value.(*headerConn)
		i.leave(c)
		return c
	}
	if e := i.fresh.Front(); e != nil {
		if c := e.Value.(*headerConn); i.fresh.Len() > i.most/2 || time.Since(c.since) > freshFor {
			i.leave(c)
			return c
		}
	}
	return nil
}

// active says that something has come.
func (i *idleConnections) active(c *headerConn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.leave(c)
}

func (i *idleConnections) closed(c *headerConn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if c.gone {
		return
	}
	c.gone = true
	i.open--
	i.leave(c)
}

// leave takes a connection off its list; i.mu is held.
func (i *idleConnections) leave(c *headerConn) {
	if c.waits != nil {
		c.in.Remove(c.waits)
		c.in, c.waits = nil, nil
	}
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
	case ok && state == http.StateActive: // the next request may have come with the last one
		own.owner.active(own)
	}
}
