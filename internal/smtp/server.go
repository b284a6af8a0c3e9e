package smtp

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	mail "github.com/wneessen/go-mail"

	"github.com/postrider/postrider/email"
)

// TLSMode says how a relay's connection is encrypted.
type TLSMode string

// The modes. Certificates are verified in all but opportunistic. Nothing ever falls back
// from starttls or implicit to plain text, nor from a STARTTLS that was offered and failed.
const (
	// TLSNone sends in the clear; credentials too, if there are any.
	TLSNone TLSMode = "none"
	// TLSOpportunistic encrypts where the server offers STARTTLS, with any certificate (RFC
	// 7435). It protects from an eavesdropper, not from an attacker that changes the traffic.
	TLSOpportunistic TLSMode = "opportunistic"
	// TLSVerify encrypts where the server offers STARTTLS and refuses a certificate that
	// cannot be verified. Where STARTTLS is not offered it sends in the clear.
	TLSVerify TLSMode = "verify"
	// TLSRequired refuses a server that does not offer STARTTLS (RFC 3207).
	TLSRequired TLSMode = "starttls"
	// TLSImplicit speaks TLS from the first byte (RFC 8314 section 3.3).
	TLSImplicit TLSMode = "implicit"
)

// Server is an SMTP server and how to sign in there.
type Server struct {
	// Name tells servers apart in logs, answers and search attributes. Defaults
	// to the host.
	Name string
	Host string
	Port int

	// User is empty where the server asks for no credentials.
	User     string
	Password Password
	// Auth is the mechanism; mail.SMTPAuthAutoDiscover picks the strongest one offered.
	Auth mail.SMTPAuthType

	TLS TLSMode
	// RootCAs replaces the system's; nil means those.
	RootCAs *x509.CertPool

	// Accepts says what the server's 250 stands for. Defaults to relay.
	Accepts email.AcceptMeans
	// LocalAddr is the address to connect from; invalid means any.
	LocalAddr netip.Addr
	// Greeting is how long the server may take to greet. Defaults to Timeouts.Greeting.
	Greeting time.Duration
	// NoPipelining: each command waits for the reply to the one before, even where the server
	// offers PIPELINING.
	NoPipelining bool
	// HELO is the name we greet with. Defaults to the machine's where that is a full domain
	// name, or else to the connection's own address: [192.0.2.1].
	HELO string
}

// String names the server as an operator knows it.
func (s Server) String() string { return fmt.Sprintf("%s (%s, tls=%s)", s.Name, s.Addr(), s.TLS) }

// LogValue keeps a server in a log short.
func (s Server) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Identity is the server as answers name it.
func (s Server) Identity() email.Relay {
	return email.Relay{Name: s.Name, Host: s.Host, Accepts: s.Accepts}
}

// Addr is host:port.
func (s Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Loopback reports whether the host is this machine by its name alone.
func (s Server) Loopback() bool {
	ip, err := netip.ParseAddr(s.Host)
	return s.Host == "localhost" || (err == nil && ip.IsLoopback())
}

// Password prints as [redacted] in every format.
type Password string

const redacted = "[redacted]"

// String hides the password.
func (Password) String() string { return redacted }

// Format hides the password from every verb of fmt.
func (Password) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// LogValue hides the password from slog.
func (Password) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the password from encoders, slog's JSON handler among them.
func (Password) MarshalText() ([]byte, error) { return []byte(redacted), nil }
