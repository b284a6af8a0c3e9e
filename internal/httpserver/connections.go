package httpserver

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/postrider/postrider/email"
)

// MaxConnections is the default limit of open connections.
const MaxConnections = 4096

// minPerIP is how many connections an address may have while few are free.
const minPerIP = 4

// ConnectionBytes is the most memory of a connection with the largest header, in bytes.
const ConnectionBytes = 48 << 10

// LimitConnections returns a listener that limits the open connections of l to maximum, and those
// of each IPv4 address or IPv6 /64 to perIP; 0 is no limit per address. A connection over the
// maximum waits to be accepted until another one ends. One over the limit of its address is
// answered 429 and closed.
//
// The limit of an address shrinks to half of the free connections, so that a few addresses cannot
// use up all. It does not shrink below minPerIP, so that a client with a pool of connections can go
// on. The addresses of an IPv6 /48, which one household or server may
// have, may have four times perIP together. Connections of proxies carry the requests of many
// clients, so they count towards maximum only.
//
// While more than half of maximum are open, connections that wait for their clients are closed,
// except those of proxies; see evictor for the order. A request header of more than maxHeaderLines
// lines ends its connection.
func LimitConnections(l net.Listener, maximum, perIP int, proxies []netip.Prefix) net.Listener {
	counted := &perIPListener{Listener: l, max: maximum, perIP: perIP, proxies: proxies, open: map[string]int{}}
	return trackedListener{netutil.LimitListener(counted, maximum), newEvictor(maximum), counted.isProxy}
}

type perIPListener struct {
	net.Listener
	max, perIP int
	proxies    []netip.Prefix

	mu    sync.Mutex
	total int
	open  map[string]int
}

// tooManyConnections is a whole HTTP response, a problem as the API's (RFC 9457) without a
// request_id.
var tooManyConnections = func() string {
	const body = `{"type":"about:blank","title":"Too Many Requests","status":429,"code":"` + string(email.CodeTooMany) +
		`","detail":"too many connections from this address; use fewer at once"}` + "\n"
	return "HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nRetry-After: 5\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n" +
		"Content-Type: application/problem+json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}()

// refusalTimeout limits writing the refusal. A new connection's send buffer has room for it.
const refusalTimeout = time.Second

func (l *perIPListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		keys := l.keys(conn.RemoteAddr())
		if l.add(keys) {
			return &countedConn{Conn: conn, release: func() { l.remove(keys) }}, nil
		}
		if err := conn.SetWriteDeadline(time.Now().Add(refusalTimeout)); err == nil {
			_, _ = io.WriteString(conn, tooManyConnections) // the connection is closed in any case
		}
		_ = conn.Close() // nothing more is sent or received
	}
}

// perSite is how many times perIP the addresses of an IPv6 /48 may have together.
const perSite = 4

// keys returns what a connection counts towards: its address or /64, and its IPv6 /48. It is empty
// if the connection counts towards the maximum only.
func (l *perIPListener) keys(addr net.Addr) []string {
	peer, err := netip.ParseAddrPort(addr.String())
	if err != nil || l.perIP == 0 || l.isProxy(addr) {
		return nil
	}
	ip := peer.Addr().Unmap().WithZone("")
	keys := []string{ClientNetwork(ip.String())}
	if site, err := ip.Prefix(48); err == nil && ip.Is6() {
		keys = append(keys, site.String())
	}
	return keys
}

// siteOf returns the IPv4 address or the IPv6 /48 of a client.
func siteOf(addr net.Addr) string {
	peer, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return addr.String()
	}
	ip := peer.Addr().Unmap().WithZone("")
	if site, err := ip.Prefix(48); err == nil && ip.Is6() {
		return site.String()
	}
	return ip.String()
}

func (l *perIPListener) isProxy(addr net.Addr) bool {
	peer, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return false
	}
	ip := peer.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(l.proxies, func(p netip.Prefix) bool { return p.Contains(ip) })
}

func (l *perIPListener) add(keys []string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, key := range keys {
		limit := l.perIP
		if i > 0 {
			limit *= perSite
		}
		if l.open[key] >= min(limit, max(minPerIP, (l.max-l.total)/2)) {
			return false
		}
	}
	for _, key := range keys {
		l.open[key]++
	}
	l.total++
	return true
}

func (l *perIPListener) remove(keys []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	for _, key := range keys {
		if l.open[key]--; l.open[key] == 0 {
			delete(l.open, key)
		}
	}
}

// countedConn counts towards the limits until it is closed.
type countedConn struct {
	net.Conn
	once    sync.Once
	release func()
}

func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.release)
	return err
}

// NetworkSite returns the site of a network that ClientNetwork has returned: the IPv4 address, or the
// /48 of IPv6, which one household or server may have. It returns anything else unchanged.
func NetworkSite(network string) string {
	if p, err := netip.ParsePrefix(network); err == nil && p.Addr().Is6() {
		if site, err := p.Addr().Prefix(48); err == nil {
			return site.String()
		}
	}
	return network
}

// ClientNetwork returns the network that an address is counted by: an IPv4 address itself, or the
// /64 of an IPv6 address, which one host has as a whole (RFC 6177). It returns anything else
// unchanged.
func ClientNetwork(ip string) string {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return ip
	}
	if a = a.Unmap().WithZone(""); a.Is4() {
		return a.String()
	}
	p, err := a.Prefix(64)
	if err != nil {
		return ip
	}
	return p.String()
}
