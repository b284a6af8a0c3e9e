package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"time"

	mail "github.com/wneessen/go-mail"
	gosmtp "github.com/wneessen/go-mail/smtp"

	"github.com/postrider/postrider/email"
)

// Timeouts of a transaction's phases. The defaults follow RFC 5321 section
// 4.5.3.2: a short one at the end makes duplicates.
type Timeouts struct {
	// Connect covers TCP, greeting, EHLO, STARTTLS and AUTH together. Defaults to 1 min.
	Connect time.Duration
	// Command is for MAIL and each RCPT. Defaults to 5 min.
	Command time.Duration
	// DataInit is for the answer to DATA. Defaults to 2 min.
	DataInit time.Duration
	// DataBlock is for sending the message. Defaults to 3 min.
	DataBlock time.Duration
	// Final is for the answer to the final dot. Defaults to 10 min.
	Final time.Duration
	// Reset is for RSET, NOOP and QUIT. Defaults to 10 s.
	Reset time.Duration
}

func (t Timeouts) orDefaults() Timeouts {
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&t.Connect, time.Minute}, {&t.Command, 5 * time.Minute}, {&t.DataInit, 2 * time.Minute},
		{&t.DataBlock, 3 * time.Minute}, {&t.Final, 10 * time.Minute}, {&t.Reset, 10 * time.Second},
	} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	return t
}

// Session is one connection to a relay, used by one goroutine at a time.
type Session struct {
	relay    Relay
	owner    *Relays
	timeouts Timeouts
	conn     net.Conn
	client   *gosmtp.Client
	text     *textproto.Conn

	dialed   time.Time
	idle     time.Time
	messages int
	// reused: it came from the pool, so its server may have closed it meanwhile.
	reused bool
	// broken: the socket is closed, or what it would say next is not known.
	broken bool

	// mu guards conn against the one who cuts it from outside.
	mu sync.Mutex
}

// dial connects, greets, encrypts and authenticates. The socket is ours, so that
// it is closed whatever go-mail does with an error.
func dial(ctx context.Context, relay Relay, timeouts Timeouts) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, timeouts.Connect)
	defer cancel()
	s := &Session{relay: relay, timeouts: timeouts}
	var dialer net.Dialer
	if relay.LocalAddr.IsValid() {
		dialer.LocalAddr = &net.TCPAddr{IP: relay.LocalAddr.AsSlice()}
	}
	tlsConfig := &tls.Config{ServerName: relay.Host, MinVersion: tls.VersionTLS12, RootCAs: relay.RootCAs}
	opts := []mail.Option{
		mail.WithPort(relay.Port), mail.WithTimeout(timeouts.Connect), mail.WithTLSConfig(tlsConfig), mail.WithoutNoop(), mail.WithoutRset(),
		mail.WithDialContextFunc(func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			s.conn = conn
			if relay.TLS != TLSImplicit {
				return conn, nil
			}
			tlsConn := tls.Client(conn, tlsConfig)
			return tlsConn, tlsConn.HandshakeContext(ctx)
		}),
	}
	switch relay.TLS {
	case TLSRequired:
		opts = append(opts, mail.WithTLSPolicy(mail.TLSMandatory))
	case TLSOpportunistic:
		opts = append(opts, mail.WithTLSPolicy(mail.TLSOpportunistic))
	default:
		opts = append(opts, mail.WithTLSPolicy(mail.NoTLS))
	}
	if relay.HELO != "" {
		opts = append(opts, mail.WithHELO(relay.HELO))
	}
	if relay.User != "" {
		opts = append(opts, mail.WithUsername(relay.User), mail.WithPassword(string(relay.Password)), mail.WithSMTPAuth(relay.Auth))
	}
	c, err := mail.NewClient(relay.Host, opts...)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() {
		if s.conn != nil {
			s.conn.SetDeadline(time.Unix(1, 0)) //nolint:errcheck // it wakes a reader; a closed socket needs no waking
		}
	})
	s.client, err = c.DialToSMTPClientWithContext(ctx)
	stop()
	if err != nil {
		if s.conn != nil {
			err = errors.Join(err, ignoreClosed(s.conn.Close()))
		}
		return nil, err
	}
	s.text = s.client.Text
	s.dialed = time.Now()
	return s, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Relay names the server.
func (s *Session) Relay() email.Relay { return s.relay.identity() }

// Close gives the session back, for others to use if it is still good.
func (s *Session) Close() { s.owner.release(s) }

// cutSocket wakes whoever waits on the socket, for good.
func (s *Session) cutSocket() {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Whatever the close says, the socket is gone.
	_ = s.conn.Close()
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
	s.conn, s.client, s.text, s.dialed, s.messages, s.reused = fresh.conn, fresh.client, fresh.text, fresh.dialed, 0, false
	return ctx.Err()
}

// hangUp closes the socket without a word.
func (s *Session) hangUp() {
	s.broken = true
	s.cutSocket()
}

// quit says goodbye and closes.
func (s *Session) quit() {
	if !s.broken {
		// A server that does not hear it notices the closed socket.
		_, _, _ = s.command(s.timeouts.Reset, "QUIT")
	}
	s.hangUp()
}

// extension reports whether EHLO offered an extension, and its parameters.
func (s *Session) extension(name string) (string, bool) {
	ok, params := s.client.Extension(name)
	return params, ok
}

// command sends one line and reads the answer within a time of its own.
func (s *Session) command(timeout time.Duration, format string, args ...any) (code int, text string, err error) {
	if err := s.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return 0, "", err
	}
	if err := s.text.PrintfLine(format, args...); err != nil {
		return 0, "", err
	}
	return s.answer()
}

func (s *Session) answer() (code int, text string, err error) {
	code, text, err = s.text.ReadResponse(0)
	if code != 0 && err != nil {
		if _, ok := errors.AsType[*textproto.Error](err); ok {
			err = nil
		}
	}
	return code, text, err
}

// relayError translates what dialling said.
func relayError(r Relay, err error) *email.RelayError {
	out := &email.RelayError{Relay: r.identity(), Err: err}
	if t, ok := errors.AsType[*textproto.Error](err); ok {
		out.Reply = reply(t.Code, t.Msg)
	}
	return out
}

// sizeLimit is what the relay's SIZE extension allows (RFC 1870); 0 is no limit.
func (s *Session) sizeLimit() int64 {
	params, ok := s.extension("SIZE")
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(params), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// xtext encodes an ESMTP parameter's value (RFC 3461 section 4).
func xtext(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < '!' || c > '~' || c == '+' || c == '=' {
			fmt.Fprintf(&b, "+%02X", c)
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
