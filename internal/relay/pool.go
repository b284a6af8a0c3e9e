package relay

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/smtp"
)

// Limits of a kept session.
const (
	// defaultMaxIdle is how long one is kept unused: servers drop them after a while.
	defaultMaxIdle = 60 * time.Second
	// maxAge and maxMessages retire a session that is in use all the time. A server may go on with
	// old settings until its client leaves, and mail that it refuses by them fails: this bounds for
	// how long.
	maxAge      = time.Minute
	maxMessages = 1000
	// newWithin is how old the session may be that mail gets which the relay has refused before. It
	// bounds how many are dialled for such mail.
	newWithin = time.Second
	// askAfter is how long one may rest before it is asked whether it is there.
	askAfter = 10 * time.Second
)

// Bounds for a relay that counts as fast.
const (
	recentExchanges = 50
	recentWithin    = 15 * time.Minute
	fastWithin      = 2 * time.Second
)

// pool is one relay's sessions and its health.
type pool struct {
	relay   Relay
	opts    Options
	breaker breaker
	meter   *meter
	// guard holds back refusals that may be the relay's; rcpts is how many recipients it takes.
	guard guard
	rcpts rcptLimit
	// owner names this pool where processes agree on who probes.
	owner string
	// tried: it is known whether the relay answers.
	tried atomic.Bool
	// look tells keepProbing that the relay has failed, or may be back.
	look chan struct{}
	// synced: this process has heard what the others know of the relay.
	synced atomic.Bool
	// answeredAt is when it last did, in Unix nanoseconds; answers counts how often.
	answeredAt, answers atomic.Int64
	// asking is held by who asks an idle session whether the relay is there.
	asking sync.Mutex
	// slots bounds the mail that has a session, or waits for one of the connections.
	slots chan struct{}
	// broadcast bounds those of them that broadcast mail may have, so that
	// transactional mail finds one that is free, or soon will be.
	broadcast chan struct{}

	mu sync.Mutex
	connections
	// unread counts the messages whose answer could not be read.
	unread atomic.Int64
	blocks blocks
	// recent are the last exchanges.
	recent []timing
	// limits are what the relay refused although it did not say so in EHLO.
	limits observedLimits
	// noPipeliningUntil: until then the relay gets one command at a time.
	noPipeliningUntil time.Time
}

type timing struct {
	at   time.Time
	took time.Duration
}

func newPool(relay Relay, opts Options) *pool {
	if relay.MaxConns == 0 {
		relay.MaxConns = defaultMaxConns
	}
	p := &pool{
		relay: relay, opts: opts, meter: newMeter(relay, opts), owner: uuid.NewString(), look: make(chan struct{}, 1),
		slots: make(chan struct{}, relay.MaxConns), broadcast: make(chan struct{}, max(1, relay.MaxConns*3/4)),
	}
	p.limit = relay.MaxConns
	p.dials, p.stopDials = context.WithCancel(context.Background())
	return p
}

// session gets the session that is free first: an idle one, one that other mail gives back, or a new
// one. It waits while all of the relay's connections are in use. Where the relay has a rate, it waits
// for its turn, last of all: so no turn is spent on a relay that is not there.
//
// patient mail waits for the backoff of a relay that is down, however fresh it is.
func (p *pool) session(ctx context.Context, route delivery.Route, patient bool) (*Session, error) {
	// A relay that is down is no reason to wait for one of its slots.
	if e := p.down(route, patient); e != nil {
		return nil, e
	}
	if m, e := p.refusedPath(ctx, route); m != nil && e.RetryAfter > 0 {
		return nil, e
	}
	freeSlot, err := p.takeSlot(ctx, route.Stream)
	if err != nil {
		return nil, err
	}
	s, err := p.open(ctx, route, p.fresh(route, patient), p.refusedBefore(route))
	if err != nil {
		freeSlot()
		return nil, err
	}
	s.freeSlot, s.elsewhere, s.lastResort, s.avoids = freeSlot, 0, false, route.Avoid
	if err := p.meter.await(ctx, route); err != nil {
		p.release(s)
		return nil, err
	}
	return s, nil
}

// down says why the relay is not tried for the route now; nil if it would be.
func (p *pool) down(route delivery.Route, patient bool) *delivery.RelayError {
	return p.breaker.down(p.opts.Now(), p.fresh(route, patient))
}

// fresh reports whether it is known what the route is for, and that the relay has not
// refused that yet.
func (p *pool) fresh(route delivery.Route, patient bool) bool {
	id := routeID(route)
	return !patient && id != "" && p.guard.fresh(p.opts.Now(), id)
}

// refusedBefore reports whether the relay has refused what the route is for: in the last attempt,
// or in one of this process.
func (p *pool) refusedBefore(route delivery.Route) bool {
	id := routeID(route)
	return route.Avoid == p.relay.Name || id != "" && p.guard.hasRefused(id)
}

// routeID names what a route is for: an e-mail, or those of a batch that have one sender's domain;
// empty where that is not known.
func routeID(route delivery.Route) string {
	if route.ForBatch != "" {
		return route.ForBatch + " " + route.SenderDomain
	}
	return route.For
}

// open waits for a session. A session that probes a relay which refused MAIL has said MAIL: only
// what the relay takes touches an e-mail. again: the relay has refused it before, perhaps by
// settings that it has changed since. It gets a new connection, unless the relay takes no more of
// them.
func (p *pool) open(ctx context.Context, route delivery.Route, fresh, again bool) (*Session, error) {
	probe, e := p.admit(ctx, fresh)
	if e != nil {
		return nil, e
	}
	var mail delivery.MailCommand
	var own, refused bool
	var path *delivery.MailCommand
	if probe {
		mail, own, refused = p.mailToProbeWith(ctx, route)
	} else if path, e = p.claimPath(ctx, route); e != nil {
		return nil, e
	}
	if now := p.opts.Now(); own && fresh && p.guard.refusesMail(now, mail) { // it looked fresh
		p.guard.noteFault(now, routeID(route), &mail)
		p.releaseProbe()
		return p.open(ctx, route, false, again)
	}
	c := caller{own: probe, probe: probe, broadcast: route.Stream == email.StreamBroadcast}
	if again {
		c.since = p.opts.Now().Add(-newWithin)
	}
	s, err := p.connect(ctx, c)
	if err == nil && !probe && !p.breaker.up() { // the relay has failed meanwhile
		p.giveBack(s)
		s, err = nil, errAskAgain
	}
	if errors.Is(err, errAskAgain) {
		if probe {
			p.releaseProbe()
		}
		return p.open(ctx, route, fresh, false)
	}
	if err == nil && refused {
		err = p.probeWithMail(ctx, s, mail, routeID(route), fresh)
	} else if err == nil && path != nil {
		err = p.probePath(ctx, s, *path)
	}
	if err != nil {
		if s != nil {
			s.conn.Close()
			p.giveBack(s)
		}
		if probe {
			p.releaseProbe()
		}
		return nil, err
	}
	s.probe, s.fresh = probe, probe && fresh
	return s, nil
}

// takeSlot waits for a slot.
func (p *pool) takeSlot(ctx context.Context, stream email.Stream) (freeSlot func(), err error) {
	taken := []chan struct{}{p.slots}
	if stream == email.StreamBroadcast {
		// First, so that mail that waits for one of these holds none of the others.
		taken = []chan struct{}{p.broadcast, p.slots}
	}
	for i, ch := range taken {
		select {
		case ch <- struct{}{}:
		case <-ctx.Done():
			for _, ch := range taken[:i] {
				<-ch
			}
			return nil, context.Cause(ctx)
		}
	}
	return func() {
		for _, ch := range taken {
			<-ch
		}
	}, nil
}

// noteVerdict notes how an exchange went, and by what (e) and in what way where the relay was at fault.
func (p *pool) noteVerdict(s *Session, took time.Duration, v smtp.RelayVerdict, e *delivery.RelayError, how failure) {
	now, last := p.opts.Now(), e.Reply
	how.probe, how.fresh = s.probe, s.fresh
	if v != smtp.VerdictOurs {
		s.probe = false
	}
	switch v {
	case smtp.VerdictOurs:
		return
	case smtp.VerdictDown:
		wait := p.failed(e, how)
		p.opts.Log.Warn("relay.down", "relay", p.relay.Name, "retry_in", wait, "code", last.Code, "enhanced", last.Enhanced)
		return
	case smtp.VerdictRefused:
		if wait, down := p.breaker.refused(now, e, how); down {
			p.report(e, how)
			p.opts.Log.Warn("relay.down", "relay", p.relay.Name, "retry_in", wait, "code", last.Code, "enhanced", last.Enhanced)
		}
		return
	}
	p.answered()
	if p.breaker.succeeded() {
		p.recovered()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.recent = append(p.recent, timing{now, took}); len(p.recent) > recentExchanges {
		p.recent = p.recent[1:]
	}
}

// noteUnanswered notes that the relay has a message whose reply could not be read.
func (p *pool) noteUnanswered(err error) {
	p.unread.Add(1)
	p.opts.Log.Warn("relay.unanswered", "relay", p.relay.Name, "error", smtp.Printable(err.Error()))
}

// fast reports whether 95 of 100 recent exchanges took 2 s at most. A relay
// without recent ones counts as fast.
func (p *pool) fast(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	var took []time.Duration
	for _, t := range p.recent {
		if now.Sub(t.at) < recentWithin {
			took = append(took, t.took)
		}
	}
	if len(took) == 0 {
		return true
	}
	slices.Sort(took)
	return took[len(took)*95/100] <= fastWithin
}
