package inbound

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// conn is a client's connection. It adds to go-smtp what that leaves to the
// network below it:
//
//   - While a message arrives, every read has the whole ReadTimeout again; go-smtp
//     sets one deadline for all of the message. A client that is silent
//     longer gets 421 and is cut off: were the connection kept, what is left of
//     the message would be read as commands.
//   - 421 closes the connection, as RFC 5321 §3.8 has it.
//   - The session ends after SessionTimeout, however busy it is.
//   - Once the server stops, the next wait for a command is answered with 421. A
//     message under way is still read to its end.
type conn struct {
	net.Conn
	owner *connections
	key   string // what connections are counted by

	readTimeout time.Duration
	endsAt      time.Time

	// inMessage is set between DATA, or the first BDAT, and the final reply.
	inMessage atomic.Bool
	// broken is set when the client's stream ended or failed. What was read up to
	// there may be half of something.
	broken atomic.Bool
	closed atomic.Bool
}

// Replies that go-smtp does not get to write.
const (
	replyStopping = "421 4.3.2 Service shutting down, try again later\r\n"
	replySilence  = "421 4.4.2 Timeout while waiting for the message\r\n"
	replyExpired  = "421 4.4.2 Session too long, closing\r\n"
)

// SetReadDeadline is called by go-smtp before every command.
func (c *conn) SetReadDeadline(t time.Time) error {
	if t.IsZero() || t.After(c.endsAt) {
		t = c.endsAt
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *conn) Read(b []byte) (int, error) {
	inMessage := c.inMessage.Load()
	if inMessage {
		if err := c.SetReadDeadline(time.Now().Add(c.readTimeout)); err != nil {
			return 0, err
		}
	} else if c.owner.isStopping() {
		return 0, c.hangUp(replyStopping)
	}
	n, err := c.Conn.Read(b)
	if err == nil {
		return n, nil
	}
	c.broken.Store(true)
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		return n, err
	}
	switch {
	case !time.Now().Before(c.endsAt):
		return n, c.hangUp(replyExpired)
	case c.inMessage.Load():
		return n, c.hangUp(replySilence)
	case c.owner.isStopping():
		return n, c.hangUp(replyStopping)
	}
	return n, err // go-smtp answers 421 itself
}

// hangUp says a last word and closes. What it returns looks to go-smtp like a
// connection that somebody closed, which is what it is.
func (c *conn) hangUp(reply string) error {
	// A client that does not even take the last word is gone: there is nobody left to tell.
	if err := c.SetWriteDeadline(time.Now().Add(lastWordTimeout)); err == nil {
		_, _ = io.WriteString(c.Conn, reply)
	}
	_ = c.Close()
	return net.ErrClosed
}

// lastWordTimeout is the patience with a client that is cut off anyway.
const lastWordTimeout = time.Second

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err == nil && bytes.HasPrefix(b, []byte("421 ")) {
		err = c.Close()
	}
	return n, err
}

// cut resets the connection: the client sees neither a reply nor an orderly end.
func (c *conn) cut() error {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); err != nil {
			return errors.Join(err, c.Close())
		}
	}
	return c.Close()
}

// interrupt wakes a connection that waits for a command.
func (c *conn) interrupt() {
	if !c.inMessage.Load() {
		// It fails only on a closed connection, which nobody needs to wake.
		_ = c.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// Close can be called again.
func (c *conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.owner.remove(c)
	return c.Conn.Close()
}
