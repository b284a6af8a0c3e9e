package api

import (
	"container/list"
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
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &headerConn{Conn: conn, owner: l.idle, keep: l.keep(conn.RemoteAddr()), since: time.Now()}
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
	keep  bool      // it is not closed when it is idle
	since time.Time // it was accepted
	// waits is its place in one of the owner's lists, nil while it is in none. gone: it is
	// closed. All are under the owner's lock.
	in    *list.List
	waits *list.Element
	gone  bool
}

// Close is net.Conn's.
func (c *headerConn) Close() error {
	c.owner.closed(c)
	return c.Conn.Close()
}

func (c *headerConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.beyond.Load() {
		c.owner.active(c)
	}
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
	return n, err
}

type headerConnKey struct{}

// withHeaderConn is an http.Server's ConnContext.
func withHeaderConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, headerConnKey{}, c)
}

// nextHeader says that a request has been answered, and the next header may come.
func nextHeader(r *http.Request) {
	if c, ok := r.Context().Value(headerConnKey{}).(*headerConn); ok {
		c.beyond.Store(false)
	}
}
