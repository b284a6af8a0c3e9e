package smtp

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	mail "github.com/wneessen/go-mail"
	gosmtp "github.com/wneessen/go-mail/smtp"

	"github.com/postrider/postrider/email"
)

// preferred are the mechanisms of auth=auto, the strongest first. hidesPassword
// are those that do not put it on the wire.
var (
	preferred     = []mail.SMTPAuthType{mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthSCRAMSHA1, mail.SMTPAuthCramMD5, mail.SMTPAuthPlain, mail.SMTPAuthLogin}
	hidesPassword = []mail.SMTPAuthType{mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthSCRAMSHA1, mail.SMTPAuthCramMD5}
)

// authenticate chooses a mechanism and runs AUTH. go-mail's own choice is not used: it
// prefers NTLM, and sends XOAUTH2 tokens in the clear.
func (s *Session) authenticate() error {
	params, offersAuth := s.extension("AUTH")
	offered := strings.Fields(strings.ToUpper(params))
	hidden := func(m mail.SMTPAuthType) bool { return slices.Contains(hidesPassword, m) }
	exposed := s.exposesPassword()
	mechanism := s.server.Auth
	switch {
	case !offersAuth:
		return fmt.Errorf("AUTH: of what the relay offers (%s) nothing may be used: AUTH is not among it%s", s.offer(), s.withoutSTARTTLS())
	case mechanism == mail.SMTPAuthAutoDiscover:
		i := slices.IndexFunc(preferred, func(m mail.SMTPAuthType) bool {
			return slices.Contains(offered, string(m)) && (exposed == "" || hidden(m))
		})
		if i < 0 {
			return fmt.Errorf("AUTH: of what the relay offers (%s) nothing may be used%s", strings.Join(offered, " "), exposed)
		}
		mechanism = preferred[i]
	case !slices.Contains(offered, string(mechanism)):
		return fmt.Errorf("AUTH: the relay offers (%s), not %s", strings.Join(offered, " "), mechanism)
	case exposed != "" && !hidden(mechanism):
		return fmt.Errorf("AUTH: %s is not used%s", mechanism, exposed)
	}
	err := s.runAuth(s.mechanism(mechanism), offered)
	if _, answered := errors.AsType[*answerError](err); err == nil || answered {
		return err
	}
	return fmt.Errorf("AUTH %s: %w", mechanism, err)
}

// offer is what EHLO offered, for an error.
func (s *Session) offer() string {
	var out []string
	for _, keyword := range slices.Sorted(maps.Keys(s.extensions)) {
		out = append(out, strings.TrimSpace(keyword+" "+s.extensions[keyword]))
	}
	return Printable(strings.Join(out, ", "))
}

// withoutSTARTTLS is a hint: most servers offer AUTH on encrypted connections only.
func (s *Session) withoutSTARTTLS() string {
	if _, offered := s.extension("STARTTLS"); offered && !s.encrypted {
		return " before STARTTLS, which tls=" + string(s.server.TLS) + " does not use"
	}
	return ""
}

// exposesPassword says why a third party could read a password that is sent over this
// connection. It is empty if none could, or if the operator chose plain text (tls=none).
func (s *Session) exposesPassword() string {
	switch {
	case s.server.TLS == TLSNone || s.server.Loopback() || s.encrypted && s.unverified == nil:
		return ""
	case s.encrypted:
		return fmt.Sprintf(" on a connection without TLS to a verified server (%s): name its authority with tls_ca=", Printable(s.unverified.Error()))
	default:
		return " on a connection without TLS"
	}
}

// runAuth is the conversation of a mechanism (RFC 4954 section 4). Neither what we say nor
// what the server says meanwhile is kept: both may name the user.
//
// The text of an error holds no credentials, also where the server repeats them.
func (s *Session) runAuth(mechanism gosmtp.Auth, offered []string) (err error) {
	said := credentials{string(s.server.Password), base64.StdEncoding.EncodeToString([]byte(s.server.Password))}
	defer func() { err = said.hideIn(err) }()
	name, initial, err := mechanism.Start(&gosmtp.ServerInfo{Name: s.server.Host, TLS: s.encrypted, Auth: offered})
	if err != nil {
		return err
	}
	say := func(line string) (code int, text string, err error) {
		said = append(said, strings.TrimPrefix(strings.TrimPrefix(line, "AUTH "+name), " "))
		s.log.begin("AUTH " + name + " " + redacted)
		if code, text, err = s.command(untilCut, "%s", line); err == nil {
			s.log.end(email.Reply{Code: code, Enhanced: reply(code, text).Enhanced})
		}
		return code, text, err
	}
	line := strings.TrimSpace("AUTH " + name + " " + base64.StdEncoding.EncodeToString(initial))
	for {
		code, text, err := say(line)
		switch {
		case err != nil:
			return err
		case code == 235:
			_, err := mechanism.Next([]byte(text), false)
			return err
		case code != 334:
			return &answerError{"AUTH " + name, reply(code, said.hide(text))} // hidden first: a long text is cut off
		}
		challenge, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		if err != nil {
			return fmt.Errorf("the challenge is not base64: %w", err)
		}
		response, err := mechanism.Next(challenge, true)
		if err != nil {
			return err
		}
		line = base64.StdEncoding.EncodeToString(response)
	}
}

// credentials are the password and what was made of it for a mechanism, in base64.
type credentials []string

// hideIn returns the error without them. errors.Is and errors.As still find the wrapped errors.
func (c credentials) hideIn(err error) error {
	if err == nil {
		return nil
	}
	if text := c.hide(err.Error()); text != err.Error() {
		return &hiddenError{text, err}
	}
	return err
}

func (c credentials) hide(text string) string {
	for _, secret := range slices.Backward(c) { // the password in base64 may be a part of a line
		if secret != "" { // the answer to an empty challenge is
			text = strings.ReplaceAll(text, secret, redacted)
		}
	}
	return text
}

// hiddenError is an error whose text has no credentials.
type hiddenError struct {
	text string
	err  error
}

func (e *hiddenError) Error() string { return e.text }

// Unwrap gives the error, whose own text is not to be shown.
func (e *hiddenError) Unwrap() error { return e.err }

func (s *Session) mechanism(m mail.SMTPAuthType) gosmtp.Auth {
	user, password := s.server.User, string(s.server.Password)
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
		return gosmtp.LoginAuth(user, password, s.server.Host, true)
	default: // exposesPassword has judged the connection; go-mail need not
		return gosmtp.PlainAuth("", user, password, s.server.Host, true)
	}
}
