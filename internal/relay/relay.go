package relay

import (
	"crypto/x509"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	mail "github.com/wneessen/go-mail"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/smtp"
)

// Relay is a server that takes our mail, and which mail goes there.
type Relay struct {
	smtp.Server
	// MaxConns bounds the connections of this process. Defaults to 10.
	MaxConns int
	// Pace is the least time between two transactions, over all processes; 0 is
	// none. As an option it is a rate: 50/s.
	Pace time.Duration
	// Streams and Domains restrict the mail that goes here, by stream and by the
	// sender's domain. Empty means any.
	Streams []email.Stream
	Domains []string
	// SendsFrom are the addresses from which the mail reaches receivers. Empty is not known.
	SendsFrom []netip.Addr
}

// takes reports whether mail of that route may go to this relay.
func (r Relay) takes(route delivery.Route) bool {
	return (len(r.Streams) == 0 || slices.Contains(r.Streams, route.Stream)) &&
		(len(r.Domains) == 0 || slices.Contains(r.Domains, route.SenderDomain))
}

// authTypes are the values of auth=. plain, login and xoauth2 show the secret to
// the connection: without TLS to a verified server they are used on a loopback host
// or with tls=none only, and auto does not choose them otherwise.
var authTypes = map[string]mail.SMTPAuthType{
	"auto": mail.SMTPAuthAutoDiscover, "plain": mail.SMTPAuthPlain, "login": mail.SMTPAuthLogin, "cram-md5": mail.SMTPAuthCramMD5,
	"scram-sha-1": mail.SMTPAuthSCRAMSHA1, "scram-sha-256": mail.SMTPAuthSCRAMSHA256, "xoauth2": mail.SMTPAuthXOAUTH2,
}

var word = regexp.MustCompile(`^[A-Za-z0-9._-]{1,255}$`)

// defaultMaxConns bounds a relay's connections where nothing else is said.
const defaultMaxConns = 10

// maxSendsFrom bounds the addresses of sends_from=, as each costs a check of SPF.
const maxSendsFrom = 16

// relayOptions are the members of a relay's query.
var relayOptions = map[string]func(*Relay, string) error{
	"name": func(r *Relay, v string) error {
		if !word.MatchString(v) {
			return fmt.Errorf("%q is not made of letters, digits, dots, hyphens and underscores", v)
		}
		r.Name = v
		return nil
	},
	"tls": func(r *Relay, v string) error {
		r.TLS = smtp.TLSMode(v)
		if !slices.Contains([]smtp.TLSMode{smtp.TLSNone, smtp.TLSOpportunistic, smtp.TLSVerify, smtp.TLSRequired, smtp.TLSImplicit}, r.TLS) {
			return fmt.Errorf("%q is not one of none, opportunistic, verify, starttls, implicit", v)
		}
		return nil
	},
	"tls_ca": func(r *Relay, v string) error {
		pem, err := os.ReadFile(v)
		if err != nil {
			return err
		}
		r.RootCAs = x509.NewCertPool()
		if !r.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s holds no PEM certificate", v)
		}
		return nil
	},
	"auth": func(r *Relay, v string) error {
		t, ok := authTypes[v]
		if !ok {
			return fmt.Errorf("%q is not one of %s", v, strings.Join(slices.Sorted(maps.Keys(authTypes)), ", "))
		}
		r.Auth = t
		return nil
	},
	"accepts": func(r *Relay, v string) error {
		r.Accepts = email.AcceptMeans(v)
		if r.Accepts != email.AcceptsFinal && r.Accepts != email.AcceptsRelay {
			return fmt.Errorf("%q is not one of final, relay", v)
		}
		return nil
	},
	"max_conns": func(r *Relay, v string) (err error) {
		if r.MaxConns, err = strconv.Atoi(v); err != nil || r.MaxConns < 1 || r.MaxConns > 1000 {
			return fmt.Errorf("%q is not a number from 1 to 1000", v)
		}
		return nil
	},
	"rate": func(r *Relay, v string) (err error) {
		r.Pace, err = parseRate(v)
		return err
	},
	"streams": func(r *Relay, v string) error {
		for s := range strings.SplitSeq(v, ",") {
			if s != string(email.StreamTransactional) && s != string(email.StreamBroadcast) {
				return fmt.Errorf("%q is not one of transactional, broadcast", s)
			}
			r.Streams = append(r.Streams, email.Stream(s))
		}
		return nil
	},
	"domains": func(r *Relay, v string) error {
		r.Domains = strings.Split(strings.ToLower(v), ",")
		for _, d := range r.Domains {
			if !word.MatchString(d) {
				return fmt.Errorf("%q is not a domain; one that is not ASCII is written in its xn-- form", d)
			}
		}
		return nil
	},
	"sends_from": func(r *Relay, v string) error {
		for part := range strings.SplitSeq(v, ",") {
			address, err := netip.ParseAddr(part)
			if err != nil || address.Zone() != "" {
				return fmt.Errorf("%q is not an IP address", part)
			}
			r.SendsFrom = append(r.SendsFrom, address.Unmap())
		}
		if len(r.SendsFrom) > maxSendsFrom {
			return fmt.Errorf("has %d addresses, the limit is %d: name some of them", len(r.SendsFrom), maxSendsFrom)
		}
		return nil
	},
	"local_addr": func(r *Relay, v string) (err error) {
		r.LocalAddr, err = netip.ParseAddr(v)
		return err
	},
	"greeting_timeout": func(r *Relay, v string) (err error) {
		if r.Greeting, err = time.ParseDuration(v); err != nil || r.Greeting < time.Second || r.Greeting > 5*time.Minute {
			return fmt.Errorf("%q is not a time from 1s to 5m", v)
		}
		return nil
	},
	"pipelining": func(r *Relay, v string) error {
		if v != "yes" && v != "no" {
			return fmt.Errorf("%q is not one of yes, no", v)
		}
		r.NoPipelining = v == "no"
		return nil
	},
	"helo": func(r *Relay, v string) error {
		if v == "" || strings.ContainsFunc(v, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
			return fmt.Errorf("%q is not a host name", v)
		}
		r.HELO = v
		return nil
	},
}

// Parse reads a relay's URL:
//
//	smtp://user:password@host:587?name=primary&tls=starttls&accepts=relay&max_conns=10&rate=50/s
//	smtps://host
//
// smtp:// defaults to port 587 and tls=starttls, on a loopback host to
// tls=opportunistic, because the connection stays on the machine; smtps:// to port 465 and
// tls=implicit. Port 587 is for submission (RFC 6409): a server's own port 25 is
// written out. Errors name the option, never the password.
func Parse(raw string) (Relay, error) {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "smtp" && u.Scheme != "smtps") || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.Fragment != "" {
		return Relay{}, fmt.Errorf("not a relay: expected smtp://user:password@host:587?tls=starttls or smtps://host")
	}
	r := Relay{
		Server:   smtp.Server{Name: u.Hostname(), Host: u.Hostname(), Port: 587, TLS: smtp.TLSRequired, Accepts: email.AcceptsRelay, Auth: mail.SMTPAuthAutoDiscover},
		MaxConns: defaultMaxConns,
	}
	if r.Loopback() {
		r.TLS = smtp.TLSOpportunistic
	}
	if u.Scheme == "smtps" {
		r.Port, r.TLS = 465, smtp.TLSImplicit
	}
	if p := u.Port(); p != "" {
		if r.Port, err = strconv.Atoi(p); err != nil || r.Port < 1 || r.Port > 65535 {
			return Relay{}, fmt.Errorf("relay %s: port %s is not from 1 to 65535", r.Host, p)
		}
	}
	if u.User != nil {
		r.User = u.User.Username()
		password, _ := u.User.Password()
		r.Password = smtp.Password(password)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Relay{}, fmt.Errorf("relay %s: the options after ? are not name=value pairs", r.Host)
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		set, ok := relayOptions[name]
		if !ok {
			return Relay{}, fmt.Errorf("relay %s: there is no option %s; there are %s", r.Host, name, strings.Join(slices.Sorted(maps.Keys(relayOptions)), ", "))
		}
		if len(query[name]) > 1 {
			return Relay{}, fmt.Errorf("relay %s: %s is given %d times", r.Host, name, len(query[name]))
		}
		if err := set(&r, query.Get(name)); err != nil {
			return Relay{}, fmt.Errorf("relay %s: %s: %w", r.Host, name, err)
		}
	}
	if u.Scheme == "smtps" && r.TLS != smtp.TLSImplicit {
		return Relay{}, fmt.Errorf("relay %s: smtps:// means tls=implicit", r.Host)
	}
	return r, nil
}
