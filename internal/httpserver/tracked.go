package httpserver

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// maxHeaderLines limits the lines of a request's header, including the request line. net/http puts
// them into a map before a handler runs. A line of six bytes takes twenty times as much memory
// there, so a limit in bytes is not enough.
const maxHeaderLines = 100

var errHeaderLines = errors.New("the request header has too many lines")

// trackedListener makes connections report to an evictor what they wait for.
type trackedListener struct {
	net.Listener
	evictor *evictor
	// trusted reports whether an address is that of a trusted proxy.
	trusted func(net.Addr) bool
}

func (l trackedListener) Accept() (net.Conn, error) {
	defer l.evictor.whileFull()()
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &trackedConn{Conn: conn, owner: l.evictor, trusted: l.trusted(conn.RemoteAddr()), site: siteOf(conn.RemoteAddr())}
	c.owner.opened(c)
	return c, nil
}

// trackedConn is a connection that counts the lines of each request header, and reports to an
// evictor what it waits for.
type trackedConn struct {
	net.Conn
	// inBody: the header is complete, and what follows is the body.
	inBody atomic.Bool
	// lines is the number of header lines so far. blank: the current line is empty so far. Only
	// Read uses both.
	lines int
	blank bool

	owner   *evictor
	trusted bool   // the connection of a trusted proxy, which is not closed
	site    string // see siteOf

	// The owner's mutex guards the following fields. since is the time until which the client has
	// kept up with pacedRate.
	state connState
	since time.Time
	// lag is how far the client is behind in the state lagOf, while the server works.
	lag   time.Duration
	lagOf connState
	gone  bool // it is closed
}

// Close implements net.Conn.
func (c *trackedConn) Close() error {
	c.owner.closed(c)
	return c.Conn.Close()
}

// Read implements net.Conn. It returns errHeaderLines for a header of more than maxHeaderLines.
func (c *trackedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	ofHeader := n > 0 && !c.inBody.Load()
	for _, b := range p[:n] {
		if c.inBody.Load() {
			break
		}
		switch b {
		case '\n':
			c.lines++
			if c.blank && c.lines > 1 { // an empty line before the request line is ignored (RFC 9112 section 2.2)
				c.lines = 0
				c.inBody.Store(true)
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
	case ofHeader && c.inBody.Load():
		c.owner.serves(c)
	case ofHeader:
		c.owner.receivedHeader(c, n)
	}
	return n, err
}

// writtenBytes is how many bytes of an answer are written at once. With small writes the evictor
// can tell a slow client from one that reads nothing.
const writtenBytes = 16 << 10

// Write implements net.Conn.
func (c *trackedConn) Write(p []byte) (written int, err error) {
	for {
		before := c.owner.begin(c, writingAnswer)
		n, err := c.Conn.Write(p[written:min(len(p), written+writtenBytes)])
		c.owner.end(c, n, before)
		if written += n; err != nil || written == len(p) {
			return written, err
		}
	}
}

type connKey struct{}

// withConn is the ConnContext function of an http.Server.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// connOf returns the connection of a request, nil if its listener is not LimitConnections'.
func connOf(r *http.Request) *trackedConn {
	c, _ := r.Context().Value(connKey{}).(*trackedConn)
	return c
}

// nextHeader records that a request is answered: the next byte belongs to a header.
func nextHeader(r *http.Request) {
	if c := connOf(r); c != nil {
		c.inBody.Store(false)
	}
}
