package smtp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"strconv"

	"github.com/postrider/postrider/email"
)

// Dial opens a session: it connects, encrypts, greets and authenticates. It gives up after
// Timeouts.Connect plus the server's Greeting. ReplyOf gives the reply of an error that is one. The
// error is a *SilentError if the server said nothing.
func Dial(parent context.Context, server Server, timeouts Timeouts) (*Session, error) {
	timeouts = timeouts.orDefaults()
	limit := timeouts.Connect + server.Greeting // a time of its own, which the server's options ask for
	ctx, cancel := context.WithTimeout(parent, limit)
	defer cancel()
	s := &Session{server: server, timeouts: timeouts}
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
		if !s.greeted {
			silence := &SilentError{err: fmt.Errorf("%s %s: waited for %s: %w", NoGreeting, limit, s.log.awaited(), ctx.Err())}
			if s.silent && server.TLS != TLSImplicit {
				silence.guess = "; " + expectsTLS
			}
			return nil, silence
		}
		err = fmt.Errorf("no session within %s: waited for %s: %w", limit, s.log.awaited(), ctx.Err())
	}
	return nil, err
}

// NoGreeting begins the text of each SilentError.
const NoGreeting = "no greeting within"

// SilentError is the error of a server that has said nothing within its time. A server does so too
// that has no process left for another connection.
type SilentError struct {
	err error
	// guess is why, of a server that has never spoken to the caller.
	guess string
}

func (e *SilentError) Error() string { return e.err.Error() + e.guess }

// Unwrap returns the error without the guess.
func (e *SilentError) Unwrap() error { return e.err }

// connect opens the session: greeting, EHLO, STARTTLS and EHLO again, AUTH.
func (s *Session) connect(ctx context.Context) error {
	if err := s.reach(ctx); err != nil {
		return err
	}
	s.text = textproto.NewConn(s.conn)
	if s.server.TLS == TLSImplicit {
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
	if s.server.User == "" {
		return nil
	}
	return s.authenticate()
}

// reach opens the TCP connection.
func (s *Session) reach(ctx context.Context) error {
	var dialer net.Dialer
	if s.server.LocalAddr.IsValid() {
		dialer.LocalAddr = &net.TCPAddr{IP: s.server.LocalAddr.AsSlice()}
	}
	s.log.begin("connect " + s.server.Addr())
	conn, err := dialer.DialContext(ctx, "tcp", s.server.Addr())
	if err != nil {
		return err
	}
	s.log.end(email.Reply{})
	s.mu.Lock()
	s.conn = conn
	s.mu.Unlock()
	return ctx.Err() // ctx ended before there was a socket to close
}

// answerError is an answer of the relay that ends the opening of a session.
type answerError struct {
	// to is the command, without its arguments.
	to    string
	reply email.Reply
}

// WasAnswered stands before the code in the text of an error that is a reply to the opening.
const WasAnswered = " was answered "

func (e *answerError) Error() string {
	s := e.to + WasAnswered + strconv.Itoa(e.reply.Code)
	for _, part := range []string{e.reply.Enhanced, e.reply.Text} {
		if part != "" {
			s += " " + part
		}
	}
	return s
}

// ReplyOf is the reply that ended Dial; the zero Reply where none did.
func ReplyOf(err error) email.Reply {
	if a, ok := errors.AsType[*answerError](err); ok {
		return a.reply
	}
	return email.Reply{}
}
