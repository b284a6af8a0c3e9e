package smtp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/textproto"

	"github.com/postrider/postrider/email"
)

// dial connects, encrypts, greets and authenticates. What it does not finish within
// timeouts.Connect is cut off.
func dial(parent context.Context, relay Relay, timeouts Timeouts) (*Session, error) {
	timeouts.Connect += relay.Greeting // a time of its own, which the relay's options ask for
	ctx, cancel := context.WithTimeout(parent, timeouts.Connect)
	defer cancel()
	s := &Session{relay: relay, timeouts: timeouts}
	stop := context.AfterFunc(ctx, s.cutSocket)
	err := s.connect(ctx)
	if !stop() && err == nil { // the socket is closed, or about to be
		err = context.Cause(ctx)
	}
	if err == nil {
		return s, nil
	}
	s.cutSocket()
	if parent.Err() == nil && ctx.Err() != nil {
		err = fmt.Errorf("no session within %s: waited for %s: %w", timeouts.Connect, s.log.awaited(), ctx.Err())
		if s.silent && relay.TLS != TLSImplicit {
			err = fmt.Errorf("%w; %s", err, expectsTLS)
		}
	}
	return nil, err
}

// connect opens the session: greeting, EHLO, STARTTLS and EHLO again, AUTH.
func (s *Session) connect(ctx context.Context) error {
	if err := s.reach(ctx); err != nil {
		return err
	}
	s.text = textproto.NewConn(s.conn)
	if s.relay.TLS == TLSImplicit {
		if err := s.encrypt(ctx); err != nil {
			return err
		}
	}
	if err := s.greet(ctx); err != nil {
		return err
	}
	if err := s.hello(); err != nil {
		return err
	}
	if err := s.startTLS(ctx); err != nil {
		return err
	}
	if s.relay.User == "" {
		return nil
	}
	return s.authenticate()
}

// reach opens the TCP connection.
func (s *Session) reach(ctx context.Context) error {
	var dialer net.Dialer
	if s.relay.LocalAddr.IsValid() {
		dialer.LocalAddr = &net.TCPAddr{IP: s.relay.LocalAddr.AsSlice()}
	}
	s.log.begin("connect " + s.relay.addr())
	conn, err := dialer.DialContext(ctx, "tcp", s.relay.addr())
	if err != nil {
		return err
	}
	s.log.end(email.Reply{})
	s.mu.Lock()
	s.conn = conn
	s.mu.Unlock()
	return ctx.Err() // cut by whoever ended ctx before there was a socket to cut
}

// answerError is an answer of the relay that ends the opening of a session.
type answerError struct {
	// to is the command, without its arguments.
	to    string
	reply email.Reply
}

func (e *answerError) Error() string {
	s := fmt.Sprintf("%s was answered %d", e.to, e.reply.Code)
	for _, part := range []string{e.reply.Enhanced, e.reply.Text} {
		if part != "" {
			s += " " + part
		}
	}
	return s
}

// relayError translates what dialling said.
func relayError(r Relay, err error) *email.RelayError {
	out := &email.RelayError{Relay: r.identity(), Err: err}
	if a, ok := errors.AsType[*answerError](err); ok {
		out.Reply = a.reply
	}
	return out
}
