package safehttp

import (
	"fmt"
	"net/netip"
	"slices"
)

// BlockedError says that a call would have gone to an address it must not
// reach. No byte was sent. Its text leaves the address out: texts end up before
// customers, and what an internal name resolves to is none of their business.
type BlockedError struct {
	// Addr is the address as it was about to be dialled; invalid where it
	// could not even be read.
	Addr netip.Addr
	// Reason names the range, as "loopback" or "metadata".
	Reason string
}

func (e *BlockedError) Error() string {
	return fmt.Sprintf("the address is blocked (%s)", e.Reason)
}

// named is a range and why it is special.
type named struct {
	prefix netip.Prefix
	reason string
}

func ranges(reason string, prefixes ...string) []named {
	out := make([]named, len(prefixes))
	for i, p := range prefixes {
		out[i] = named{netip.MustParsePrefix(p), reason}
	}
	return out
}

// never is blocked even if an operator lists it: addresses at which clouds hand out
// credentials to any client, and addresses that are no host's.
var never = slices.Concat(
	ranges("link-local", "169.254.0.0/16", "fe80::/10"),
	ranges("metadata",
		"100.100.100.200/32", // Alibaba Cloud
		"168.63.129.16/32",   // Azure
		"192.0.0.192/32",     // Oracle Cloud
		"fd00:ec2::/32",      // AWS
		"fd20:ce::254/128",   // Google Cloud
		"fd00:42::42/128",    // Scaleway
	),
	ranges("multicast", "224.0.0.0/4", "ff00::/8"),
	ranges("unspecified", "0.0.0.0/32", "::/128"),
	ranges("broadcast", "255.255.255.255/32"),
)

var loopback = ranges("loopback", "127.0.0.0/8", "::1/128")

// private is blocked unless listed: the special-purpose registries of IANA
// (RFC 6890), but for what never and loopback hold.
var private = slices.Concat(
	ranges("private", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
	ranges("shared address space", "100.64.0.0/10"),
	ranges("this network", "0.0.0.0/8"),
	ranges("protocol assignments", "192.0.0.0/24", "192.88.99.0/24", "2001::/23"),
	ranges("documentation", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
	ranges("benchmarking", "198.18.0.0/15"),
	ranges("reserved", "240.0.0.0/4"),
)

var (
	globalUnicast = netip.MustParsePrefix("2000::/3")
	nat64         = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour     = netip.MustParsePrefix("2002::/16")
	v4Compatible  = netip.MustParsePrefix("::/96")
)

// policy decides on addresses.
type policy struct {
	listed        []netip.Prefix
	allowLoopback bool
}

// check returns a *BlockedError unless addr may be called. viaList says that
// only the operator's list made it so.
func (p policy) check(addr netip.Addr) (viaList bool, err error) {
	if !addr.IsValid() {
		return false, &BlockedError{Addr: addr, Reason: "unreadable"}
	}
	host := embedded(addr)
	if r, ok := find(never, host); ok {
		return false, &BlockedError{Addr: addr, Reason: r}
	}
	local, isLoopback := find(loopback, host)
	if isLoopback && p.allowLoopback {
		return false, nil
	}
	if slices.ContainsFunc(p.listed, func(l netip.Prefix) bool { return l.Contains(host) }) {
		return true, nil
	}
	if isLoopback {
		return false, &BlockedError{Addr: addr, Reason: local}
	}
	if r, ok := find(private, host); ok {
		return false, &BlockedError{Addr: addr, Reason: r}
	}
	if host.Is6() && !globalUnicast.Contains(host) {
		return false, &BlockedError{Addr: addr, Reason: "not global unicast"}
	}
	return false, nil
}

// embedded is the address that a packet to addr ends up at: the IPv4 address
// inside ::ffff:0:0/96 (RFC 4291), ::/96 (the same, deprecated), 64:ff9b::/96
// (NAT64, RFC 6052) and 2002::/16 (6to4, RFC 3056), else addr itself. The zone
// goes, because no prefix contains an address with a zone.
func embedded(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr
	}
	b := addr.As16()
	switch {
	case nat64.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6]))
	case v4Compatible.Contains(addr) && addr != netip.IPv6Unspecified() && addr != netip.IPv6Loopback():
		return netip.AddrFrom4([4]byte(b[12:16]))
	}
	return addr
}

func find(rs []named, addr netip.Addr) (reason string, ok bool) {
	for _, r := range rs {
		if r.prefix.Contains(addr) {
			return r.reason, true
		}
	}
	return "", false
}

// CheckAddr returns a *BlockedError unless packets may go to addr, which a user's data
// named. Public addresses are allowed, and those in the listed networks. Link-local
// addresses, multicast and the metadata services of clouds are blocked even if listed.
func CheckAddr(addr netip.Addr, listed []netip.Prefix) error {
	_, err := policy{listed: listed}.check(addr)
	return err
}
