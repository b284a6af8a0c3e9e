package inbound

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// connections counts who is connected, in all and by address, and turns away
// who is one too many.
type connections struct {
	max, maxPerIP int
	timeout       time.Duration
	session       time.Duration

	mu       sync.Mutex
	open     map[*conn]struct{}
	perKey   map[string]int
	stopping bool
}

func newConnections(cfg Config) *connections {
	return &connections{
		max: cfg.MaxConnections, maxPerIP: cfg.MaxConnectionsPerIP, timeout: cfg.ReadTimeout, session: cfg.SessionTimeout,
		open: map[*conn]struct{}{}, perKey: map[string]int{},
	}
}

// admit returns the connection to serve, or the reply that turns it away.
func (s *connections) admit(nc net.Conn) (*conn, string) {
	c := &conn{
		Conn: nc, owner: s, key: countKey(nc.RemoteAddr()),
		readTimeout: s.timeout, endsAt: time.Now().Add(s.session),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopping:
		return nil, replyStopping
	case len(s.open) >= s.max:
		return nil, fmt.Sprintf("421 4.3.2 Too many connections, limit %d\r\n", s.max)
	case s.perKey[c.key] >= s.maxPerIP:
		return nil, fmt.Sprintf("421 4.7.0 Too many connections from your address, limit %d\r\n", s.maxPerIP)
	}
	s.open[c] = struct{}{}
	s.perKey[c.key]++
	return c, ""
}

func (s *connections) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.open[c]; !ok {
		return
	}
	delete(s.open, c)
	if s.perKey[c.key]--; s.perKey[c.key] == 0 {
		delete(s.perKey, c.key)
	}
}

func (s *connections) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

func (s *connections) snapshot() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*conn, 0, len(s.open))
	for c := range s.open {
		list = append(list, c)
	}
	return list
}

// stop ends the waiting for commands. The mark comes before the waking: a
// connection woken without it would answer as if the client had been idle.
func (s *connections) stop() {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	for _, c := range s.snapshot() {
		c.interrupt()
	}
}

// cutAll resets what is still open and says how many that were.
func (s *connections) cutAll() int {
	list := s.snapshot()
	for _, c := range list {
		_ = c.cut() // it is given up, whatever its last error
	}
	return len(list)
}

// countKey is the address that connections are counted by: the IPv4 address,
// or the /64 of an IPv6 one, which is what one customer of a provider has.
func countKey(addr net.Addr) string {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return addr.String()
	}
	ip := ap.Addr().Unmap()
	if ip.Is4() {
		return ip.String()
	}
	prefix, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return ip.String()
	}
	return prefix.String()
}

// listener hands out admitted connections only.
type listener struct {
	net.Listener
	conns *connections
	once  sync.Once
	err   error
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c, refusal := l.conns.admit(nc)
		if c != nil {
			return c, nil
		}
		// A fresh connection takes one line without blocking; if not, it is refused all the same.
		if err := nc.SetWriteDeadline(time.Now().Add(lastWordTimeout)); err == nil {
			_, _ = io.WriteString(nc, refusal)
		}
		_ = nc.Close()
	}
}

// Close can be called again: go-smtp closes its listener a second time.
func (l *listener) Close() error {
	l.once.Do(func() { l.err = l.Listener.Close() })
	return l.err
}
