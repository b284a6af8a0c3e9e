package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"slices"
	"strings"

	mail "github.com/wneessen/go-mail"
	gosmtp "github.com/wneessen/go-mail/smtp"

	"github.com/postrider/postrider/email"
)

// dial connects, greets, encrypts and authenticates. The socket is ours, so that
// it is closed whatever go-mail does with an error.
func dial(parent context.Context, relay Relay, timeouts Timeouts) (*Session, error) {
	ctx, cancel := context.WithTimeout(parent, timeouts.Connect)
	defer cancel()
	s := &Session{relay: relay, timeouts: timeouts}
	stop := context.AfterFunc(ctx, s.cutSocket)
	err := s.connect(ctx)
	if !stop() { // the socket is closed, or about to be
		err = errors.Join(context.Cause(ctx), err)
	}
	if err == nil {
		return s, nil
	}
	s.cutSocket()
	if parent.Err() == nil && ctx.Err() != nil {
		err = fmt.Errorf("no session within %s: %w", timeouts.Connect, err)
	}
	return nil, err
}

func (s *Session) connect(ctx context.Context) error {
	c, err := mail.NewClient(s.relay.Host, s.dialOptions()...)
	if err != nil {
		return err
	}
	if s.client, err = c.DialToSMTPClientWithContext(ctx); err != nil {
		return err
	}
	s.text = s.client.Text
	if state, err := s.client.GetTLSConnectionState(); err == nil {
		s.opening.tls(state)
	}
	if s.relay.User == "" {
		return nil
	}
	return s.authenticate()
}

func (s *Session) dialOptions() []mail.Option {
	relay := s.relay
	tlsConfig := &tls.Config{ServerName: relay.Host, MinVersion: tls.VersionTLS12, RootCAs: relay.RootCAs}
	policy := map[TLSMode]mail.TLSPolicy{TLSRequired: mail.TLSMandatory, TLSOpportunistic: mail.TLSOpportunistic, TLSNone: mail.NoTLS, TLSImplicit: mail.NoTLS}
	var dialer net.Dialer
	if relay.LocalAddr.IsValid() {
		dialer.LocalAddr = &net.TCPAddr{IP: relay.LocalAddr.AsSlice()}
	}
	opts := []mail.Option{
		// go-mail's own time is longer than ctx's, which cuts the socket.
		mail.WithPort(relay.Port), mail.WithTimeout(2 * s.timeouts.Connect), mail.WithTLSConfig(tlsConfig), mail.WithTLSPolicy(policy[relay.TLS]),
		mail.WithLogger(&s.opening), mail.WithDebugLog(),
		// go-mail speaks no implicit TLS over a dialler of ours.
		mail.WithDialContextFunc(func(ctx context.Context, network, addr string) (net.Conn, error) {
			s.opening.begin("connect " + addr)
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			s.opening.end(email.Reply{})
			s.mu.Lock()
			s.conn = conn
			s.mu.Unlock()
			if relay.TLS != TLSImplicit {
				return conn, ctx.Err() // cut by whoever ended ctx before there was a socket to cut
			}
			tlsConn := tls.Client(conn, tlsConfig)
			return tlsConn, tlsConn.HandshakeContext(ctx)
		}),
	}
	if relay.HELO != "" {
		opts = append(opts, mail.WithHELO(relay.HELO))
	}
	return opts
}

// preferred are the mechanisms of auth=auto, the strongest first. hidesPassword
// are those that do not put it on the wire.
var (
	preferred     = []mail.SMTPAuthType{mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthSCRAMSHA1, mail.SMTPAuthCramMD5, mail.SMTPAuthPlain, mail.SMTPAuthLogin}
	hidesPassword = []mail.SMTPAuthType{mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthSCRAMSHA1, mail.SMTPAuthCramMD5}
)

// authenticate runs AUTH (RFC 4954). go-mail's own choice is not used: it takes
// implicit TLS over our socket for plain text, prefers NTLM, and sends XOAUTH2
// tokens in the clear.
func (s *Session) authenticate() error {
	params, _ := s.extension("AUTH")
	offered := strings.Fields(strings.ToUpper(params))
	mayShow := s.mayShowPassword()
	mechanism := s.relay.Auth
	if mechanism == mail.SMTPAuthAutoDiscover {
		i := slices.IndexFunc(preferred, func(m mail.SMTPAuthType) bool {
			return slices.Contains(offered, string(m)) && (mayShow || slices.Contains(hidesPassword, m))
		})
		if i < 0 {
			return fmt.Errorf("AUTH: of what the relay offers (%s) nothing may be used%s", strings.Join(offered, " "), inTheClear(mayShow))
		}
		mechanism = preferred[i]
	}
	if !slices.Contains(offered, string(mechanism)) {
		return fmt.Errorf("AUTH: the relay offers (%s), not %s", strings.Join(offered, " "), mechanism)
	}
	if !mayShow && !slices.Contains(hidesPassword, mechanism) {
		return fmt.Errorf("AUTH: %s is not used%s", mechanism, inTheClear(mayShow))
	}
	s.opening.auth = string(mechanism)
	defer func() { s.opening.auth = "" }()
	if err := s.client.Auth(s.mechanism(mechanism)); err != nil {
		return fmt.Errorf("AUTH %s: %w", mechanism, err)
	}
	return nil
}

func inTheClear(mayShow bool) string {
	if mayShow {
		return ""
	}
	return " on a connection without TLS"
}

// mayShowPassword: the connection is encrypted or ends on this machine, or the
// operator has asked for plain text in so many words.
func (s *Session) mayShowPassword() bool {
	_, err := s.client.GetTLSConnectionState()
	return err == nil || s.relay.TLS == TLSNone || loopback(s.relay.Host)
}

func (s *Session) mechanism(m mail.SMTPAuthType) gosmtp.Auth {
	user, password := s.relay.User, string(s.relay.Password)
	switch m {
	case mail.SMTPAuthSCRAMSHA256:
		return gosmtp.ScramSHA256Auth(user, password)
	case mail.SMTPAuthSCRAMSHA1:
		return gosmtp.ScramSHA1Auth(user, password)
	case mail.SMTPAuthCramMD5:
		return gosmtp.CRAMMD5Auth(user, password)
	case mail.SMTPAuthXOAUTH2:
		return gosmtp.XOAuth2Auth(user, password)
	case mail.SMTPAuthLogin:
		return gosmtp.LoginAuth(user, password, s.relay.Host, true)
	default: // mayShowPassword has judged the connection; go-mail need not
		return gosmtp.PlainAuth("", user, password, s.relay.Host, true)
	}
}

// relayError translates what dialling said.
func relayError(r Relay, err error) *email.RelayError {
	out := &email.RelayError{Relay: r.identity(), Err: err}
	if t, ok := errors.AsType[*textproto.Error](err); ok {
		out.Reply = reply(t.Code, t.Msg)
	}
	return out
}
