package relay

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strings"
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
	return worker(t, l, clock, nil, greetsWithin), l, clock
}

// worker is a worker's relays: one behind that listener, which has so long to greet.
func worker(t *testing.T, l *processes, clock *fakeClock, b Board, greeting time.Duration) *Relays {
	t.Helper()
	rs := New(parse(t, "smtp://"+l.Addr().String()+"?tls=none&name=primary"), Options{
		Timeouts: smtp.Timeouts{Greeting: greeting, Silence: time.Hour}, Now: clock.now, ProbeEvery: 30 * time.Second, Board: b})
	t.Cleanup(rs.Close)
	return rs
}

// patient is the time for a greeting where a test must not wait for one that does not come.
const patient = time.Hour

// inTime is a context whose end says that something does not happen.
func inTime(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// waits asks for a session in the background, and returns when it waits for one.
func waits(t *testing.T, rs *Relays, route delivery.Route) <-chan *Session {
	t.Helper()
	p, got, ctx := rs.pools[0], make(chan *Session, 1), inTime(t)
	before := p.waiting()
	go func() {
		s, err := rs.Session(ctx, route)
		if err != nil {
			t.Error(err)
		}
		got <- s
	}()
	require.Eventually(t, func() bool { return p.waiting() > before }, 20*time.Second, time.Millisecond)
	return got
}

// waiting is how many callers wait.
func (p *pool) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.callers)
}

// greeted reports whether another client of the relay, whose connection waits, is greeted.
func greeted(t *testing.T, other net.Conn) bool {
	t.Helper()
	require.NoError(t, other.SetReadDeadline(time.Now().Add(20*time.Second)))
	line, err := bufio.NewReader(other).ReadString('\n')
	return err == nil && strings.HasPrefix(line, "220")
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

// TestMailTakesTheSessionThatIsFreeFirst: it does not wait for a greeting while other mail gives a
// session back. The new connection is not broken off: it is kept for other mail.
func TestMailTakesTheSessionThatIsFreeFirst(t *testing.T) {
	t.Parallel()
	l := newProcesses(t, 1)
	peer := (&smtptest.Peer{}).Serve(t, l)
	rs := worker(t, l, &fakeClock{at: time.Unix(1000, 0)}, nil, patient)
	first := session(t, rs)
	<-l.arrived
	got := waits(t, rs, delivery.Route{})
	<-l.arrived
	delivers(t, first)
	first.Close()
	second := <-got
	require.Same(t, first, second)
	second.conn.Quit() // the relay has a process for the new connection
	second.Close()
	third, err := rs.Session(inTime(t), delivery.Route{})
	require.NoError(t, err)
	delivers(t, third)
	third.Close()
	require.Empty(t, l.arrived, "two connections in all")
	require.Equal(t, 2, peer.Dialed())
}

// TestTransactionalMailIsNextWhereBroadcastMailGivesASessionBack, although other broadcast mail came first.
func TestTransactionalMailIsNextWhereBroadcastMailGivesASessionBack(t *testing.T) {
	t.Parallel()
	l := newProcesses(t, 1)
	(&smtptest.Peer{}).Serve(t, l)
	rs := worker(t, l, &fakeClock{at: time.Unix(1000, 0)}, nil, patient)
	newsletter := delivery.Route{Stream: email.StreamBroadcast}
	held, err := rs.Session(t.Context(), newsletter)
	require.NoError(t, err)
	broadcast := waits(t, rs, newsletter)
	transactional := waits(t, rs, delivery.Route{Stream: email.StreamTransactional})
	held.Close()
	s := <-transactional
	require.Empty(t, broadcast)
	more := waits(t, rs, delivery.Route{Stream: email.StreamTransactional})
	s.Close()
	s = <-broadcast
	require.Empty(t, more, "and broadcast mail has its turn")
	s.Close()
	(<-more).Close()
}

// TestNoMoreConnectionsThanAllowed: mail that gives up leaves its dial, which counts.
func TestNoMoreConnectionsThanAllowed(t *testing.T) {
	t.Parallel()
	l := newProcesses(t, 0)
	(&smtptest.Peer{}).Serve(t, l)
	rs := worker(t, l, &fakeClock{at: time.Unix(1000, 0)}, nil, patient)
	p := rs.pools[0]
	p.limit, p.relay.MaxConns = 3, 3
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		for range 6 {
			go func() {
				_, err := rs.Session(ctx, delivery.Route{})
				ended <- err
			}()
		}
		require.Eventually(t, func() bool { return p.waiting() == 6 }, 20*time.Second, time.Millisecond)
		cancel()
		for range 6 {
			require.ErrorIs(t, <-ended, context.Canceled)
		}
	}
	for range 3 {
		<-l.arrived
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Equal(t, 3, p.dialing)
	require.Empty(t, l.arrived)
}

// TestASessionIsNotLostWithACallerThatGivesUp at the time at which it gets the session.
func TestASessionIsNotLostWithACallerThatGivesUp(t *testing.T) {
	t.Parallel()
	l := newProcesses(t, 1)
	(&smtptest.Peer{}).Serve(t, l)
	rs := worker(t, l, &fakeClock{at: time.Unix(1000, 0)}, nil, patient)
	p := rs.pools[0]
	p.limit, p.relay.MaxConns = 1, 1
	for n := range 50 {
		s, err := rs.Session(inTime(t), delivery.Route{})
		require.NoError(t, err, n)
		ctx, cancel := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		for range 3 {
			callers.Go(func() {
				if s, err := rs.Session(ctx, delivery.Route{}); err == nil {
					s.Close()
				}
			})
		}
		require.Eventually(t, func() bool { return p.waiting() == 3 }, 20*time.Second, time.Millisecond)
		freeSlot := s.freeSlot
		p.mu.Lock()
		cancel() // the callers see it before they can leave the queue
		p.putBack(s)
		p.mu.Unlock()
		freeSlot()
		callers.Wait()
	}
	require.Equal(t, 1, p.sessions)
	require.Len(t, p.idle, 1)
	require.Empty(t, p.slots)
}

// TestARelayThatTookNoMoreConnectionsIsAskedForFew: for ten minutes there are no more than it took, and
// one more is tried each minute.
func TestARelayThatTookNoMoreConnectionsIsAskedForFew(t *testing.T) {
	t.Parallel()
	rs, l, clock := ofProcesses(t, 2, &smtptest.Peer{})
	p := rs.pools[0]
	one, two := session(t, rs), session(t, rs)
	<-l.arrived
	<-l.arrived
	state := func() (limit, dialing int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.limit, p.dialing
	}
	// learns makes the relay take no more connections, while mail waits.
	learns := func(got <-chan *Session) {
		delivers(t, one)
		require.Eventually(t, func() bool { _, dialing := state(); return dialing == 0 }, 20*time.Second, time.Millisecond)
		one.Close()
		one = <-got
	}
	got := waits(t, rs, delivery.Route{})
	<-l.arrived
	learns(got)
	limit, _ := state()
	require.Equal(t, 2, limit)

	first, second := waits(t, rs, delivery.Route{}), waits(t, rs, delivery.Route{})
	_, dialing := state()
	require.Zero(t, dialing, "they wait for the sessions that there are")
	p.mu.Lock()
	p.moreAt = clock.now()
	p.mu.Unlock()
	third := waits(t, rs, delivery.Route{})
	<-l.arrived
	_, dialing = state()
	require.Equal(t, 1, dialing, "three wait, and one connection is tried")
	learns(first)
	delivers(t, two)
	two.Close()
	two = <-second
	two.Close()
	two = <-third
	require.Empty(t, l.arrived)
	limit, _ = state()
	require.Equal(t, 2, limit)

	clock.move(fewFor)
	first = waits(t, rs, delivery.Route{})
	<-l.arrived
	two.Close()
	(<-first).Close()
	one.Close()
}

// TestOneMoreConnectionIsAllowedWhereOneMoreWasGreeted.
func TestOneMoreConnectionIsAllowedWhereOneMoreWasGreeted(t *testing.T) {
	t.Parallel()
	l := newProcesses(t, 2)
	(&smtptest.Peer{}).Serve(t, l)
	clock := &fakeClock{at: time.Unix(1000, 0)}
	rs := worker(t, l, clock, nil, patient)
	p := rs.pools[0]
	first := session(t, rs)
	p.mu.Lock()
	p.limit, p.fewUntil = 1, clock.now().Add(fewFor)
	p.mu.Unlock()
	second := session(t, rs)
	require.Equal(t, 2, p.limit)
	first.Close()
	second.Close()
}

// TestIdleSessionsMakeRoomForAConnectionThatWaits: an own connection that waits for a greeting for long
// shows that other processes' connections may wait too.
func TestIdleSessionsMakeRoomForAConnectionThatWaits(t *testing.T) {
	t.Parallel()
	rs, l, _ := ofProcesses(t, 1, &smtptest.Peer{})
	s := session(t, rs)
	<-l.arrived
	got := waits(t, rs, delivery.Route{})
	<-l.arrived
	other, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = other.Close() })
	<-l.arrived
	s.Close()
	(<-got).Close()
	require.True(t, greeted(t, other), "neither the idle session nor the new one keeps it out")
	require.Equal(t, map[string]bool{"primary": true}, rs.Up())
}

// TestAWorkerWithoutAConnectionGetsOne: the others learn from the board that it was not greeted, and close
// the sessions that no mail uses. It tries again when they say that the relay works.
func TestAWorkerWithoutAConnectionGetsOne(t *testing.T) {
	t.Parallel()
	l := newProcesses(t, 1)
	(&smtptest.Peer{}).Serve(t, l)
	clock, b := &fakeClock{at: time.Unix(1000, 0)}, &board{}
	one, two := worker(t, l, clock, b, patient), worker(t, l, clock, b, greetsWithin)
	require.NoError(t, one.sync(t.Context()))
	require.NoError(t, two.sync(t.Context()))
	s := session(t, one)
	delivers(t, s)
	s.Close()
	for range 3 {
		two.pools[0].breaker.retryNow(clock.now())
		_, err := two.Session(t.Context(), delivery.Route{})
		require.ErrorContains(t, err, "no greeting within 1s")
	}
	require.NoError(t, one.sync(t.Context()))
	require.Zero(t, b.state.Failures)
	require.NoError(t, two.sync(t.Context()))
	require.Nil(t, two.Down(delivery.Route{}), "it need not wait")
	require.Equal(t, 1, two.pools[0].breaker.failures, "its next wait is short")
	two.pools[0].opts.Timeouts.Greeting = patient
	s, err := two.Session(inTime(t), delivery.Route{})
	require.NoError(t, err)
	delivers(t, s)
	s.Close()

	// Now and for some time, mail takes its session along.
	require.NoError(t, two.sync(t.Context()))
	two.Close()
	s, err = one.Session(inTime(t), delivery.Route{})
	require.NoError(t, err)
	other, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = other.Close() })
	s.Close()
	require.True(t, greeted(t, other))
}

// TestASessionInConstantUseMakesRoom, after 20 messages or 5 s.
func TestASessionInConstantUseMakesRoom(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"messages", "time"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			l := newProcesses(t, 1)
			(&smtptest.Peer{}).Serve(t, l)
			clock := &fakeClock{at: time.Unix(1000, 0)}
			rs := worker(t, l, clock, nil, patient)
			p := rs.pools[0]
			p.makeRoom(true, false)
			s := session(t, rs)
			<-l.arrived
			other, err := net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			t.Cleanup(func() { _ = other.Close() })
			<-l.arrived
			var got <-chan *Session
			used := s
			for n := range roomMessages {
				delivers(t, s)
				got = waits(t, rs, delivery.Route{})
				if by == "time" && n == 3 {
					clock.move(roomAfter)
					s.Close()
					break
				}
				s.Close()
				if n < roomMessages-1 {
					s = <-got
					require.Same(t, used, s)
				}
			}
			require.True(t, greeted(t, other))
			require.NoError(t, other.Close())
			s = <-got
			require.NotSame(t, used, s)
			delivers(t, s)
			s.Close()
		})
	}
}

// TestTheFirstConnectionsMayBeTooMany: the relay has not greeted this process when they are dialled, and
// is up all the same.
func TestTheFirstConnectionsMayBeTooMany(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	rs, l, _ := ofProcesses(t, 1, &smtptest.Peer{Answer: func(line string) string {
		if strings.HasPrefix(line, "EHLO") {
			<-arrived
		}
		return ""
	}})
	p, got := rs.pools[0], make(chan *Session, 3)
	for range 3 {
		go func() {
			s, err := rs.Session(inTime(t), delivery.Route{})
			if err != nil {
				t.Error(err)
			}
			got <- s
		}()
	}
	for range 3 {
		<-l.arrived
	}
	close(arrived)
	s := <-got
	require.Eventually(t, func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.dialing == 0 }, 20*time.Second, time.Millisecond)
	require.Equal(t, map[string]bool{"primary": true}, rs.Up())
	for range 2 {
		delivers(t, s)
		s.Close()
		s = <-got
	}
	s.Close()
	require.Empty(t, l.arrived)
}
