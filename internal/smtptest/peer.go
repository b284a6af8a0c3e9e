// Package smtptest is an SMTP peer that does what a test tells it to: answer a
// command with anything, wait at a point, or cut the connection there. It keeps
// what it accepted, byte for byte.
package smtptest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Drop as an answer cuts the connection instead of answering.
const Drop = "drop"

// ThenDrop answers and cuts the connection.
func ThenDrop(answer string) string { return answer + "\r\n" + Drop }

// Peer is a listening server. Set its fields before the first connection.
type Peer struct {
	// Extensions are EHLO's, as "SIZE 1000". STARTTLS and AUTH are added where
	// TLS or Users call for them.
	Extensions []string
	// NoPipelining keeps PIPELINING out of EHLO in both runs of RunBothWays.
	NoPipelining bool
	// Greeting replaces the banner.
	Greeting string
	// Answer says what a command gets: the whole line without CRLF, Drop, or ""
	// for the usual answer. Line is the command as it came; "." stands for the
	// final dot and "<data>" for the moment after 354, before any of the message.
	Answer func(line string) string
	// DropsInput throws away what has arrived behind a command when it answers that command, as
	// servers do that offer PIPELINING and do not hold it.
	DropsInput bool
	// Stays keeps the connection open behind a 421.
	Stays bool
	// TLS enables STARTTLS, or TLS from the first byte if Implicit.
	TLS      *tls.Config
	Implicit bool
	// User and Password enable AUTH with PLAIN, LOGIN, CRAM-MD5, SCRAM-SHA-1,
	// SCRAM-SHA-256 and XOAUTH2, whose token is the password.
	User, Password string
	// Mechanisms replaces the list that EHLO names, "PLAIN LOGIN".
	Mechanisms string

	t        testing.TB
	listener net.Listener
	wg       sync.WaitGroup

	mu       sync.Mutex
	messages []Message
	lines    []string
	// conns are the open sockets, and what speaks over each: itself, or TLS.
	conns  map[net.Conn]net.Conn
	dialed int
	closed bool
	// changed is closed, and replaced, whenever something above changes.
	changed chan struct{}
}

// Message is one that the peer accepted.
type Message struct {
	From string
	To   []string
	// Data is what came between DATA and the dot, unstuffed.
	Data string
	// User is who had authenticated.
	User string
}

// Start makes the peer listen on loopback until the test ends.
func (p *Peer) Start(t testing.TB) *Peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return p.Serve(t, l)
}

// Serve is Start on a listener of the test's own.
func (p *Peer) Serve(t testing.TB, l net.Listener) *Peer {
	p.t, p.listener, p.conns, p.changed = t, l, map[net.Conn]net.Conn{}, make(chan struct{})
	p.wg.Go(p.accept)
	t.Cleanup(p.Close)
	return p
}

// Addr is host:port.
func (p *Peer) Addr() string { return p.listener.Addr().String() }

// Close cuts every connection and stops listening. It may be called again.
func (p *Peer) Close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		_ = p.listener.Close() // a listener that is closed already is what we want
		for c := range p.conns {
			_ = c.Close() // so is a connection
		}
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// Hangup cuts the connections that are open now, as a server does with idle ones.
func (p *Peer) Hangup() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close() // one that is closed already is what we want
	}
}

// Say sends something that no command asked for on the connections that are open now.
func (p *Peer) Say(line string) {
	p.mu.Lock()
	conns := slices.Collect(maps.Values(p.conns))
	p.mu.Unlock()
	for _, c := range conns {
		if _, err := io.WriteString(c, line+"\r\n"); err != nil {
			p.t.Errorf("the peer says %q: %v", line, err)
		}
	}
}

// Messages are those accepted so far.
func (p *Peer) Messages() []Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Message(nil), p.messages...)
}

// Copies counts the accepted messages with that Message-ID (without angle
// brackets) that went to the recipient: more than one is a duplicate.
func (p *Peer) Copies(messageID, recipient string) int {
	n := 0
	field := strings.ToLower("\r\nMessage-ID: <" + messageID + ">\r\n") // a field's name is in any case
	for _, m := range p.Messages() {
		header, _, _ := strings.Cut(m.Data, "\r\n\r\n")
		if strings.Contains(strings.ToLower("\r\n"+header+"\r\n"), field) && slices.Contains(m.To, recipient) {
			n++
		}
	}
	return n
}

// Lines are the commands so far, of all connections.
func (p *Peer) Lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.lines...)
}

// Await waits until something is true of the peer: a command came, a connection
// is gone. It fails the test after 10 s.
func (p *Peer) Await(what string, isTrue func() bool) {
	p.t.Helper()
	late := time.After(10 * time.Second)
	for {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		if isTrue() {
			return
		}
		select {
		case <-changed:
		case <-late:
			p.t.Fatalf("still waiting for the SMTP peer: %s; commands so far: %q", what, p.Lines())
		}
	}
}

// change wakes those who await something. The caller holds mu.
func (p *Peer) change() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// Open is how many connections there are now.
func (p *Peer) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// Dialed is how many connections came.
func (p *Peer) Dialed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dialed
}

func (p *Peer) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		// Bytes that are written and not read shall not disappear in buffers: a client
		// that is cut off inside a message of some megabytes notices.
		if tcp, ok := conn.(*net.TCPConn); ok && tcp.SetReadBuffer(64<<10) != nil {
			return // closed
		}
		p.mu.Lock()
		p.conns[conn] = conn
		p.dialed++
		p.change()
		p.mu.Unlock()
		p.wg.Go(func() {
			defer func() {
				_ = conn.Close() // one that is closed already is what we want
				p.mu.Lock()
				delete(p.conns, conn)
				p.change()
				p.mu.Unlock()
			}()
			p.serve(conn)
		})
	}
}

// talk is one connection's conversation.
type talk struct {
	*Peer
	// socket is the TCP connection, conn what speaks over it.
	socket net.Conn
	conn   net.Conn
	text   *textproto.Conn
	tls    bool
	user   string
	msg    Message
}

func (p *Peer) serve(conn net.Conn) {
	c := &talk{Peer: p, socket: conn, conn: conn}
	if p.Implicit {
		c.encrypt()
	}
	c.text = textproto.NewConn(c.conn)
	greeting := p.Greeting
	if greeting == "" {
		greeting = "220 peer.test ESMTP"
	}
	if greeting == Drop || c.text.PrintfLine("%s", greeting) != nil {
		return
	}
	for {
		line, err := c.text.ReadLine()
		if err != nil {
			return
		}
		if c.DropsInput {
			if _, err := c.text.R.Discard(c.text.R.Buffered()); err != nil {
				return
			}
		}
		if !c.handle(line) {
			return
		}
	}
}

// encrypt speaks TLS over the socket from now on.
func (c *talk) encrypt() {
	c.conn, c.tls = tls.Server(c.socket, c.TLS), true
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, open := c.conns[c.socket]; open {
		c.conns[c.socket] = c.conn
	}
}

// scripted gives the test's answer, if there is one. ok says that the
// conversation goes on.
func (c *talk) scripted(line string) (answered, ok bool) {
	c.mu.Lock()
	c.lines = append(c.lines, line)
	c.change()
	c.mu.Unlock()
	if c.Answer == nil {
		return false, true
	}
	switch a := c.Answer(line); a {
	case "":
		return false, true
	case Drop:
		return true, false
	default:
		a, drop := strings.CutSuffix(a, "\r\n"+Drop)
		return true, c.text.PrintfLine("%s", a) == nil && !drop && (c.Stays || !strings.HasPrefix(a, "421"))
	}
}

func (c *talk) say(format string, args ...any) bool { return c.text.PrintfLine(format, args...) == nil }

func (c *talk) handle(line string) bool {
	if answered, ok := c.scripted(line); answered || !ok {
		return ok
	}
	verb, rest, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO":
		return c.ehlo()
	case "STARTTLS":
		if !c.say("220 go ahead") {
			return false
		}
		c.encrypt()
		c.text = textproto.NewConn(c.conn)
		return true
	case "AUTH":
		return c.auth(rest)
	case "MAIL":
		c.msg = Message{From: angle(rest), User: c.user}
		return c.say("250 2.1.0 ok")
	case "RCPT":
		c.msg.To = append(c.msg.To, angle(rest))
		return c.say("250 2.1.5 ok")
	case "DATA":
		return c.data()
	case "RSET":
		c.msg = Message{User: c.user}
		return c.say("250 2.0.0 ok")
	case "NOOP":
		return c.say("250 2.0.0 ok")
	case "QUIT":
		c.say("221 2.0.0 bye")
		return false
	}
	return c.say("502 5.5.2 no such command")
}

func (c *talk) ehlo() bool {
	lines := []string{"peer.test"}
	lines = append(lines, c.Extensions...)
	if offersPipelining && !c.NoPipelining && !slices.Contains(lines, "PIPELINING") {
		lines = append(lines, "PIPELINING")
	}
	if c.TLS != nil && !c.tls {
		lines = append(lines, "STARTTLS")
	}
	if c.User != "" {
		mechanisms := c.Mechanisms
		if mechanisms == "" {
			mechanisms = "PLAIN LOGIN"
		}
		lines = append(lines, "AUTH "+mechanisms)
	}
	for i, l := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		if !c.say("250%s%s", sep, l) {
			return false
		}
	}
	return true
}

func (c *talk) data() bool {
	if !c.say("354 go on") {
		return false
	}
	if answered, ok := c.scripted("<data>"); answered || !ok {
		return ok
	}
	data, err := readData(c.text.R)
	if err != nil {
		return false
	}
	if answered, ok := c.scripted("."); answered || !ok {
		return ok
	}
	c.msg.Data = data
	c.mu.Lock()
	c.messages = append(c.messages, c.msg)
	n := len(c.messages)
	c.change()
	c.mu.Unlock()
	c.msg = Message{User: c.user}
	return c.say("250 2.0.0 queued as %d", n)
}

// readData reads up to the final dot, keeping every byte: textproto's own reader
// would turn CRLF into LF.
func readData(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("message cut after %d bytes: %w", b.Len(), err)
		}
		if line == ".\r\n" {
			return b.String(), nil
		}
		if _, err := io.WriteString(&b, strings.TrimPrefix(line, ".")); err != nil {
			return "", err
		}
	}
}

// angle is what stands between < and >.
func angle(s string) string {
	_, s, _ = strings.Cut(s, "<")
	s, _, _ = strings.Cut(s, ">")
	return s
}
