package dnslookup

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/postrider/postrider/internal/safehttp"
)

// zone is a zone and the names of its servers.
type zone struct {
	name    string
	servers []string
}

// nameServer is an address of one of a zone's servers.
type nameServer struct {
	host    string
	address netip.Addr
}

func (s nameServer) String() string { return fmt.Sprintf("%s (%s)", plain(s.host), s.address) }

// findZone asks the recursive server for the closest zone above a name, or at it.
func (l *lookup) findZone(ctx context.Context, name string) (*zone, error) {
	for at := name; at != "."; at = parent(at) {
		m, _, err := l.askRecursive(ctx, at, dns.TypeNS)
		if err != nil {
			return nil, err
		}
		// After SERVFAIL the zone above may still answer, or delegate.
		if z := zoneIn(m.Answer, at); z != nil {
			return z, nil
		}
	}
	return nil, fmt.Errorf("the recursive server names no name servers for %s", plain(name))
}

// zoneIn is the zone whose NS records a section has at a name, or nil.
func zoneIn(section []dns.RR, name string) *zone {
	z := &zone{name: name}
	for _, rr := range section {
		ns, ok := rr.(*dns.NS)
		if ok && dns.CanonicalName(ns.Hdr.Name) == name && len(z.servers) < maxNameServers {
			z.servers = append(z.servers, dns.CanonicalName(ns.Ns))
		}
	}
	if len(z.servers) == 0 {
		return nil
	}
	return z
}

// parent is the name without its first label; the parent of a top-level domain is ".".
func parent(name string) string {
	next, end := dns.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[next:]
}

// askZone asks the servers of the name's zone until one answers authoritatively, and goes
// where they delegate the name.
func (l *lookup) askZone(ctx context.Context, name string, typ Type) (reply, error) {
	z, err := l.findZone(ctx, name)
	if err != nil {
		return reply{}, err
	}
	for range maxDelegations {
		r, err := l.askAny(ctx, z, name, typ)
		if err != nil || r.delegated == nil {
			return r, err
		}
		z = r.delegated
	}
	return reply{}, fmt.Errorf("%s is behind more than %d delegations", plain(name), maxDelegations)
}

// askAny asks a zone's servers one after the other until one answers or delegates.
func (l *lookup) askAny(ctx context.Context, z *zone, name string, typ Type) (reply, error) {
	var faults []string
	for _, host := range z.servers {
		addresses, err := l.addresses(ctx, host)
		if err != nil {
			faults = append(faults, err.Error())
		}
		for _, address := range addresses {
			r, err := l.ask(ctx, nameServer{host: host, address: address}, z, name, typ)
			if err == nil {
				return r, nil
			}
			faults = append(faults, err.Error())
		}
	}
	if more := len(faults) - maxReasons; more > 0 {
		faults = append(faults[:maxReasons], fmt.Sprintf("and %d more", more))
	}
	return reply{}, fmt.Errorf("no authoritative server of %s answers: %s", plain(z.name), strings.Join(faults, ", "))
}

// ask asks one server of a zone. Its error is for what is neither an authoritative answer
// nor a delegation of the name.
func (l *lookup) ask(ctx context.Context, s nameServer, z *zone, name string, typ Type) (reply, error) {
	r := reply{server: s.String(), zone: z}
	m, err := l.query(ctx, netip.AddrPortFrom(s.address, l.options.Port).String(), name, dns.StringToType[string(typ)], false)
	switch {
	case err != nil:
		return r, fmt.Errorf("%s: %w", s, err)
	case !isDefinite(m):
		return r, fmt.Errorf("%s answers %s", s, rcode(m))
	case m.Authoritative:
		r.message = m
		return r, nil
	}
	for at := name; at != z.name && dns.IsSubDomain(z.name, at); at = parent(at) {
		if r.delegated = zoneIn(m.Ns, at); r.delegated != nil {
			return r, nil
		}
	}
	return r, fmt.Errorf("%s does not have the zone %s (lame delegation)", s, plain(z.name))
}

// addresses are the addresses of a name server that may be asked, IPv4 first. Its error says
// why there is none.
func (l *lookup) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	var out []netip.Addr
	var failed error
	for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA} {
		m, _, err := l.askRecursive(ctx, host, typ)
		if err != nil {
			failed = err
			continue
		}
		for _, rr := range m.Answer {
			address, ok := addressIn(rr)
			if !ok {
				continue
			}
			if err := safehttp.CheckAddr(address, l.options.AllowedNetworks); err != nil {
				failed = err
				continue
			}
			out = append(out, address)
		}
	}
	if len(out) > 0 {
		return out[:min(len(out), maxAddresses)], nil
	}
	if failed == nil {
		failed = errors.New("the recursive server has no address of it")
	}
	return nil, fmt.Errorf("%s: %w", plain(host), failed)
}

func addressIn(rr dns.RR) (address netip.Addr, ok bool) {
	switch rr := rr.(type) {
	case *dns.A:
		address, ok = netip.AddrFromSlice(rr.A)
	case *dns.AAAA:
		address, ok = netip.AddrFromSlice(rr.AAAA)
	}
	return address.Unmap(), ok
}

// askRecursive asks the recursive servers in turn, each at most twice, until one gives a
// definite answer. If none does, it returns a message with another code, if there is one.
func (l *lookup) askRecursive(ctx context.Context, name string, typ uint16) (m *dns.Msg, server string, err error) {
	for _, server := range slices.Repeat(l.recursive, 2) {
		answer, fault := l.query(ctx, server, name, typ, true)
		switch {
		case fault != nil:
			// The reason may reach customers, whom the operator's addresses do not concern.
			err = fmt.Errorf("the recursive server: %w", fault)
		case isDefinite(answer):
			return answer, server, nil
		default:
			m = answer
		}
	}
	if m != nil {
		return m, "", nil
	}
	return nil, "", err
}
