package smtp

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/email"
)

// Limits of a kept session.
const (
	// maxIdle is how long one is kept unused: servers drop them after a while.
	maxIdle = 60 * time.Second
	// maxAge and maxMessages retire a session that is in use all the time.
	maxAge      = 30 * time.Minute
	maxMessages = 1000
	// askAfter is how long one may rest before it is asked whether it is there.
	askAfter = 10 * time.Second
)

// Backoff of a relay that does not answer: doubling from the first to the last.
const (
	firstBackoff = 10 * time.Second
	lastBackoff  = 5 * time.Minute
)

// Options of Relays.
type Options struct {
	Timeouts Timeouts
	Log      *slog.Logger
	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
}

// Relays are the servers that take our mail, in order of preference. It is safe
// for concurrent use.
type Relays struct {
	opts  Options
	pools []*pool
}

// New makes Relays. Nothing is dialled before there is mail.
func New(relays []Relay, opts Options) *Relays {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	opts.Timeouts = opts.Timeouts.orDefaults()
	rs := &Relays{opts: opts}
	for _, r := range relays {
		rs.pools = append(rs.pools, &pool{relay: r, slots: make(chan struct{}, r.MaxConns)})
	}
	return rs
}

// pool is one relay's sessions and its health.
type pool struct {
	relay Relay
	// slots bounds the sessions that exist, idle ones included.
	slots chan struct{}

	mu     sync.Mutex
	idle   []*Session
	closed bool

	// failures in a row, and when the relay may be tried again. While it is down
	// one caller at a time probes it.
	failures int
	until    time.Time
	probing  bool
	// recent are the durations of the last exchanges.
	recent []time.Duration
}

// recentExchanges is how many durations decide whether a relay is fast.
const (
	recentExchanges = 50
	fastWithin      = 2 * time.Second
)

var errNoRelay = errors.New("no relay takes this mail: see streams= and domains= in POSTRIDER_SMTP_URLS")

// Session takes a session with the first relay for the route that answers. The
// error is an *email.RelayError with the time after which it makes sense to try
// again, or ctx's.
func (rs *Relays) Session(ctx context.Context, route email.Route) (*Session, error) {
	failed := &email.RelayError{RetryAfter: lastBackoff, Err: errNoRelay}
	tried := false
	for _, p := range rs.pools {
		if !p.relay.takes(route) {
			continue
		}
		s, err := rs.session(ctx, p)
		if err == nil {
			return s, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		wait := failed.RetryAfter
		failed = relayError(p.relay, err)
		failed.RetryAfter = p.retryAfter(rs.opts.Now())
		if tried {
			failed.RetryAfter = min(wait, failed.RetryAfter)
		}
		tried = true
	}
	return nil, failed
}

var errDown = errors.New("it did not answer lately and is not tried yet")

func (rs *Relays) session(ctx context.Context, p *pool) (*Session, error) {
	if !p.admit(rs.opts.Now()) {
		return nil, errDown
	}
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		p.result(rs.opts.Now(), nil)
		return nil, ctx.Err()
	}
	for {
		s := p.take(rs.opts.Now())
		if s == nil {
			break
		}
		s.reused = true
		if rs.opts.Now().Sub(s.idle) < askAfter {
			p.admitted()
			return s, nil
		}
		if code, _, err := s.command(s.timeouts.Reset, "NOOP"); err == nil && code/100 == 2 {
			p.admitted()
			return s, nil
		}
		s.hangUp()
	}
	s, err := dial(ctx, p.relay, rs.opts.Timeouts)
	if err != nil {
		<-p.slots
		if ctx.Err() == nil {
			p.result(rs.opts.Now(), err)
			rs.opts.Log.WarnContext(ctx, "relay.dial", "relay", p.relay.Name, "error", err)
		} else {
			p.admitted()
		}
		return nil, err
	}
	p.result(rs.opts.Now(), nil)
	s.owner, s.idle = rs, rs.opts.Now()
	return s, nil
}

// admit reports whether a relay may be tried: it is up, or it is time for one probe.
func (p *pool) admit(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	if p.failures == 0 {
		return true
	}
	if now.Before(p.until) || p.probing {
		return false
	}
	p.probing = true
	return true
}

// admitted ends a probe that said nothing about the relay.
func (p *pool) admitted() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.probing = false
}

// result notes whether a relay answered.
func (p *pool) result(now time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.probing = false
	if err == nil {
		p.failures = 0
		return
	}
	p.failures++
	p.until = now.Add(min(firstBackoff<<min(p.failures-1, 10), lastBackoff))
}

func (p *pool) retryAfter(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(p.until.Sub(now), time.Second)
}

// take finds the session that was used last and is still good.
func (p *pool) take(now time.Time) *Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 {
		s := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if now.Sub(s.idle) < maxIdle && now.Sub(s.dialed) < maxAge {
			return s
		}
		go s.quit()
	}
	return nil
}

// release takes a session back. Its slot is free again either way: an idle
// session is closed when somebody else needs the room.
func (rs *Relays) release(s *Session) {
	p := rs.poolOf(s.relay)
	p.mu.Lock()
	keep := !p.closed && !s.broken && s.messages < maxMessages && len(p.idle) < p.relay.MaxConns
	if keep {
		s.idle = rs.opts.Now()
		p.idle = append(p.idle, s)
	}
	p.mu.Unlock()
	if !keep && !s.broken {
		go s.quit()
	}
	<-p.slots
}

func (rs *Relays) poolOf(r Relay) *pool {
	i := slices.IndexFunc(rs.pools, func(p *pool) bool { return p.relay.Name == r.Name && p.relay.addr() == r.addr() })
	return rs.pools[i]
}

// observe notes how an exchange went.
func (rs *Relays) observe(r Relay, took time.Duration, fault bool) {
	p := rs.poolOf(r)
	if fault {
		p.result(rs.opts.Now(), errDown)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.recent = append(p.recent, took); len(p.recent) > recentExchanges {
		p.recent = p.recent[1:]
	}
}

// Fast reports whether the route's first relay that is up has answered within 2 s
// in 95 of 100 recent exchanges. One without history counts as fast.
func (rs *Relays) Fast(route email.Route) bool {
	now := rs.opts.Now()
	for _, p := range rs.pools {
		if !p.relay.takes(route) {
			continue
		}
		p.mu.Lock()
		down := p.failures > 0 && now.Before(p.until)
		recent := slices.Clone(p.recent)
		p.mu.Unlock()
		if down {
			continue
		}
		if len(recent) == 0 {
			return true
		}
		slices.Sort(recent)
		return recent[len(recent)*95/100] <= fastWithin
	}
	return false
}

// Close says goodbye on every idle session. Sessions in use close when they are
// given back.
func (rs *Relays) Close() {
	var wg sync.WaitGroup
	for _, p := range rs.pools {
		p.mu.Lock()
		p.closed = true
		idle := p.idle
		p.idle = nil
		p.mu.Unlock()
		for _, s := range idle {
			wg.Go(s.quit)
		}
	}
	wg.Wait()
}
