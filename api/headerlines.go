package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// maxHeaderLines bounds the lines of a request's header, the request line included.
// net/http makes a map of them before a handler sees anything: a line of six bytes takes
// twenty times as much memory there, so that a bound in bytes alone is none.
const maxHeaderLines = 100

var errHeaderLines = errors.New("the request's header has too many lines")

// headerLines counts what comes of the header of each request of a connection.
type headerLines struct {
	net.Listener
	idle *idleConnections
	// keep says whose connections are not closed when they are idle.
	keep func(net.Addr) bool
}

func (l headerLines) Accept() (net.Conn, error) {
	defer l.idle.whileFull()()
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &headerConn{Conn: conn, owner: l.idle, keep: l.keep(conn.RemoteAddr()), key: siteOf(conn.RemoteAddr())}
	c.owner.opened(c)
	return c, nil
}

// headerConn ends when a header has more than maxHeaderLines lines.
type headerConn struct {
	net.Conn
	// beyond: the header has ended, and what comes is the body.
	beyond atomic.Bool
	// lines of the header so far; blank: the line that has begun is empty as yet. Only Read
	// uses them.
	lines int
	blank bool

	owner *idleConnections
	keep  bool   // it is not closed while it waits for its client
	key   string // the address or site that it is counted by

	// What follows is under the owner's lock. since is until when its client has sent or taken
	// enough of what the connection waits for.
	waits waits
	since time.Time
	// lag is how far its client is behind with lagOf, while the server works.
	lag   time.Duration
	lagOf waits
	gone  bool // it is closed
}

// Close is net.Conn's.
func (c *headerConn) Close() error {
	c.owner.closed(c)
	return c.Conn.Close()
}

func (c *headerConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	ofHeader := n > 0 && !c.beyond.Load()
	for _, b := range p[:n] {
		if c.beyond.Load() {
			break
		}
		switch b {
		case '\n':
			c.lines++
			if c.blank && c.lines > 1 { // a blank line before the request line is passed over (RFC 9112 section 2.2)
				c.lines = 0
				c.beyond.Store(true)
			}
			if c.lines > maxHeaderLines {
				return 0, errHeaderLines
			}
			c.blank = true
		case '\r':
		default:
			c.blank = false
		}
	}
	switch {
	case ofHeader && c.beyond.Load():
		c.owner.busy(c)
	case ofHeader:
		c.owner.came(c, n)
	}
	return n, err
}

// writtenBytes is how much of an answer is given to the kernel at once, so that a client that
// takes it slowly is told from one that takes nothing.
const writtenBytes = 16 << 10

// Write is net.Conn's, in pieces.
func (c *headerConn) Write(p []byte) (written int, err error) {
	for {
		before := c.owner.begin(c, forReader)
		n, err := c.Conn.Write(p[written:min(len(p), written+writtenBytes)])
		c.owner.end(c, n, before)
		if written += n; err != nil || written == len(p) {
			return written, err
		}
	}
}

type headerConnKey struct{}

// withHeaderConn is an http.Server's ConnContext.
func withHeaderConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, headerConnKey{}, c)
}

// connOf is the connection of a request; nil if its listener does not count connections.
func connOf(r *http.Request) *headerConn {
	c, _ := r.Context().Value(headerConnKey{}).(*headerConn)
	return c
}

// nextHeader says that a request has been answered, and the next header may come.
func nextHeader(r *http.Request) {
	if c := connOf(r); c != nil {
		c.beyond.Store(false)
	}
}
