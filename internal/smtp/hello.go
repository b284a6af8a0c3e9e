package smtp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
)

// greet reads the server's first reply (RFC 5321 section 4.3.1).
// Where none comes, a second connection finds out whether the server waits for TLS.
func (s *Session) greet(ctx context.Context) error {
	s.log.await("the greeting")
	timeout := s.timeouts.ForGreeting(s.server)
	suspected := s.suspectTLS(ctx)
	code, text, err := s.awaitReply(timeout)
	s.silent, s.greeted = err != nil, err == nil
	netErr, isNet := errors.AsType[net.Error](err)
	switch wantsTLS := suspected(); {
	case err != nil && wantsTLS:
		return fmt.Errorf("no greeting within %s: %s; it answered a TLS handshake", s.timeouts.Silence, expectsTLS)
	case isNet && netErr.Timeout():
		silence := &SilentError{err: fmt.Errorf("%s %s", NoGreeting, timeout)}
		if s.server.TLS != TLSImplicit {
			silence.guess = ": " + expectsTLS
		}
		return silence
	case err != nil:
		return fmt.Errorf("read the greeting: %w", err)
	case code != 220:
		return &answerError{"the connection", reply(code, text)}
	}
	return nil
}

// hello sends EHLO and keeps what the server offers. A server that refuses EHLO for good
// is greeted with HELO, and offers nothing (RFC 5321 section 3.2).
func (s *Session) hello() error {
	s.extensions = nil
	name := s.server.HELO
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			host = ""
		}
		name = heloName(host, s.conn.LocalAddr())
	}
	code, text, err := s.say("EHLO " + name)
	switch {
	case err != nil:
		return fmt.Errorf("EHLO: %w", err)
	case code/100 == 2:
		s.extensions = extensions(text)
		return nil
	case code/100 != 5:
		return &answerError{"EHLO", reply(code, text)}
	}
	if code, _, err := s.say("HELO " + name); err != nil || code/100 != 2 {
		return &answerError{"EHLO", reply(code, text)} // HELO fared no better
	}
	return nil
}

// extensions reads the answer to EHLO: a line with the server's name, then a keyword and
// its parameters on each. Keywords are in any case (RFC 5321 section 4.1.1.1). AUTH=LOGIN
// is how servers wrote AUTH LOGIN before RFC 2554; some offer both.
func extensions(text string) map[string]string {
	out := map[string]string{}
	_, lines, _ := strings.Cut(text, "\n")
	for line := range strings.SplitSeq(lines, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		keyword := strings.ToUpper(words[0])
		if rest, ok := strings.CutPrefix(keyword, "AUTH="); ok {
			keyword, words = "AUTH", append([]string{"AUTH", rest}, words[1:]...)
		}
		params := strings.Join(words[1:], " ")
		if keyword == "AUTH" {
			params = strings.TrimSpace(out[keyword] + " " + params)
		}
		out[keyword] = params
	}
	return out
}

var fullDomain = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

// heloName is what EHLO says of us: the machine's name if it is a full one, or else the
// address that we connect from as a literal (RFC 5321 section 4.1.4). Servers refuse
// names without a dot.
func heloName(host string, local net.Addr) string {
	host = strings.TrimSuffix(host, ".")
	if len(host) <= 255 && fullDomain.MatchString(host) {
		return host
	}
	addr, err := netip.ParseAddrPort(local.String())
	ip := addr.Addr().Unmap().WithZone("")
	switch {
	case err != nil:
		return "localhost"
	case ip.Is6():
		return "[IPv6:" + ip.String() + "]"
	}
	return "[" + ip.String() + "]"
}

// say sends a command of the opening and keeps it with its answer.
func (s *Session) say(command string) (code int, text string, err error) {
	s.log.begin(command)
	code, text, err = s.command(untilCut, "%s", command)
	if err == nil {
		s.log.end(reply(code, text))
	}
	return code, text, err
}

// extension reports whether EHLO offered an extension, and its parameters.
func (s *Session) extension(name string) (string, bool) {
	params, ok := s.extensions[name]
	return params, ok
}

var errNoSTARTTLS = errors.New("the relay does not offer STARTTLS, and tls=starttls sends nothing in the clear")
