package relay

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/smtp"
	"github.com/postrider/postrider/internal/smtptest"
)

// counting is a listener of a server that refuses the connections beyond a number.
type counting struct {
	net.Listener
	most atomic.Int64
	open atomic.Int64
	// atEHLO: it refuses them at EHLO.
	atEHLO bool
	// refused gets a value for each.
	refused chan struct{}
}

func newCounting(t *testing.T, most int64) *counting {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &counting{Listener: l, refused: make(chan struct{}, 1000)}
	c.most.Store(most)
	return c
}

func (c *counting) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c.open.Add(1) <= c.most.Load() {
			return &served{Conn: conn, leave: sync.OnceFunc(func() { c.open.Add(-1) })}, nil
		}
		c.open.Add(-1)
		if c.atEHLO {
			_, _ = io.WriteString(conn, "220 peer.test\r\n") // who does not read it is gone
			_, _ = bufio.NewReader(conn).ReadString('\n')
		}
		_, _ = io.WriteString(conn, "421 4.7.0 peer.test Error: too many connections from 127.0.0.1\r\n")
		_ = conn.Close()
		c.refused <- struct{}{}
	}
}

func ofCounting(t *testing.T, l *counting, clock *fakeClock, b Board) *Relays {
	t.Helper()
	rs := New(parse(t, "smtp://"+l.Addr().String()+"?tls=none&name=primary"), Options{
		Timeouts: smtp.Timeouts{Greeting: patient, Silence: time.Hour}, Now: clock.now, ProbeEvery: 30 * time.Second, Board: b})
	t.Cleanup(rs.Close)
	return rs
}

// TestARelayThatRefusesMoreConnectionsIsUp: mail goes over the connections that it takes, and one
// more is tried each minute.
func TestARelayThatRefusesMoreConnectionsIsUp(t *testing.T) {
	t.Parallel()
	for _, atEHLO := range []bool{false, true} {
		t.Run(fmt.Sprint("at EHLO: ", atEHLO), func(t *testing.T) {
			t.Parallel()
			l, clock := newCounting(t, 2), &fakeClock{at: time.Unix(1000, 0)}
			l.atEHLO = atEHLO
			(&smtptest.Peer{}).Serve(t, l)
			rs := ofCounting(t, l, clock, nil)
			p := rs.pools[0]
			one, two := session(t, rs), session(t, rs)
			first := waits(t, rs, delivery.Route{})
			<-l.refused
			require.Eventually(t, func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.dialing == 0 }, 20*time.Second, time.Millisecond)
			second := waits(t, rs, delivery.Route{})
			delivers(t, one)
			one.Close()
			one = <-first
			delivers(t, two)
			two.Close()
			two = <-second
			require.Equal(t, map[string]bool{"primary": true}, rs.Up())
			require.Equal(t, 2, p.limit)
			require.Empty(t, l.refused, "one was tried")

			clock.move(tryMoreEvery - time.Second)
			delivers(t, one)
			clock.move(time.Second)
			first = waits(t, rs, delivery.Route{})
			<-l.refused
			one.Close()
			two.Close()
			(<-first).Close()
			require.Equal(t, map[string]bool{"primary": true}, rs.Up())
		})
	}
}

// TestTheFirstConnectionsMayBeRefused before the relay has greeted the others.
func TestTheFirstConnectionsMayBeRefused(t *testing.T) {
	t.Parallel()
	l, clock := newCounting(t, 1), &fakeClock{at: time.Unix(1000, 0)}
	greets := make(chan struct{})
	(&smtptest.Peer{Answer: func(line string) string {
		if strings.HasPrefix(line, "EHLO") {
			<-greets
		}
		return ""
	}}).Serve(t, l)
	rs := ofCounting(t, l, clock, nil)
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
	<-l.refused
	require.Eventually(t, func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.dialing == 1 }, 20*time.Second, time.Millisecond)
	close(greets)
	for range 3 {
		s := <-got
		delivers(t, s)
		s.Close()
	}
	require.Equal(t, map[string]bool{"primary": true}, rs.Up())
}

// TestARelayThatRefusesAllConnectionsIsDown.
func TestARelayThatRefusesAllConnectionsIsDown(t *testing.T) {
	t.Parallel()
	l, clock := newCounting(t, 0), &fakeClock{at: time.Unix(1000, 0)}
	(&smtptest.Peer{}).Serve(t, l)
	rs := ofCounting(t, l, clock, nil)
	fails := func() {
		got := make(chan error, 3)
		for range 3 {
			go func() {
				_, err := rs.Session(inTime(t), delivery.Route{})
				got <- err
			}()
		}
		for range 3 {
			require.ErrorContains(t, <-got, "421 4.7.0")
		}
		require.Equal(t, map[string]bool{"primary": false}, rs.Up())
	}
	fails()
	l.most.Store(1)
	clock.move(firstBackoff)
	s := session(t, rs)
	delivers(t, s)
	s.conn.Close()
	l.most.Store(0)
	s.Close()
	clock.move(stillCounted)
	fails()
}

// TestARelayMayCountAConnectionThatIsClosed: one that is refused right after it is tried once more.
func TestARelayMayCountAConnectionThatIsClosed(t *testing.T) {
	t.Parallel()
	l, clock := newCounting(t, 1), &fakeClock{at: time.Unix(1000, 0)}
	(&smtptest.Peer{}).Serve(t, l)
	rs := ofCounting(t, l, clock, nil)
	s := session(t, rs)
	delivers(t, s)
	l.most.Store(0)
	s.conn.Quit()
	s.Close()
	got := waits(t, rs, delivery.Route{})
	<-l.refused
	l.most.Store(1)
	s = <-got
	delivers(t, s)
	s.Close()
	require.Equal(t, map[string]bool{"primary": true}, rs.Up())
}

// TestAWorkerWhoseConnectionsAreRefusedGetsOne: the others learn it from the board, and have one
// connection less.
func TestAWorkerWhoseConnectionsAreRefusedGetsOne(t *testing.T) {
	t.Parallel()
	for _, most := range []int64{1, 2} {
		for _, idle := range []bool{most == 1, true} { // mail keeps a single one while it needs it
			t.Run(fmt.Sprint(most, " connections, idle: ", idle), func(t *testing.T) {
				t.Parallel()
				l, clock, b := newCounting(t, most), &fakeClock{at: time.Unix(1000, 0)}, &board{}
				(&smtptest.Peer{}).Serve(t, l)
				one, two := ofCounting(t, l, clock, b), ofCounting(t, l, clock, b)
				require.NoError(t, one.sync(t.Context()))
				require.NoError(t, two.sync(t.Context()))
				var open []*Session
				for range most {
					open = append(open, session(t, one))
				}
				for range 3 {
					two.pools[0].breaker.retryNow(clock.now())
					_, err := two.Session(t.Context(), delivery.Route{})
					require.ErrorContains(t, err, "421 4.7.0")
				}
				delivers(t, open[0])
				if idle {
					for _, s := range open {
						s.Close()
					}
				}
				require.NoError(t, one.sync(t.Context()))
				require.Zero(t, b.state.Failures)
				require.NoError(t, two.sync(t.Context()))
				require.Nil(t, two.Down(delivery.Route{}), "it need not wait")
				require.Equal(t, 1, two.pools[0].breaker.failures, "its next wait is short")
				p := one.pools[0]
				if !idle {
					first := waits(t, one, delivery.Route{})
					open[0].Close()
					require.Eventually(t, func() bool { return l.open.Load() < most }, 20*time.Second, time.Millisecond, "mail that waits does not get it")
					require.Empty(t, first)
					open[1].Close()
					s := <-first
					delivers(t, s)
					s.Close()
				}
				require.Eventually(t, func() bool { return l.open.Load() < most }, 20*time.Second, time.Millisecond, "it leaves one")
				s, err := two.Session(inTime(t), delivery.Route{})
				require.NoError(t, err)
				delivers(t, s)
				s.Close()
				require.True(t, p.breaker.up())
			})
		}
	}
}

// asks takes a session for an e-mail, and gives it back.
func asks(t *testing.T, rs *Relays, route delivery.Route) {
	t.Helper()
	s, err := rs.Session(inTime(t), route)
	require.NoError(t, err)
	s.Close()
}

// TestMailThatTheRelayHasRefusedTakesANewConnection: on an older one the server may have settings
// that are not its own any more. Such mail of one second shares it, and a relay that takes no more
// gets it all the same.
func TestMailThatTheRelayHasRefusedTakesANewConnection(t *testing.T) {
	t.Parallel()
	for name, route := range map[string]delivery.Route{"by this process": {For: "bad"}, "by another": {For: "other", Avoid: "primary"}, "a batch": {ForBatch: "batch", Avoid: "primary"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, clock := newCounting(t, 10), &fakeClock{at: time.Unix(1000, 0)}
			peer := (&smtptest.Peer{}).Serve(t, l)
			rs := ofCounting(t, l, clock, nil)
			p := rs.pools[0]
			p.guard.noteFault(clock.now(), "bad", nil)
			asks(t, rs, delivery.Route{For: "good"})
			clock.move(firstBackoff)
			asks(t, rs, delivery.Route{For: "good"})
			require.Equal(t, 1, peer.Dialed())
			asks(t, rs, route)
			require.Equal(t, 2, peer.Dialed())
			asks(t, rs, route)
			asks(t, rs, delivery.Route{For: "good"})
			require.Equal(t, 2, peer.Dialed())
			clock.move(firstBackoff)
			asks(t, rs, route)
			require.Equal(t, 3, peer.Dialed())
			require.Eventually(t, func() bool { return peer.Open() == 1 }, 20*time.Second, time.Millisecond, "it replaces the older one")

			p.limit, p.relay.MaxConns = 1, 1
			clock.move(firstBackoff)
			asks(t, rs, route)
			require.Equal(t, 4, peer.Dialed())

			p.limit, p.relay.MaxConns = 10, 10
			one, two := session(t, rs), session(t, rs)
			clock.move(firstBackoff)
			delivers(t, one)
			l.most.Store(1) // two is in use, and has the only place
			one.Close()
			asked := waits(t, rs, route)
			<-l.refused
			two.Close()
			(<-asked).Close()
			require.Equal(t, map[string]bool{"primary": true}, rs.Up())
		})
	}
}

// TestAProbeTakesASessionWhereTheRelayTakesNoMore: the relay is down for what it refused, and other
// mail has all the connections that it takes. That it takes no more says nothing about what it
// refused.
func TestAProbeTakesASessionWhereTheRelayTakesNoMore(t *testing.T) {
	t.Parallel()
	l, clock := newCounting(t, 2), &fakeClock{at: time.Unix(1000, 0)}
	(&smtptest.Peer{}).Serve(t, l)
	rs := ofCounting(t, l, clock, nil)
	p := rs.pools[0]
	one, two := session(t, rs), session(t, rs)
	delivers(t, one)
	p.breaker.failed(clock.now(), &delivery.RelayError{Relay: p.relay.Identity(), Err: errors.New("it refused mail")}, failure{inTransaction: true, perhaps: true})
	got := waits(t, rs, delivery.Route{For: "not refused yet"})
	<-l.refused
	require.Eventually(t, func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.dialing == 0 }, 20*time.Second, time.Millisecond)
	one.Close()
	probe := <-got
	require.True(t, probe.probe)
	require.Equal(t, 1, p.breaker.failures, "it is no other fault")
	delivers(t, probe)
	require.Equal(t, map[string]bool{"primary": true}, rs.Up())
	probe.Close()
	two.Close()
}
