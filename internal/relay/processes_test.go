package relay

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/smtp"
	"github.com/postrider/postrider/internal/smtptest"
)

// processes is a listener of a server with so many processes, each of which serves one connection. A
// connection beyond them is accepted by the kernel, and gets no greeting until a process is free.
type processes struct {
	net.Listener
	free chan struct{}
	// arrived gets a value for each connection.
	arrived chan struct{}
	waiting chan net.Conn
	closed  chan struct{}
}

func newProcesses(t *testing.T, n int) *processes {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &processes{Listener: l, free: make(chan struct{}, n), arrived: make(chan struct{}, 100), waiting: make(chan net.Conn, 100), closed: make(chan struct{})}
	go func() {
		defer close(p.waiting)
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			p.waiting <- conn
			p.arrived <- struct{}{}
		}
	}()
	return p
}

// Accept gives a connection to a process that is free.
func (p *processes) Accept() (net.Conn, error) {
	conn, ok := <-p.waiting
	if !ok {
		return nil, net.ErrClosed
	}
	select {
	case p.free <- struct{}{}:
		return &served{Conn: conn, leave: sync.OnceFunc(func() { <-p.free })}, nil
	case <-p.closed:
		_ = conn.Close() // one that is closed already is what we want
		return nil, net.ErrClosed
	}
}

// Close ends an Accept that waits for a process.
func (p *processes) Close() error {
	close(p.closed)
	return p.Listener.Close()
}

// served is a connection that a process serves.
type served struct {
	net.Conn
	leave func()
}

func (s *served) Close() error {
	defer s.leave()
	return s.Conn.Close()
}

// greetsWithin is how long these tests wait for a greeting that does not come. Connections that are greeted must
// not take as long.
const greetsWithin = time.Second

// ofProcesses is a relay with so many processes.
func ofProcesses(t *testing.T, n int, peer *smtptest.Peer) (*Relays, *processes, *fakeClock) {
	t.Helper()
	l := newProcesses(t, n)
	peer.Serve(t, l)
	clock := &fakeClock{at: time.Unix(1000, 0)}
	rs := New(parse(t, "smtp://"+l.Addr().String()+"?tls=none&name=primary"), Options{
		Timeouts: smtp.Timeouts{Greeting: greetsWithin, Silence: time.Hour}, Now: clock.now, ProbeEvery: 30 * time.Second})
	t.Cleanup(rs.Close)
	return rs, l, clock
}

type fakeClock struct {
	mu sync.Mutex
	at time.Time
}

func (c *fakeClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *fakeClock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func session(t *testing.T, rs *Relays) *Session {
	t.Helper()
	s, err := rs.Session(t.Context(), delivery.Route{})
	require.NoError(t, err)
	return s
}

// delivers sends one message.
func delivers(t *testing.T, s *Session) {
	t.Helper()
	env := delivery.Envelope{ID: "e", From: "a@x.test", Recipients: []delivery.EnvelopeRecipient{{ID: "r", Address: "b@y.test"}}}
	ex := s.Send(t.Context(), env, []byte("\r\n"), func(context.Context, []delivery.Outcome) error { return nil })
	require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status)
}

// TestARelayWithFewerProcessesThanConnectionsIsUp: mail that no process of the relay is free for goes
// over the connections that the relay serves.
func TestARelayWithFewerProcessesThanConnectionsIsUp(t *testing.T) {
	t.Parallel()
	rs, l, _ := ofProcesses(t, 2, &smtptest.Peer{})
	inUse := []*Session{session(t, rs), session(t, rs)}
	for range inUse {
		<-l.arrived
	}
	const more = 4
	got := make(chan error, more)
	for range more {
		go func() {
			s, err := rs.Session(context.WithoutCancel(t.Context()), delivery.Route{})
			if err == nil {
				s.Close()
			}
			got <- err
		}()
	}
	for range more {
		<-l.arrived // it waits for a greeting
	}
	for _, s := range inUse {
		delivers(t, s)
		s.Close()
	}
	for range more {
		require.NoError(t, <-got)
	}
	require.Equal(t, map[string]bool{"primary": true}, rs.Up())
}

// TestAProbeNeedsNoProcessBesideTheIdleConnections: one of a relay that is up asks an idle connection,
// one of a relay that is down closes them first.
func TestAProbeNeedsNoProcessBesideTheIdleConnections(t *testing.T) {
	t.Parallel()
	rs, l, clock := ofProcesses(t, 1, &smtptest.Peer{})
	p := rs.pools[0]
	s := session(t, rs)
	delivers(t, s)
	s.Close()
	<-l.arrived
	clock.move(31 * time.Second)
	p.probe(t.Context())
	require.True(t, p.breaker.up())
	require.Empty(t, l.arrived, "no other connection")
	require.Len(t, p.idle, 1)
	require.Equal(t, clock.now().Add(-31*time.Second), p.idle[0].idleAt, "it is idle for no longer than without a probe")

	p.breaker.failed(clock.now(), &delivery.RelayError{Relay: p.relay.Identity(), Err: errors.New("it refused MAIL FROM")}, failure{})
	clock.move(firstBackoff)
	p.probe(t.Context())
	require.True(t, p.breaker.up())
	<-l.arrived
}

// TestARelayThatAnswersNowhereIsDown: neither new connections are greeted, nor idle ones answered.
// That it greeted before shows that it does not wait for TLS.
func TestARelayThatAnswersNowhereIsDown(t *testing.T) {
	t.Parallel()
	rs, l, clock := ofProcesses(t, 1, &smtptest.Peer{Answer: func(line string) string {
		if line == "NOOP" {
			return smtptest.Drop
		}
		return ""
	}})
	s := session(t, rs)
	<-l.arrived
	other, err := net.Dial("tcp", l.Addr().String()) // has the next process that is free
	require.NoError(t, err)
	t.Cleanup(func() { _ = other.Close() })
	<-l.arrived
	s.Close()
	clock.move(askAfter)
	_, err = rs.Session(t.Context(), delivery.Route{})
	require.ErrorContains(t, err, "no greeting within 1s")
	require.NotContains(t, err.Error(), "TLS")
	require.Equal(t, map[string]bool{"primary": false}, rs.Up())
}
