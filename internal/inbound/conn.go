package inbound

import (
	"bufio"
	"errors"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"golang.org/x/time/rate"

	"github.com/postrider/postrider/internal/spool"
)

// conn is a client's connection. It stands between the network and go-smtp and
// divides what the client sends: a command, a chunk of BDAT, or the message after DATA.
//
//   - go-smtp is handed one command line at a time, and of a chunk exactly its bytes.
//     So it never has read beyond either, and the message after DATA is still here
//     when the session reads it (readData).
//   - While a message arrives, a client may be behind minRate by ReadTimeout at most; go-smtp
//     sets one deadline for all of the message. A client that is silent or slow for longer
//     gets 421 and is cut off: were the connection kept, what is left of the message would
//     be read as commands.
//   - When all connections are in use, a new client has the place of another one
//     (connections.evict), which gets 421.
//   - Outside of a transaction a client has MailTimeout until MAIL, less when there are
//     many connections, whatever else it sends.
//   - 421 closes the connection, as RFC 5321 §3.8 has it.
//   - The session ends after SessionTimeout, however busy it is, and after too many errors.
//   - Once the server stops, the next wait for a command is answered with 421. A
//     message under way is still read to its end.
type conn struct {
	net.Conn
	owner *connections
	key   string // what connections are counted by

	readTimeout time.Duration
	endsAt      time.Time

	// in buffers what the client sent. in, pending, chunk and partial are for the
	// goroutine of go-smtp that reads; with BDAT the session has a second one, which
	// does not.
	in *bufio.Reader
	// rate is how fast the connection may send messages.
	rate *rate.Limiter
	// pending is what Read returns before anything else.
	pending []byte
	// chunk is how many bytes of a BDAT chunk are still to come.
	chunk int64
	// partial is how much of a command line was already handed out.
	partial int
	maxLine int

	// inMessage is set from DATA, or the first BDAT, until Reset or a reply that
	// refuses.
	inMessage atomic.Bool
	// data is set by the reply 354 and taken by the session: the message comes with DATA.
	data   atomic.Bool
	closed atomic.Bool
	// faults are the client's errors since its last message that was stored.
	faults atomic.Int32
	// midReply: the last Write ended within a line.
	midReply bool

	progress progress

	// mu guards the deadline for reads and what it depends on.
	mu sync.Mutex
	// asked is the deadline that go-smtp set.
	asked time.Time
	// idleSince is when the client connected or its last transaction ended; zero
	// within a transaction.
	idleSince time.Time
	// interrupted: the server stops, so that no command is waited for.
	interrupted bool
}

// Replies that go-smtp does not get to write.
const (
	replyStopping = "421 4.3.2 Service shutting down, try again later\r\n"
	replySilence  = "421 4.4.2 Timeout while waiting for the message\r\n"
	replyEvicted  = "421 4.3.2 Too many connections, and this one is the slowest, try again later\r\n"
	replyExpired  = "421 4.4.2 Session too long, closing\r\n"
)

// SetReadDeadline is called by go-smtp before every command.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = t
	return c.setDeadline()
}

// setDeadline applies the earliest of all deadlines. c.mu is held.
func (c *conn) setDeadline() error {
	t := c.asked
	if c.interrupted && !c.inMessage.Load() {
		return c.Conn.SetReadDeadline(time.Unix(1, 0))
	}
	if !c.idleSince.IsZero() {
		if mail := c.idleSince.Add(c.owner.mailTimeout()); t.IsZero() || t.After(mail) {
			t = mail
		}
	}
	if t.IsZero() || t.After(c.endsAt) {
		t = c.endsAt
	}
	return c.Conn.SetReadDeadline(t)
}

// shorten applies a shorter MailTimeout to a client that is waited for.
func (c *conn) shorten() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.idleSince.IsZero() {
		_ = c.setDeadline() // it fails only on a closed connection
	}
}

// began and ended mark a transaction. ended does nothing outside of one, so that RSET
// over and over wins no time.
func (c *conn) began() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idleSince = time.Time{}
}

func (c *conn) ended() {
	c.inMessage.Store(false)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idleSince.IsZero() {
		c.idleSince = time.Now()
	}
}

// Read is called by go-smtp.
func (c *conn) Read(b []byte) (int, error) {
	if len(c.pending) == 0 {
		if c.chunk > 0 {
			return c.readChunk(b)
		}
		if err := c.readCommand(); err != nil {
			return 0, err
		}
	}
	n := copy(b, c.pending)
	c.pending = c.pending[n:]
	return n, nil
}

// readChunk reads from a BDAT chunk. The end of the stream within it is an error
// that go-smtp does not take for the end of the chunk: half a message must not be
// stored.
func (c *conn) readChunk(b []byte) (int, error) {
	n, err := c.in.Read(b[:min(int64(len(b)), c.chunk)])
	c.chunk -= int64(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// readCommand puts a command line, or as much of it as the buffer holds, into
// pending. A line without its end is no command: a client that was cut off has not
// meant what is left of it.
func (c *conn) readCommand() error {
	if c.closed.Load() {
		return net.ErrClosed // what is buffered has no reader of its replies
	}
	if !c.inMessage.Load() && c.owner.isStopping() {
		return c.hangUp(replyStopping)
	}
	fragment, err := c.in.ReadSlice('\n')
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		return err
	}
	if c.partial+len(fragment) > c.maxLine {
		return gosmtp.ErrTooLongLine
	}
	first := c.partial == 0
	c.partial += len(fragment)
	if err == nil {
		c.partial = 0
	}
	c.pending = fragment // valid until the next read from c.in, which comes after all of it was handed out
	if !first || err != nil {
		return nil
	}
	if size, ok := chunkSize(string(fragment)); ok {
		c.chunk = size
		c.beginMessage()
		return nil
	}
	c.pending = withPostmasterDomain(fragment, c.owner.hostname)
	return nil
}

// chunkSize is the size in a BDAT command (RFC 3030 §2). It takes exactly the
// commands that go-smtp reads a chunk after, whether or not it accepts the chunk;
// after a command that go-smtp calls malformed comes the next command.
func chunkSize(line string) (int64, bool) {
	line = strings.TrimRight(line, "\r\n")
	if len(line) < 6 || !strings.EqualFold(line[:5], "BDAT ") {
		return 0, false
	}
	args := strings.Fields(line[5:])
	if len(args) == 0 || len(args) > 2 || len(args) == 2 && !strings.EqualFold(args[1], "LAST") {
		return 0, false
	}
	size, err := strconv.ParseUint(args[0], 10, 32)
	return int64(size), err == nil //nolint:gosec // 32 bits
}

// withPostmasterDomain gives <postmaster>, which every server has to take without a
// domain (RFC 5321 §4.5.1), this server's: go-smtp knows no address without one.
func withPostmasterDomain(line []byte, hostname string) []byte {
	end := bareMaster.FindIndex(line)
	if end == nil {
		return line
	}
	return slices.Concat(line[:end[1]-1], []byte("@"+hostname), line[end[1]-1:])
}

var bareMaster = regexp.MustCompile(`(?i)^RCPT[ \t]+TO:[ \t]*<postmaster>`)

// readData reads the message after DATA into dst (copyData), and leaves to go-smtp
// nothing but an end: its own reader of messages misses some, and takes away bytes.
func (c *conn) readData(dst io.Writer) (stored, read error) {
	stored, read = copyData(dst, c.in, c.owner.rest)
	if read == nil {
		c.pending = []byte(".\r\n")
	}
	return stored, read
}

// network is the client's stream as it comes, with the patience that there is for it.
type network struct{ *conn }

func (c network) Read(b []byte) (int, error) {
	inMessage := c.inMessage.Load() || c.chunk > 0
	left := c.owner.beginRead(c.conn)
	if inMessage {
		if err := c.SetReadDeadline(time.Now().Add(left)); err != nil {
			return 0, err
		}
	} else if c.owner.isStopping() {
		return 0, c.hangUp(replyStopping)
	}
	n, err := c.Conn.Read(b[:min(len(b), paidBytes)])
	if !c.owner.endWait(c.conn, n) {
		return 0, net.ErrClosed
	}
	if inMessage && err == nil {
		if err := c.owner.pace.pay(c.owner.ctx, c.rate, c.key, n); err != nil {
			return n, errors.Join(net.ErrClosed, err) // the server has stopped
		}
	}
	var timeout net.Error
	if err == nil || !errors.As(err, &timeout) || !timeout.Timeout() {
		return n, err
	}
	switch {
	case !time.Now().Before(c.endsAt):
		return n, c.hangUp(replyExpired)
	case inMessage:
		return n, c.hangUp(replySilence)
	case c.owner.isStopping():
		return n, c.hangUp(replyStopping)
	}
	return n, err // go-smtp answers 421 itself
}

// restAfterNoDisk is how much of a message is read to its end that finds no room, in bytes: its
// client comes again anyway, and gets a 452 if it sends no more, else a 421.
const restAfterNoDisk = 1 << 20

// rest is how much of a message is still read that cannot be stored for a reason. One that is
// too large gets its 552 if it is not more than twice as large: other clients would send it again.
func (s *connections) rest(stored error) int64 {
	if errors.Is(stored, spool.ErrTooLarge) {
		return max(s.maxMessage, restAfterNoDisk)
	}
	return restAfterNoDisk
}

// hangUp sends a last reply and closes. Its error looks to go-smtp like a closed
// connection, which is true.
func (c *conn) hangUp(reply string) error {
	// A client that does not even take the last reply is gone.
	if err := c.SetWriteDeadline(time.Now().Add(lastWordTimeout)); err == nil {
		_, _ = io.WriteString(c.Conn, reply)
	}
	_ = c.close()
	return net.ErrClosed
}

// lastWordTimeout is the patience with a client that is cut off anyway.
const lastWordTimeout = time.Second

// Write is called by go-smtp, at least once for each line of a reply. go-smtp does not look at
// its error. A client that takes no reply is gone: the commands that it has sent are not
// carried out, however many of them there are.
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.writeReply(b)
	if err != nil {
		_ = c.Close() // it is no use any more
	}
	return n, err
}

func (c *conn) writeReply(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	begins := !c.midReply
	c.midReply = b[len(b)-1] != '\n'
	if !begins { // the client's own words may be here: they are no code
		return c.send(b)
	}
	reply := withSequenceCode(b)
	code := string(reply[:min(3, len(reply))])
	switch {
	case code == "354":
		c.beginMessage()
		c.data.Store(true)
	case code[0] == '4' || code[0] == '5':
		c.inMessage.Store(false)
		if strings.HasPrefix(code, "50") {
			c.faults.Add(1)
		}
	}
	n, err := c.send(reply)
	switch {
	case err != nil:
	case code == "421":
		err = c.Close()
	case code[0] == '5' && int(c.faults.Load()) >= c.owner.maxFaults:
		err = c.hangUp(replyTooManyErrors(c.owner.maxFaults))
	}
	return n, err
}

// send writes to the client. A client that takes no replies makes no progress.
func (c *conn) send(b []byte) (int, error) {
	c.owner.beginWrite(c)
	n, err := c.Conn.Write(b)
	if !c.owner.endWait(c, 0) {
		return n, net.ErrClosed
	}
	return n, err
}

// beginMessage notes that a message begins, unless one has begun with another chunk.
func (c *conn) beginMessage() {
	if !c.inMessage.Swap(true) {
		c.owner.beginMessage(c)
	}
}

// cut resets the connection: the client sees neither a reply nor an orderly end.
func (c *conn) cut() error {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); err != nil {
			return errors.Join(err, c.close())
		}
	}
	return c.close()
}

// interrupt wakes a connection that waits for a command.
func (c *conn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.interrupted = true
	if !c.inMessage.Load() {
		_ = c.setDeadline() // it fails only on a closed connection, which needs no waking
	}
}

// Close is called by go-smtp, and can be called again. It leaves a connection that has lost its
// place to admit, which closes it after the 421.
func (c *conn) Close() error {
	if c.owner.isEvicted(c) {
		return nil
	}
	return c.close()
}

func (c *conn) close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.owner.remove(c)
	return c.Conn.Close()
}
