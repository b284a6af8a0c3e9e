package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// expectsTLS is the likely reason why a server says nothing.
const expectsTLS = "does the server expect TLS at once? then write smtps:// or tls=implicit"

// handshakeTimeout bounds the handshake that finds out.
const handshakeTimeout = 5 * time.Second

// suspectTLS watches a connection whose server is to speak first. If it is silent for
// Timeouts.Silence and answers TLS on a second connection, the first is cut: a server
// that waits for TLS never greets (RFC 8314 section 3.3). stop ends the watch and
// reports whether that was so.
func (s *Session) suspectTLS(ctx context.Context) (stop func() bool) {
	if s.server.TLS == TLSImplicit {
		return func() bool { return false }
	}
	ctx, cancel := context.WithCancel(ctx)
	found := make(chan bool, 1)
	go func() {
		silence := time.NewTimer(s.timeouts.Silence)
		defer silence.Stop()
		select {
		case <-silence.C:
		case <-ctx.Done():
			found <- false
			return
		}
		speaks := s.speaksTLS(ctx)
		if speaks {
			s.cutSocket()
		}
		found <- speaks
	}()
	return func() bool {
		cancel()
		return <-found
	}
}

// speaksTLS reports whether the server answers a TLS handshake on a connection of its
// own. Its certificate does not matter: nothing is sent there.
func (s *Session) speaksTLS(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	var dialer net.Dialer
	if s.server.LocalAddr.IsValid() {
		dialer.LocalAddr = &net.TCPAddr{IP: s.server.LocalAddr.AsSlice()}
	}
	conn, err := dialer.DialContext(ctx, "tcp", s.server.Addr())
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }() // the handshake has shown what was asked
	err = tls.Client(conn, &tls.Config{ServerName: s.server.Host, RootCAs: s.server.RootCAs, MinVersion: tls.VersionTLS12}).HandshakeContext(ctx)
	if err == nil {
		return true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err) // an alert of the server's
	return ok && op.Op == "remote error"
}
