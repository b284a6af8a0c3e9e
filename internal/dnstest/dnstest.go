// Package dnstest runs a DNS of its own on loopback, for tests: authoritative servers,
// each at an address of its own with its own copy of its zones, and one recursive server
// that finds them. It needs 127.0.0.0/8, as Linux has it.
package dnstest

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

// Loopback is the network that the servers are in.
var Loopback = netip.MustParsePrefix("127.0.0.0/8")

// servers is how many authoritative servers a Net can have.
const servers = 6

// Fault is how a server fails to answer.
type Fault string

// The faults.
const (
	None      Fault = ""
	Silent    Fault = "silent"    // reads queries and never answers
	Servfail  Fault = "servfail"  // answers SERVFAIL
	Refused   Fault = "refused"   // answers REFUSED
	Lame      Fault = "lame"      // answers without knowing the zone
	Malformed Fault = "malformed" // answers with another question's answer
	NoEDNS    Fault = "no-edns"   // answers FORMERR to a query with EDNS
	Forged    Fault = "forged"    // sends an empty answer with another id first
)

// Net is a DNS.
type Net struct {
	// Recursive is the address of the recursive server.
	Recursive string
	// Port is the port of all servers.
	Port uint16

	mu        sync.Mutex
	fault     Fault
	free      []*Server
	hosts     map[string]*Server
	zones     map[string][]*Server
	addresses map[string]string
}

// Server is an authoritative server.
type Server struct {
	Address netip.Addr

	net     *Net
	fault   Fault
	zones   map[string][]dns.RR
	queries []string
}

// New starts a DNS without zones. It ends with the test.
func New(t testing.TB) *Net {
	t.Helper()
	n := &Net{hosts: map[string]*Server{}, zones: map[string][]*Server{}, addresses: map[string]string{}}
	var err error
	for range 50 { // the port has to be free at all addresses, for UDP and TCP
		if err = n.listen(t); err == nil {
			return n
		}
	}
	require.NoError(t, err)
	return nil
}

func (n *Net) listen(t testing.TB) (err error) {
	var sockets []interface{ Close() error }
	defer func() {
		if err != nil {
			for _, s := range sockets {
				_ = s.Close()
			}
		}
	}()
	n.Port, n.free = 0, nil
	var started []*dns.Server
	for i := range servers + 1 {
		address := netip.AddrFrom4([4]byte{127, 0, 0, byte(i + 1)})
		tcp, err := net.Listen("tcp", netip.AddrPortFrom(address, n.Port).String())
		if err != nil {
			return err
		}
		sockets = append(sockets, tcp)
		n.Port = tcp.Addr().(*net.TCPAddr).AddrPort().Port()
		udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, n.Port)))
		if err != nil {
			return err
		}
		sockets = append(sockets, udp)
		handler := dns.HandlerFunc(n.serveRecursive)
		if i > 0 {
			s := &Server{Address: address, net: n, zones: map[string][]dns.RR{}}
			n.free = append(n.free, s)
			handler = s.serve
		}
		started = append(started, &dns.Server{Listener: tcp, Handler: handler}, &dns.Server{PacketConn: udp, Handler: handler})
	}
	n.Recursive = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), n.Port).String()
	for _, s := range started {
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go func() { _ = s.ActivateAndServe() }() // ends at Shutdown
		<-up
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return nil
}

// Server returns the server with a host name, which the recursive server resolves.
func (n *Net) Server(t testing.TB, host string) *Server {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	host = dns.Fqdn(host)
	if s := n.hosts[host]; s != nil {
		return s
	}
	require.NotEmpty(t, n.free, "a Net has %d servers", servers)
	s := n.free[0]
	n.free = n.free[1:]
	n.hosts[host] = s
	n.addresses[host] = s.Address.String()
	return s
}

// SetAddress makes the recursive server resolve a host to an address.
func (n *Net) SetAddress(host, address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addresses[dns.Fqdn(host)] = address
}

// Zone delegates a zone to servers with these host names, all with the same records:
// lines of a zone file, with names relative to the zone. It replaces what they had.
func (n *Net) Zone(t testing.TB, zone string, hosts []string, lines ...string) {
	t.Helper()
	var of []*Server
	for _, host := range hosts {
		of = append(of, n.Server(t, host))
	}
	n.mu.Lock()
	n.zones[dns.Fqdn(zone)] = of
	n.mu.Unlock()
	for _, s := range of {
		s.Zone(t, zone, lines...)
	}
}

// SetFault makes the recursive server fail.
func (n *Net) SetFault(f Fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fault = f
}

// SetFault makes the server fail.
func (s *Server) SetFault(f Fault) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.fault = f
}

// Queries are the questions that the server has been asked: "udp example.com. TXT".
func (s *Server) Queries() []string {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	return slices.Clone(s.queries)
}

// Zone sets this server's copy of a zone only. The zone's other servers keep theirs.
func (s *Server) Zone(t testing.TB, zone string, lines ...string) {
	t.Helper()
	origin := dns.Fqdn(zone)
	text := "$ORIGIN " + origin + "\n$TTL 300\n@ IN SOA ns hostmaster 1 3600 600 86400 3600\n" + strings.Join(lines, "\n") + "\n"
	parser := dns.NewZoneParser(strings.NewReader(text), origin, "")
	var records []dns.RR
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		records = append(records, rr)
	}
	require.NoError(t, parser.Err())
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.zones[origin] = records
}

// serve answers as an authoritative server does.
func (s *Server) serve(w dns.ResponseWriter, q *dns.Msg) {
	s.net.mu.Lock()
	s.queries = append(s.queries, fmt.Sprintf("%s %s %s", w.RemoteAddr().Network(), q.Question[0].Name, dns.TypeToString[q.Question[0].Qtype]))
	fault := s.fault
	m := s.answer(q)
	s.net.mu.Unlock()
	send(w, q, m, fault)
}

func send(w dns.ResponseWriter, q, m *dns.Msg, fault Fault) {
	edns := q.IsEdns0()
	switch fault {
	case None:
	case Silent:
		return
	case Servfail:
		m = new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	case Refused:
		m = new(dns.Msg).SetRcode(q, dns.RcodeRefused)
	case Lame:
		m = new(dns.Msg).SetReply(q)
	case Malformed:
		m.Question[0].Name = "another.question."
	case Forged:
		forged := new(dns.Msg).SetReply(q)
		forged.Id++
		forged.Authoritative = true
		_ = w.WriteMsg(forged) // the client may be gone
	case NoEDNS:
		if edns != nil {
			m = new(dns.Msg).SetRcodeFormatError(q)
		}
	}
	if w.RemoteAddr().Network() == "udp" {
		size := dns.MinMsgSize
		if edns != nil {
			size = int(edns.UDPSize())
		}
		m.Truncate(size)
	}
	_ = w.WriteMsg(m) // the client may be gone
}

// answer makes the answer of the closest zone that the server has; n.mu is held.
func (s *Server) answer(q *dns.Msg) *dns.Msg {
	name, typ := dns.CanonicalName(q.Question[0].Name), q.Question[0].Qtype
	m := new(dns.Msg).SetReply(q)
	zone := closest(s.zones, name)
	if zone == "" {
		m.Rcode = dns.RcodeRefused
		return m
	}
	records := s.zones[zone]
	for _, rr := range records { // a delegation
		if ns, ok := rr.(*dns.NS); ok && ns.Hdr.Name != zone && dns.IsSubDomain(ns.Hdr.Name, name) {
			m.Ns = append(m.Ns, ns)
		}
	}
	if len(m.Ns) > 0 {
		return m
	}
	m.Authoritative = true
	// It follows CNAMEs into all zones that it has, be they its own or not.
	for hops := 0; hops < 12 && closest(s.zones, name) != ""; hops++ {
		at, exists := lookIn(s.zones[closest(s.zones, name)], name)
		if !exists {
			m.Rcode = dns.RcodeNameError
			break
		}
		next := ""
		for _, rr := range at {
			if rr.Header().Rrtype == typ {
				m.Answer = append(m.Answer, rr)
			} else if c, ok := rr.(*dns.CNAME); ok {
				m.Answer = append(m.Answer, c)
				next = dns.CanonicalName(c.Target)
			}
		}
		if next == "" {
			break
		}
		name = next
	}
	if len(m.Answer) == 0 {
		m.Ns = records[:1] // the SOA record
	}
	return m
}

// closest is the closest zone that a name is in, or empty.
func closest[V any](zones map[string]V, name string) string {
	zone := ""
	for z := range zones {
		if dns.IsSubDomain(z, name) && len(z) > len(zone) {
			zone = z
		}
	}
	return zone
}

// lookIn are the records at a name. If the name does not exist, they are those of the
// wildcard below the closest name that does (RFC 4592).
func lookIn(records []dns.RR, name string) (at []dns.RR, exists bool) {
	if at, exists = exactly(records, name); exists {
		return at, true
	}
	for offset, end := dns.NextLabel(name, 0); !end; offset, end = dns.NextLabel(name, offset) {
		if _, encloser := exactly(records, name[offset:]); !encloser {
			continue
		}
		wild, exists := exactly(records, "*."+name[offset:])
		for _, rr := range wild {
			rr = dns.Copy(rr)
			rr.Header().Name = name
			at = append(at, rr)
		}
		return at, exists
	}
	return nil, false
}

// exactly are the records at a name. It exists if there is anything at it or below it.
func exactly(records []dns.RR, name string) (at []dns.RR, exists bool) {
	for _, rr := range records {
		owner := dns.CanonicalName(rr.Header().Name)
		exists = exists || dns.IsSubDomain(name, owner)
		if owner == name {
			at = append(at, rr)
		}
	}
	return at, exists
}

// serveRecursive answers from the zones' servers, as a recursive server without a cache.
func (n *Net) serveRecursive(w dns.ResponseWriter, q *dns.Msg) {
	n.mu.Lock()
	fault := n.fault
	m := n.resolve(q)
	n.mu.Unlock()
	send(w, q, m, fault)
}

func (n *Net) resolve(q *dns.Msg) *dns.Msg {
	name, typ := dns.CanonicalName(q.Question[0].Name), q.Question[0].Qtype
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	if address, ok := n.addresses[name]; ok {
		if strings.Contains(address, ":") == (typ == dns.TypeAAAA) && (typ == dns.TypeA || typ == dns.TypeAAAA) {
			m.Answer = append(m.Answer, record(name, dns.TypeToString[typ], address))
		}
		return m
	}
	if of := n.zones[name]; typ == dns.TypeNS && of != nil {
		for host, s := range n.hosts {
			if slices.Contains(of, s) {
				m.Answer = append(m.Answer, record(name, "NS", host))
			}
		}
		slices.SortFunc(m.Answer, func(a, b dns.RR) int { return strings.Compare(a.String(), b.String()) })
		return m
	}
	for range 12 {
		part := n.forward(name, typ)
		if part == nil {
			m.Rcode = dns.RcodeNameError
			return m
		}
		m.Answer = append(m.Answer, part.Answer...)
		m.Rcode = part.Rcode
		if len(part.Answer) == 0 || m.Rcode != dns.RcodeSuccess {
			return m
		}
		c, ok := part.Answer[len(part.Answer)-1].(*dns.CNAME)
		if !ok || typ == dns.TypeCNAME {
			return m
		}
		name = dns.CanonicalName(c.Target)
	}
	return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
}

// forward asks the servers of the closest zone: nil if there is no zone, SERVFAIL if no
// server works.
func (n *Net) forward(name string, typ uint16) *dns.Msg {
	q := new(dns.Msg).SetQuestion(name, typ)
	zone := closest(n.zones, name)
	if zone == "" {
		return nil
	}
	for _, s := range n.zones[zone] {
		if m := s.answer(q); s.fault == None && m.Authoritative {
			return m
		}
	}
	return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
}

func record(name, typ, value string) dns.RR {
	rr, err := dns.NewRR(fmt.Sprintf("%s 300 IN %s %s", name, typ, value))
	if err != nil {
		panic(err)
	}
	return rr
}
