package smtp

import (
	"context"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/email"
)

// Session is one connection to a relay, used by one goroutine at a time.
type Session struct {
	relay    Relay
	timeouts Timeouts
	text     *textproto.Conn
	// extensions are what EHLO offered: parameters by keyword in upper case.
	extensions map[string]string
	// encrypted: TLS runs over conn. unverified is why its certificate is not trusted,
	// which opportunistic TLS lets pass.
	encrypted  bool
	unverified error
	// forgone are the extensions that the server offers and whose parameters it refuses.
	forgone map[string]bool
	// silent: the server has not said anything yet.
	silent bool

	// pool is where it comes from and goes back to. probe: the relay was down,
	// and this session is to find out whether it still is.
	pool  *pool
	probe bool
	// fresh: it was given for what the relay had not refused yet.
	fresh bool
	// vacate gives its slot back.
	vacate func()
	// alternative: another relay takes this mail too.
	alternative bool
	// elsewhere: a relay that may take what this one cannot is asked again after that time.
	// 0: there is none.
	elsewhere time.Duration
	// lastResort: every relay of the route was judged, and none takes all of the message.
	lastResort bool
	// avoids names the relay whose fault ended the last attempt, as email.Route's Avoid.
	avoids string

	dialedAt time.Time
	idleAt   time.Time
	messages int
	// recipients have been accepted on it, over all its transactions.
	recipients int
	// opening is what was said before the first MAIL, until a transcript takes it.
	log sessionLog
	// reused: it came from the pool, so its server may have closed it meanwhile.
	reused bool
	// broken: the socket is closed, or what it would say next is not known.
	broken bool

	// mu guards conn against the one who cuts it from outside. It is the TCP
	// connection, whether or not TLS runs over it.
	mu   sync.Mutex
	conn net.Conn
}

// hasAlternative reports whether another relay may take the e-mail.
func (s *Session) hasAlternative() bool { return s.alternative && !s.lastResort }

// hasAnotherTry reports whether another relay may take the e-mail and no relay's fault ended the
// attempt before: relays that all put it off would hand it on for ever.
func (s *Session) hasAnotherTry() bool { return s.hasAlternative() && s.avoids == "" }

// Relay names the server.
func (s *Session) Relay() email.Relay { return s.relay.identity() }

// Close gives the session back, for others to use if it is still good. It is
// theirs from then on: Close is called once, and nothing after it.
func (s *Session) Close() { s.pool.release(s) }

// cutSocket wakes whoever waits on the socket, for good.
func (s *Session) cutSocket() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		// Whatever the close says, the socket is gone.
		_ = s.conn.Close()
	}
}

// redial replaces the connection.
func (s *Session) redial(ctx context.Context) error {
	fresh, err := dial(ctx, s.relay, s.timeouts)
	if err != nil {
		return err
	}
	s.cutSocket()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn, s.text, s.log = fresh.conn, fresh.text, fresh.log
	s.extensions, s.encrypted, s.unverified = fresh.extensions, fresh.encrypted, fresh.unverified
	s.forgone = nil
	if s.alternative {
		s.elsewhere = max(s.elsewhere, time.Second) // the new server may offer less
	}
	s.dialedAt, s.messages, s.recipients, s.reused = s.pool.opts.Now(), 0, 0, false
	return ctx.Err()
}

// closeHard closes the socket without a word.
func (s *Session) closeHard() {
	s.broken = true
	s.cutSocket()
}

// quit says goodbye and closes.
func (s *Session) quit() {
	// A server that does not hear it notices the closed socket.
	_, _, _ = s.command(s.timeouts.Reset, "QUIT")
	s.closeHard()
}

// maxLeft is how much of a reply is read that is not needed.
const maxLeft = 16 << 20

// leave says goodbye in the middle of a reply. Its rest is read, up to a limit: a server
// that cannot write all of it could take back what it said.
func (s *Session) leave() {
	// Whatever comes of this, the connection is closed.
	if s.limit(s.timeouts.Reset) == nil && s.text.PrintfLine("QUIT") == nil {
		_, _ = io.CopyN(io.Discard, s.text.R, maxLeft)
	}
	s.closeHard()
}

// alive asks a session that has rested whether its server is still there.
func (s *Session) alive(ctx context.Context) bool {
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
	if err := s.limit(timeout); err != nil {
		return 0, "", err
	}
	if err := s.text.PrintfLine(format, args...); err != nil {
		return 0, "", err
	}
	return readReply(s.text.R)
}

// answer reads a reply that no command asked for.
func (s *Session) answer(timeout time.Duration) (code int, text string, err error) {
	if err := s.limit(timeout); err != nil {
		return 0, "", err
	}
	return readReply(s.text.R)
}

// limit says how long what follows may take.
func (s *Session) limit(timeout time.Duration) error {
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
