package api

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

// MaxConnections bounds the connections of a port. Each takes up to maxHeaderBytes and
// about as much for the server. One more waits until another one ends.
const MaxConnections = 4096

// ConnectionBytes is what a connection takes at most with the largest header, in bytes.
const ConnectionBytes = 48 << 10

// LimitConnections bounds what a listener accepts: MaxConnections in all, and perIP for an
// IPv4 address or an IPv6 /64, where 0 is any number. An address has never more than half
// as many as are free, and at least one, so that a few addresses do not lock the others
// out. Connections of trusted proxies, which carry the requests of many, count in all only.
//
// The addresses of an IPv6 /48, which one household or server may have, have four times
// perIP together. While more than half of MaxConnections are open, those that wait for their
// clients are closed, in the order that idleConnections has, but for proxies'.
//
// One that is too many is answered 429 and closed. A header of more than maxHeaderLines
// lines ends its connection.
func LimitConnections(l net.Listener, perIP int, proxies []netip.Prefix) net.Listener {
	return LimitConnectionsTo(l, MaxConnections, perIP, proxies)
}

// LimitConnectionsTo is LimitConnections with another maximum.
func LimitConnectionsTo(l net.Listener, maximum, perIP int, proxies []netip.Prefix) net.Listener {
	counted := &perIPListener{Listener: l, max: maximum, perIP: perIP, proxies: proxies, open: map[string]int{}}
	return headerLines{netutil.LimitListener(counted, maximum), newIdleConnections(maximum), counted.isProxy}
}

type perIPListener struct {
	net.Listener
	max, perIP int
	proxies    []netip.Prefix

	mu    sync.Mutex
	total int
	open  map[string]int
}

// tooManyConnections has the form of the API's other problems, without a request's id.
var tooManyConnections = func() string {
	const body = `{"type":"about:blank","title":"Too Many Requests","status":429,"code":"` + string(email.CodeTooMany) +
		`","detail":"too many connections from this address; use fewer at once"}` + "\n"
	return "HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nRetry-After: 5\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n" +
		"Content-Type: application/problem+json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}()

// refusalTimeout is how long the refusal may take, which a new connection's buffer holds.
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
			_, _ = io.WriteString(conn, tooManyConnections) // it is refused all the same
		}
		_ = conn.Close() // nothing was to come
	}
}

// perSite is how many times perIP the addresses of an IPv6 /48 have together.
const perSite = 4

// keys are what a connection is counted by: its address or /64, and its /48 of IPv6; none
// for one that is not.
func (l *perIPListener) keys(addr net.Addr) []string {
	peer, err := netip.ParseAddrPort(addr.String())
	if err != nil || l.perIP == 0 || l.isProxy(addr) {
		return nil
	}
	ip := peer.Addr().Unmap().WithZone("")
	keys := []string{networkOf(ip.String())}
	if site, err := ip.Prefix(48); err == nil && ip.Is6() {
		keys = append(keys, site.String())
	}
	return keys
}

// siteOf is what a connection is counted by where the connections of an address or of a site of
// IPv6, a /48, are compared with others'.
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
		if l.open[key] >= min(limit, max(1, (l.max-l.total)/2)) {
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

// countedConn is counted until it is closed.
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
