package smtp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Session is one connection to a server, used by one goroutine at a time.
type Session struct {
	server   Server
	timeouts Timeouts
	text     *textproto.Conn
	// extensions are what EHLO offered: parameters by keyword in upper case.
	extensions map[string]string
	// encrypted: TLS runs over conn. unverified is why its certificate is not trusted,
	// which opportunistic TLS lets pass.
	encrypted  bool
	unverified error
	// refusedExtensions are the extensions that the server offers and whose parameters it refuses.
	refusedExtensions map[string]bool
	// oneByOne: the server offers PIPELINING, and does not hold it.
	oneByOne bool
	// silent: the server has not said anything yet. greeted: it has.
	silent, greeted bool

	transactions int
	// recipients have been accepted on it, over all its transactions.
	recipients int
	// log is what was said before the first MAIL, until a transcript takes it.
	log sessionLog
	// broken: the socket is closed, or what it would say next is not known.
	broken bool

	// mu guards conn against the goroutine that cuts it from outside. It is the TCP
	// connection, whether or not TLS runs over it.
	mu   sync.Mutex
	conn net.Conn
}

// Server is the server at the other end.
func (s *Session) Server() Server { return s.server }

// Transactions counts the transactions of this connection.
func (s *Session) Transactions() int { return s.transactions }

// Recipients counts the recipients accepted on this connection, over all its transactions.
func (s *Session) Recipients() int { return s.recipients }

// Closed reports whether the connection is of no more use.
func (s *Session) Closed() bool { return s.broken }

// cutSocket closes the socket, also while another goroutine waits on it.
func (s *Session) cutSocket() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		// With an error too, the socket is gone.
		_ = s.conn.Close()
	}
}

// redial replaces the connection.
func (s *Session) redial(ctx context.Context) error {
	fresh, err := Dial(ctx, s.server, s.timeouts)
	if silent, ok := errors.AsType[*SilentError](err); ok {
		return silent.Unwrap() // the server has spoken, so there is nothing to guess
	}
	if err != nil {
		return err
	}
	s.cutSocket()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn, s.text, s.log = fresh.conn, fresh.text, fresh.log
	s.extensions, s.encrypted, s.unverified = fresh.extensions, fresh.encrypted, fresh.unverified
	s.refusedExtensions = nil
	s.transactions, s.recipients, s.broken = 0, 0, false
	return ctx.Err()
}

// closeHard closes the socket without a word.
func (s *Session) closeHard() {
	s.broken = true
	s.cutSocket()
}

// Close closes the socket without a word. It may be called again.
func (s *Session) Close() { s.closeHard() }

// Quit says goodbye and closes. It waits for the answer for Timeouts.Reset at most.
func (s *Session) Quit() {
	// A server that does not hear it notices the closed socket.
	_, _, _ = s.command(s.timeouts.Reset, "QUIT")
	s.closeHard()
}

// maxLeft is how much of a reply is read that is not needed.
const maxLeft = 16 << 20

// quitMidReply says goodbye in the middle of a reply. Its rest is read, up to a limit: a server
// that cannot write all of it could take back what it said.
func (s *Session) quitMidReply() {
	// With an error too, the connection is closed below.
	if s.setTimeout(s.timeouts.Reset) == nil && s.text.PrintfLine("QUIT") == nil {
		_, _ = io.CopyN(io.Discard, s.text.R, maxLeft)
	}
	s.closeHard()
}

// Alive asks with NOOP whether the server of a session that has rested is still there.
func (s *Session) Alive(ctx context.Context) bool {
	stop := context.AfterFunc(ctx, s.cutSocket)
	code, _, err := s.command(s.timeouts.Reset, "NOOP")
	return stop() && err == nil && code/100 == 2
}

// reset makes the session good for the next transaction, or gives it up.
func (s *Session) reset() {
	if code, _, err := s.command(s.timeouts.Reset, "RSET"); err != nil || code/100 != 2 {
		s.closeHard()
	}
}

// untilCut is the time of a command that has none of its own: the opening's, which the
// end of dial's context cuts off.
const untilCut = 0

// command sends one line and reads the answer within a time of its own. Any
// answer at all is no error.
func (s *Session) command(timeout time.Duration, format string, args ...any) (code int, text string, err error) {
	if err := s.setTimeout(timeout); err != nil {
		return 0, "", err
	}
	if err := s.text.PrintfLine(format, args...); err != nil {
		return 0, "", err
	}
	return readReply(s.text.R)
}

// write writes whole lines within a time of their own.
func (s *Session) write(timeout time.Duration, lines string) error {
	if err := s.setTimeout(timeout); err != nil {
		return err
	}
	if _, err := s.text.W.WriteString(lines); err != nil {
		return err
	}
	return s.text.W.Flush()
}

// awaitReply reads the next reply within a time of its own.
func (s *Session) awaitReply(timeout time.Duration) (code int, text string, err error) {
	if err := s.setTimeout(timeout); err != nil {
		return 0, "", err
	}
	return readReply(s.text.R)
}

// setTimeout says how long what follows may take.
func (s *Session) setTimeout(timeout time.Duration) error {
	if timeout == untilCut {
		return s.conn.SetDeadline(time.Time{})
	}
	return s.conn.SetDeadline(time.Now().Add(timeout))
}

// sizeLimit is what the relay's SIZE extension allows (RFC 1870); 0 is no limit.
func (s *Session) sizeLimit() int64 {
	params, _ := s.extension("SIZE")
	n, err := strconv.ParseInt(strings.TrimSpace(params), 10, 64)
	if err != nil {
		return 0 // the extension without a number, or without sense
	}
	return n
}
