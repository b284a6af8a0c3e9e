package inbound

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// connections counts the connections, in all and by address, and refuses those beyond the
// limits. The fewer are free, the fewer an address may have, and the shorter a client may
// do nothing. When none is free, a new client has the place of a silent or old session (evict). So
// neither idle nor slow clients lock the others out.
type connections struct {
	max, maxPerIP, maxFaults int
	readTimeout, session     time.Duration
	mail, crowdedMail        time.Duration
	maxLine                  int
	hostname                 string
	maxMessage               int64
	pace                     *pace
	// ctx ends with the server.
	ctx context.Context
	// now is the clock of progress.
	now func() time.Time

	mu       sync.Mutex
	open     map[*conn]struct{}
	perKey   map[string]int
	stopping bool
	// barred are sites (siteOf) that are refused while the port is nearly full, and until when. The
	// next bar removes those that are over once there are pruneAt.
	barred  map[string]time.Time
	pruneAt int
}

func newConnections(ctx context.Context, cfg Config) *connections {
	return &connections{
		ctx: ctx, now: time.Now, pace: newPace(cfg), maxMessage: cfg.MaxMessageBytes,
		max: cfg.MaxConnections, maxPerIP: cfg.MaxConnectionsPerIP, maxFaults: cfg.MaxErrors,
		readTimeout: cfg.ReadTimeout, session: cfg.SessionTimeout, mail: cfg.MailTimeout, crowdedMail: crowdedMailTimeout, maxLine: cfg.MaxLineBytes, hostname: cfg.Hostname,
		open: map[*conn]struct{}{}, perKey: map[string]int{}, barred: map[string]time.Time{},
	}
}

// admit returns the connection to serve, or the reply that turns it away.
func (s *connections) admit(nc net.Conn) (*conn, string) {
	now := time.Now()
	c := &conn{
		Conn: nc, owner: s, key: countKey(nc.RemoteAddr()), maxLine: s.maxLine,
		readTimeout: s.readTimeout, endsAt: now.Add(s.session), idleSince: now,
	}
	c.in, c.rate = bufio.NewReaderSize(network{c}, readBytes), s.pace.connection()
	refusal, crowded, evicted := s.add(c)
	if evicted != nil {
		// It may take no more replies: others do not wait for that.
		go func() { _ = evicted.hangUp(replyEvicted) }() // net.ErrClosed, always
	}
	if refusal != "" {
		return nil, refusal
	}
	if crowded {
		for _, other := range s.snapshot() {
			other.shorten()
		}
	}
	return c, ""
}

// add counts a connection. crowded says that with this one there are so many that
// those who wait for MAIL get less time. If there are no free ones, evicted is the connection whose
// place this one has.
func (s *connections) add(c *conn) (refusal string, crowded bool, evicted *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	free := s.max - len(s.open)
	switch share := s.share(free); {
	case s.stopping:
		return replyStopping, false, nil
	case s.perKey[c.key] >= share:
		return fmt.Sprintf("421 4.7.0 Too many connections from your address, limit %d\r\n", share), false, nil
	case s.nearlyFull() && s.isBarred(c):
		return s.tooMany(), false, nil
	case free <= 0:
		if evicted = s.evict(); evicted == nil {
			return s.tooMany(), false, nil
		}
	}
	c.progress.begun = s.now()
	before := s.crowded()
	s.open[c] = struct{}{}
	s.perKey[c.key]++
	return "", !before && s.crowded(), evicted
}

func (s *connections) tooMany() string {
	return fmt.Sprintf("421 4.3.2 Too many connections, limit %d\r\n", s.max)
}

// nearlyFull: less than a tenth of the places is free. s.mu is held.
func (s *connections) nearlyFull() bool { return s.max-len(s.open) < max(1, s.max/10) }

// share is how many connections an address may have: its limit, but no more than half
// as many as are free, and at least one. So a few addresses cannot take them all: each
// that has its share leaves two thirds of what was free to the others.
func (s *connections) share(free int) int {
	return min(s.maxPerIP, max(1, free/2))
}

// crowdedMailTimeout is the MailTimeout while half of all connections are in use.
const crowdedMailTimeout = 10 * time.Second

// crowded: s.mu is held.
func (s *connections) crowded() bool { return 2*len(s.open) >= s.max }

// mailTimeout is how long a client may be connected without a transaction.
func (s *connections) mailTimeout() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.crowded() {
		return min(s.mail, s.crowdedMail)
	}
	return s.mail
}

// remove no longer counts a connection that has ended. If it stored no message while the port was
// nearly full, its site is barred: sessions that leave before they are old enough for evict, and
// come again, would otherwise keep all places.
func (s *connections) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, counted := s.open[c]; counted && !c.progress.stored && s.nearlyFull() {
		s.bar(c, s.now())
	}
	s.forget(c)
}

// forget no longer counts a connection. s.mu is held.
func (s *connections) forget(c *conn) {
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

func (s *connections) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
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
		_ = c.cut() // it is given up; its last error changes nothing
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
