package smtp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/textproto"

	"github.com/postrider/postrider/email"
)

// startTLS encrypts the session where the relay's tls= and the server's offer ask for it
// (RFC 3207). Where STARTTLS is offered and fails, the session ends: it never goes on in
// the clear.
func (s *Session) startTLS(ctx context.Context) error {
	if s.server.TLS == TLSNone || s.server.TLS == TLSImplicit {
		return nil
	}
	if _, offered := s.extension("STARTTLS"); !offered {
		if s.server.TLS == TLSRequired {
			return errNoSTARTTLS
		}
		return nil
	}
	code, text, err := s.say("STARTTLS")
	switch {
	case err != nil:
		return fmt.Errorf("STARTTLS: %w", err)
	case code != 220:
		return &answerError{"STARTTLS", reply(code, text)}
	}
	if err := s.encrypt(ctx); err != nil {
		return err
	}
	// An attacker may have changed the offer that came in the clear.
	return s.hello()
}

// encrypt makes the TLS handshake. Bytes that had been read in the clear, behind the answer to
// STARTTLS, are dropped.
func (s *Session) encrypt(ctx context.Context) error {
	s.log.await("the TLS handshake")
	conn := tls.Client(s.conn, s.tlsConfig())
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	s.encrypted = true
	s.text = textproto.NewConn(conn)
	state := conn.ConnectionState()
	how := tls.VersionName(state.Version) + " " + tls.CipherSuiteName(state.CipherSuite)
	if s.unverified != nil {
		how += ", certificate not verified: " + s.unverified.Error()
	}
	s.log.begin("TLS")
	s.log.end(email.Reply{Text: Printable(how)})
	return nil
}

// tlsConfig verifies the certificate and asks for TLS 1.2, but for opportunistic TLS: that
// takes any certificate and any version, because it sends in the clear to a server without
// TLS (RFC 7435 section 3). Whether the certificate was good is noted all the same.
func (s *Session) tlsConfig() *tls.Config {
	config := &tls.Config{ServerName: s.server.Host, MinVersion: tls.VersionTLS12, RootCAs: s.server.RootCAs}
	if s.server.TLS != TLSOpportunistic {
		return config
	}
	config.MinVersion, config.InsecureSkipVerify = tls.VersionTLS10, true
	config.VerifyConnection = func(state tls.ConnectionState) error {
		s.unverified = verify(state.PeerCertificates, s.server)
		return nil
	}
	return config
}

// verify checks a certificate as TLS itself does.
func verify(chain []*x509.Certificate, server Server) error {
	if len(chain) == 0 {
		return errors.New("the server has none")
	}
	opts := x509.VerifyOptions{DNSName: server.Host, Roots: server.RootCAs, Intermediates: x509.NewCertPool()}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(opts)
	return err
}
