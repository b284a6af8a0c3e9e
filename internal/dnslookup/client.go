package dnslookup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// The limits of one lookup.
const (
	maxCNAMEs      = 8
	maxQueries     = 100
	maxNameServers = 13 // of a zone
	maxAddresses   = 4  // of a name server
	maxDelegations = 8
	maxAnswerBytes = 16 << 10
	maxReasons     = 4 // that an answer names, of servers that fail
	// udpBytes is the largest answer over UDP. Larger packets are fragmented and get lost.
	udpBytes = 1232
)

// Options tune a Client.
type Options struct {
	// TryTimeout is how long one server may take for one answer. Defaults to 2 seconds.
	TryTimeout time.Duration
	// LookupTimeout is how long one lookup may take. The authoritative servers get at most
	// half of it, so that time is left for a recursive server. Defaults to 15 seconds.
	LookupTimeout time.Duration
	// AllowedNetworks are private or loopback networks in which name servers of zones may be
	// asked. None by default: a zone's name servers have to be at public addresses.
	AllowedNetworks []netip.Prefix
	// Port is the port of the zones' name servers. Defaults to 53; tests use another.
	Port uint16
}

// Client looks names up. It remembers nothing between lookups, and any number of
// goroutines may use it.
type Client struct {
	recursive []string
	options   Options
}

// New makes a client of the recursive servers, given as host:port and asked in turn.
// Without any, it takes those of /etc/resolv.conf. New sends nothing.
func New(servers []string, options Options) (*Client, error) {
	if len(servers) == 0 {
		system, err := dns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil {
			return nil, fmt.Errorf("read the DNS servers of this machine: %w", err)
		}
		for _, host := range system.Servers {
			servers = append(servers, net.JoinHostPort(host, system.Port))
		}
	}
	if len(servers) == 0 {
		return nil, errors.New("no DNS server is given, and /etc/resolv.conf has none")
	}
	for _, server := range servers {
		host, port, err := net.SplitHostPort(server)
		if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || host == "" {
			return nil, fmt.Errorf("DNS server %q: give host:port, as 192.0.2.1:53", server)
		}
	}
	if options.TryTimeout == 0 {
		options.TryTimeout = 2 * time.Second
	}
	if options.LookupTimeout == 0 {
		options.LookupTimeout = 15 * time.Second
	}
	if options.Port == 0 {
		options.Port = 53
	}
	return &Client{recursive: servers, options: options}, nil
}

// Lookup returns the records of a type at a name, as the first server gives them that
// answers. If none answers, the outcome is a TemporaryFailure with a reason.
func (c *Client) Lookup(ctx context.Context, name string, typ Type) Answer {
	l, ctx, end := c.begin(ctx)
	defer end()
	at, err := checkQuestion(name, typ)
	if err != nil {
		return Answer{Name: plain(name), Type: typ, Outcome: TemporaryFailure, Reason: err.Error()}
	}
	r, err := l.resolve(ctx, at, typ)
	return l.follow(ctx, at, typ, r, err)
}

// LookupAll asks every authoritative server of the name's zone, and returns an answer for
// each, in no order that means anything. A secondary server with old data differs from the
// others. Servers that do not answer have a TemporaryFailure. If no authoritative server
// answers, the only answer is that of a recursive server.
func (c *Client) LookupAll(ctx context.Context, name string, typ Type) []Answer {
	l, ctx, end := c.begin(ctx)
	defer end()
	at, err := checkQuestion(name, typ)
	if err != nil {
		return []Answer{{Name: plain(name), Type: typ, Outcome: TemporaryFailure, Reason: err.Error()}}
	}
	r, err := l.resolve(ctx, at, typ)
	if err != nil || !r.authoritative() {
		return []Answer{l.follow(ctx, at, typ, r, err)}
	}
	found := make([][]Answer, len(r.zone.servers))
	var wait sync.WaitGroup
	for i, host := range r.zone.servers {
		wait.Go(func() {
			addresses, err := l.addresses(ctx, host)
			if err != nil {
				found[i] = []Answer{l.follow(ctx, at, typ, reply{zone: r.zone, server: plain(host)}, err)}
			}
			for _, address := range addresses {
				s := nameServer{host: host, address: address}
				r, err := l.ask(ctx, s, r.zone, at, typ)
				if err == nil && r.delegated != nil {
					err = fmt.Errorf("%s delegates %s, other servers of %s do not", s, plain(at), plain(r.zone.name))
				}
				found[i] = append(found[i], l.follow(ctx, at, typ, r, err))
			}
		})
	}
	wait.Wait()
	var out []Answer
	for _, answers := range found {
		out = append(out, answers...)
	}
	return out
}

func checkQuestion(name string, typ Type) (fqdn string, err error) {
	switch typ {
	case TXT, CNAME, MX, A, AAAA:
	default:
		return "", fmt.Errorf("record type %q cannot be looked up", typ)
	}
	if _, ok := dns.IsDomainName(name); !ok || strings.Trim(name, ".") == "" {
		return "", fmt.Errorf("%q is not a name of the DNS", name)
	}
	return dns.CanonicalName(name), nil
}

// lookup is one lookup under way.
type lookup struct {
	*Client
	queries atomic.Int32
}

func (c *Client) begin(ctx context.Context) (*lookup, context.Context, context.CancelFunc) {
	ctx, end := context.WithTimeout(ctx, c.options.LookupTimeout)
	return &lookup{Client: c}, ctx, end
}

// reply is what a server said of one name.
type reply struct {
	message *dns.Msg
	server  string
	// zone is nil if a recursive server replied.
	zone *zone
	// delegated is the zone that the server refers to instead of an answer.
	delegated *zone
}

func (r reply) authoritative() bool { return r.zone != nil }

// resolve asks for one name, the authoritative servers first. It follows no CNAME.
func (l *lookup) resolve(ctx context.Context, name string, typ Type) (reply, error) {
	half, end := context.WithTimeout(ctx, l.options.LookupTimeout/2)
	defer end()
	r, authoritativeErr := l.askZone(half, name, typ)
	if authoritativeErr == nil {
		return r, nil
	}
	m, server, err := l.askRecursive(ctx, name, dns.StringToType[string(typ)])
	if err == nil && !isDefinite(m) {
		err = errors.New("the recursive server answers " + rcode(m))
	}
	if err != nil {
		return reply{server: server}, fmt.Errorf("%w; %w", authoritativeErr, err)
	}
	return reply{message: m, server: server}, nil
}

// follow makes the answer of the reply to the first name, and follows its CNAMEs.
func (l *lookup) follow(ctx context.Context, name string, typ Type, r reply, err error) Answer {
	a := Answer{Name: plain(name), Type: typ, Server: r.server, Authoritative: r.authoritative()}
	if r.authoritative() {
		a.Zone = plain(r.zone.name)
	}
	seen := map[string]bool{name: true}
	for {
		if err != nil {
			a.Outcome, a.Reason = TemporaryFailure, err.Error()
			return a
		}
		moved := false
		for {
			if a.Records = recordsAt(r.message, name, typ); len(a.Records) > 0 {
				a.Outcome = Found
				return a
			}
			target, ok := targetAt(r.message, name)
			if !ok {
				break
			}
			a.Chain = append(a.Chain, plain(target))
			if seen[target] || len(a.Chain) > maxCNAMEs {
				a.Outcome, a.Loop = NoSuchRecord, true
				a.Reason = "the CNAMEs lead nowhere: " + a.Name + " → " + strings.Join(a.Chain, " → ")
				return a
			}
			name, seen[target], moved = target, true, true
			if r.authoritative() && !dns.IsSubDomain(r.zone.name, name) {
				break // what a server says of another zone does not count
			}
		}
		if !moved || !r.authoritative() {
			a.Outcome, a.Reason = NoSuchRecord, fmt.Sprintf("%s has no %s record", plain(name), typ)
			if r.message.Rcode == dns.RcodeNameError {
				a.Outcome, a.Reason = NoSuchName, plain(name)+" does not exist"
			}
			return a
		}
		r, err = l.resolve(ctx, name, typ)
	}
}

// isDefinite reports whether a message says what the DNS has.
func isDefinite(m *dns.Msg) bool {
	return m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError
}

func rcode(m *dns.Msg) string {
	if name, ok := dns.RcodeToString[m.Rcode]; ok {
		return name
	}
	return "code " + strconv.Itoa(m.Rcode)
}
