package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/smtp"
)

// Bounds for a relay that takes fewer connections than all workers together would have.
const (
	// fewFor is how long the limit holds that was learnt from a connection without a greeting, or
	// one that was refused. So long this process also leaves room for the connections of others.
	fewFor = 10 * time.Minute
	// tryMoreEvery is how often one connection more than the limit is tried.
	tryMoreEvery = time.Minute
	// roomAfter and roomMessages end a session in constant use, so that a connection that waits at
	// the relay is greeted.
	roomAfter    = 5 * time.Second
	roomMessages = 20
	// stillCounted is how long a relay may count a connection that is closed. restFor is how long
	// there is no dial after one that may have been refused for it.
	stillCounted = 2 * time.Second
	restFor      = time.Second
)

// connections are a pool's connections to its relay, and the callers that wait for one. A session that
// is new, or given back, goes to the first of them. A dial belongs to no caller: its session is kept
// where no caller waits any more. The pool's mu guards all of it.
type connections struct {
	// callers wait for a session, in the order in which they came.
	callers []*caller
	// idle are the sessions that are not in use, the one used last at the end.
	idle []*Session
	// sessions counts those that are idle or in use, and dialing the dials under way. late is how
	// many of these have waited for half of the time that the relay has for its greeting.
	sessions, dialing, late int
	// leaving of the sessions are being taken leave of. leftAt is when the last session was closed.
	leaving int
	leftAt  time.Time
	// quickest is the shortest dial. A relay that has greeted at once, and does not greet for half
	// of the time that it has, takes no more connections. One that greets late on purpose never
	// greets at once.
	quickest time.Duration
	// limit bounds sessions and dialing together. It is less than max_conns where the relay took no
	// more.
	limit int
	// fewUntil: until then the limit holds, and others need the connections that no mail uses.
	fewUntil time.Time
	// refuses: the relay refuses the connections beyond the limit, and lets none of them wait. So
	// idle sessions keep no other process out until one says that it has none.
	refuses bool
	// refusal is a refusal of a connection while others were dialled. It shows a limit if one of
	// these succeeds.
	refusal error
	// resting: nothing is dialled. rested: no dial has succeeded since.
	resting, rested bool
	// moreAt is when one connection more than limit may be tried.
	moreAt time.Time
	sweep  *time.Timer
	closed bool
	// dials ends with stopDials.
	dials     context.Context
	stopDials context.CancelFunc
	// work is the sessions being taken leave of, and the dials.
	work sync.WaitGroup
}

// caller waits for a session.
type caller struct {
	// own: it takes a new connection only, unless the relay takes no more of them: a server may go
	// on with old settings on connections that it has. probe: it finds out whether the relay works.
	own, probe bool
	// since: it replaces a session that was dialled before then. The pool's mu guards own and since.
	since     time.Time
	broadcast bool
	// got has room for what the caller gets.
	got chan handed
}

// handed is what a caller gets.
type handed struct {
	session *Session
	err     error
}

var (
	errClosed = errors.New("this process is shutting down")
	// errAskAgain: the relay has failed, or come back, since the caller was let through.
	errAskAgain = errors.New("the relay's state has changed")
)

// connect waits for a session that the relay has not left.
func (p *pool) connect(ctx context.Context, c caller) (*Session, error) {
	for {
		s, err := p.wait(ctx, &c)
		if err != nil {
			return nil, err
		}
		if s.reused && s.dialedAt.Before(c.since) {
			p.end(s)
			c.own = true
			continue
		}
		if !s.reused || !s.conn.Stale() && (p.opts.Now().Sub(s.idleAt) < askAfter || s.conn.Alive(ctx) && !s.conn.Stale()) {
			return s, nil
		}
		s.conn.Close()
		p.giveBack(s)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// wait puts a caller at the end of the queue and waits until it gets a session.
func (p *pool) wait(ctx context.Context, c *caller) (*Session, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	c.got = make(chan handed, 1)
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, p.shuttingDown()
	}
	if c.probe {
		p.dropIdle()
	}
	p.callers = append(p.callers, c)
	p.serve()
	p.mu.Unlock()
	select {
	case h := <-c.got:
		return h.session, h.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	waited := p.next(func(o *caller) bool { return o == c })
	p.mu.Unlock()
	if waited == nil { // it is handed something at the same time
		if h := <-c.got; h.session != nil {
			p.giveBack(h.session)
		}
	}
	return nil, context.Cause(ctx)
}

func (p *pool) shuttingDown() error {
	return &delivery.RelayError{Relay: p.relay.Identity(), RetryAfter: time.Second, Err: errClosed}
}

// serve hands the idle sessions to callers, and dials for those who get none. The caller holds mu.
func (p *pool) serve() {
	p.retire()
	for len(p.idle) > 0 {
		s := p.idle[len(p.idle)-1]
		c := p.next(func(c *caller) bool { return !c.own && !(s.broadcast && c.broadcast) })
		if c == nil {
			c = p.next(func(c *caller) bool { return !c.own })
		}
		if c == nil {
			break
		}
		p.idle = p.idle[:len(p.idle)-1]
		s.reused, s.broadcast = true, c.broadcast
		c.got <- handed{session: s}
	}
	for !p.closed && p.dialing < len(p.callers) && p.mayDial() {
		p.dialing++
		p.work.Go(p.dial)
	}
	if p.few() {
		p.dropIdle() // no mail waits for them
	}
}

// next removes the first such caller from the queue; nil if there is none. The caller holds mu.
func (p *pool) next(is func(*caller) bool) *caller {
	i := slices.IndexFunc(p.callers, is)
	if i < 0 {
		return nil
	}
	c := p.callers[i]
	p.callers = slices.Delete(p.callers, i, i+1)
	return c
}

// nextForNew is next for a new connection: those who take no other come first.
func (p *pool) nextForNew() *caller {
	if c := p.nextOwn(); c != nil {
		return c
	}
	return p.next(func(*caller) bool { return true })
}

func (p *pool) nextOwn() *caller { return p.next(func(c *caller) bool { return c.own }) }

// mayDial reports whether there may be another connection. The caller holds mu.
func (p *pool) mayDial() bool {
	now := p.opts.Now()
	if !now.Before(p.fewUntil) {
		p.limit = p.relay.MaxConns
	}
	n := p.sessions + p.dialing
	switch {
	case p.resting || p.refusal != nil:
		return false
	case n >= p.relay.MaxConns:
		return false
	case n < p.limit || slices.ContainsFunc(p.callers, func(c *caller) bool { return c.own }):
		return true
	case p.dialing > 0 || now.Before(p.moreAt):
		return false
	}
	p.moreAt = now.Add(tryMoreEvery)
	return true
}

// few reports whether the relay may have no process for a connection that waits: one of this process
// or of another. The caller holds mu.
func (p *pool) few() bool { return p.late > 0 || p.limited() && !p.refuses }

// limited reports whether the limit was learnt. The caller holds mu.
func (p *pool) limited() bool { return p.opts.Now().Before(p.fewUntil) }

// tooMany reports whether there are more sessions than the limit, because another process needs room.
// The caller holds mu.
func (p *pool) tooMany() bool { return p.limited() && p.refuses && p.sessions-p.leaving > p.limit }

// dial dials a session, hands it to a caller, and notes how that went.
func (p *pool) dial() {
	answers, timeouts := p.answers.Load(), p.opts.Timeouts
	greeting := timeouts.ForGreeting(p.relay.Server)
	if answers > 0 {
		timeouts.Silence = 2 * greeting // it has greeted this process: no second connection tries TLS
	}
	var late, over bool
	defer time.AfterFunc(greeting/2, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if over {
			return
		}
		late = true
		p.late++
		if p.quickest > 0 && p.quickest < greeting/4 && p.answers.Load() > answers {
			p.learn(fmt.Errorf("%s %s", smtp.NoGreeting, greeting/2))
		}
		p.serve()
	}).Stop()
	began := time.Now()
	conn, err := smtp.Dial(p.dials, p.relay.Server, timeouts)
	took := time.Since(began)
	if err == nil {
		p.answered()
		if p.breaker.connected() {
			p.recovered()
		}
	}
	noMore, refused := false, isRefused(err)
	silent, isSilent := errors.AsType[*smtp.SilentError](err)
	if isSilent && p.answers.Load() > 0 {
		err = silent.Unwrap() // it has greeted this process, so there is nothing to guess
	}
	if (isSilent || refused) && p.answers.Load() > 0 {
		// It may take fewer connections than this process has.
		if noMore = p.hasAnswered(p.dials, answers); noMore && p.breaker.connected() {
			p.recovered()
		}
	}

	p.mu.Lock()
	var c *caller
	var h handed
	undecided := refused && !noMore && p.dialing > 1
	noMore = noMore || refused && !undecided && p.breaker.isReachable() && p.othersAreAnswered()
	if err != nil && !noMore && !undecided && !p.closed {
		c = p.nextForNew()
		p.mu.Unlock()
		h.err = p.notDialled(err, failure{probe: c != nil && c.probe, turnedAway: isSilent || refused})
		p.mu.Lock()
	}
	over = true
	p.dialing--
	if late {
		p.late--
	}
	switch {
	case err == nil && p.closed:
		conn.Close()
	case err == nil:
		if p.quickest == 0 || took < p.quickest {
			p.quickest = took
		}
		c, h.session = p.dialled(conn, late)
	case p.closed:
	case undecided:
		p.refusal = err
	case noMore:
		p.learn(err)
		for _, c := range p.callers { // there are no connections but those
			c.own, c.since = false, time.Time{}
		}
	default: // others that wait were let through while the relay worked
		p.refusal = nil
		for len(p.callers) > p.dialing {
			p.next(func(*caller) bool { return true }).got <- handed{err: errAskAgain}
		}
	}
	p.serve()
	p.mu.Unlock()
	if c != nil {
		c.got <- h
	}
}

// dialled finds the caller for a new session, or keeps it. The caller holds mu.
func (p *pool) dialled(conn *smtp.Session, late bool) (*caller, *Session) {
	now := p.opts.Now()
	s := &Session{conn: conn, pool: p, dialedAt: now, idleAt: now}
	p.sessions++
	p.rested = false
	if !late {
		p.limit = max(p.limit, p.sessions)
	}
	if p.refusal != nil {
		p.learn(p.refusal)
	}
	c := p.nextForNew()
	switch {
	case c != nil:
		s.broadcast = c.broadcast
	case late: // others may wait for its process
		p.leave(s)
	default:
		p.keep(s)
	}
	return c, s
}

// isRefused reports whether the relay refused a connection by 421. It may have too many of us,
// which not all relays say in words.
func isRefused(err error) bool { return smtp.ReplyOf(err).Code == 421 }

// othersAreAnswered reports whether sessions that are in use are answered, or have just been
// closed. The caller holds mu.
func (p *pool) othersAreAnswered() bool {
	inUse := p.sessions-p.leaving > len(p.idle)
	return inUse && p.opts.Now().Sub(time.Unix(0, p.answeredAt.Load())) < tryMoreEvery || p.mayStillCount()
}

// mayStillCount reports whether the relay may have refused a connection for one that is being
// closed, or has just been. There is one more try then. The caller holds mu.
func (p *pool) mayStillCount() bool {
	return !p.rested && (p.leaving > 0 || p.opts.Now().Sub(p.leftAt) < stillCounted)
}

// learn notes that the relay takes no new connection, while it answers on others. The callers
// wait for those. The caller holds mu.
func (p *pool) learn(err error) {
	now, limit, refuses := p.opts.Now(), max(1, p.sessions), isRefused(err)
	switch again := refuses && p.mayStillCount(); {
	case again:
		limit, p.rested = p.sessions+1, true
		p.rest()
	case limit != p.limit || !p.limited():
		p.opts.Log.Warn("relay.no_more_connections", "relay", p.relay.Name, "connections", limit, "max_conns", p.relay.MaxConns, "error", err)
	}
	p.limit, p.fewUntil, p.moreAt, p.refuses, p.refusal = limit, now.Add(fewFor), now.Add(tryMoreEvery), refuses, nil
}

// rest dials nothing for a time. The caller holds mu.
func (p *pool) rest() {
	p.resting = true
	time.AfterFunc(restFor, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.resting = false
		p.serve()
	})
}

// notDialled notes that the relay could not be reached, and makes the error of the caller who
// waited for it.
func (p *pool) notDialled(err error, how failure) error {
	e := &delivery.RelayError{Relay: p.relay.Identity(), Reply: smtp.ReplyOf(err), Err: err}
	e.RetryAfter = max(p.failed(e, how), time.Second)
	p.opts.Log.Warn("relay.down", "relay", p.relay.Name, "retry_in", e.RetryAfter, "code", e.Reply.Code, "error", email.MaskText(err.Error(), p.relay.User))
	return e
}

// hasAnswered reports whether the relay has answered more often than so many times: on sessions in
// use meanwhile, or now on an idle one. Callers that ask at the same time ask one session.
func (p *pool) hasAnswered(ctx context.Context, answers int64) bool {
	p.asking.Lock()
	defer p.asking.Unlock()
	return p.answers.Load() > answers || p.askIdle(ctx)
}

// askIdle reports whether the relay answers on an idle session. The session stays idle for no longer
// than without the question. If the relay does not answer there, all idle sessions are closed.
func (p *pool) askIdle(ctx context.Context) bool {
	for {
		p.mu.Lock()
		p.retire()
		if len(p.idle) == 0 {
			p.mu.Unlock()
			return false
		}
		s := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		p.mu.Unlock()
		if s.conn.Stale() {
			s.conn.Close()
			p.giveBack(s)
			continue
		}
		alive := s.conn.Alive(ctx)
		if alive {
			p.answered()
		} else {
			s.conn.Close()
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if !alive {
			p.dropIdle()
		}
		p.putBack(s)
		return alive
	}
}

// dropIdle takes leave of all idle sessions. The caller holds mu.
func (p *pool) dropIdle() {
	for _, s := range p.idle {
		p.drop(s)
	}
	p.idle = nil
}

// drop takes leave of an idle session. It counts until that is done where the relay counts connections.
// The caller holds mu.
func (p *pool) drop(s *Session) {
	if p.limited() && p.refuses {
		p.leave(s)
		return
	}
	p.work.Go(s.conn.Quit)
	p.gone()
}

// gone notes that a session is closed. The caller holds mu.
func (p *pool) gone() {
	p.sessions--
	p.leftAt = p.opts.Now()
}

// retire takes leave of the sessions that have been idle or alive for too long. The caller holds mu.
func (p *pool) retire() {
	now := p.opts.Now()
	p.idle = slices.DeleteFunc(p.idle, func(s *Session) bool {
		if now.Sub(s.idleAt) < p.opts.MaxIdle && now.Sub(s.dialedAt) < maxAge {
			return false
		}
		p.drop(s)
		return true
	})
}

// leave takes leave of a session that has just been used. It counts as open until that is done. The
// caller holds mu.
func (p *pool) leave(s *Session) {
	p.leaving++
	p.work.Go(func() {
		s.conn.Quit()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.leaving--
		p.putBack(s)
	})
}

// end takes leave of a session that its caller does not need any more.
func (p *pool) end(s *Session) {
	s.conn.Quit()
	p.giveBack(s)
}

// release takes a session back from its mail.
func (p *pool) release(s *Session) {
	if s.probe {
		p.releaseProbe()
		s.probe = false
	}
	freeSlot := s.freeSlot
	s.freeSlot = nil
	if !s.conn.Closed() {
		s.idleAt = p.opts.Now()
	}
	p.giveBack(s)
	freeSlot()
}

// giveBack takes a session back.
func (p *pool) giveBack(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.putBack(s)
}

// putBack takes a session back. The caller holds mu.
func (p *pool) putBack(s *Session) {
	switch {
	case s.conn.Closed():
		p.gone()
	case p.closed || s.conn.Transactions() >= maxMessages || s.conn.Stale():
		// Close may be waiting for the others already, so this one goes without a word.
		s.conn.Close()
		p.gone()
	case s.full() || p.tooMany() || p.few() && s.hasHadItsShare():
		p.leave(s)
	default:
		p.keep(s)
	}
	p.serve()
}

// keep makes a session an idle one. The caller holds mu.
func (p *pool) keep(s *Session) {
	p.idle = append(p.idle, s)
	if p.sweep == nil {
		p.sweep = time.AfterFunc(p.opts.MaxIdle, p.sweepIdle)
	}
}

// sweepIdle retires idle sessions that no mail needs.
func (p *pool) sweepIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retire()
	if len(p.idle) > 0 && !p.closed {
		p.sweep.Reset(p.opts.MaxIdle)
		return
	}
	p.sweep = nil
}

// makeRoom gives up the idle sessions, because another process gets no greeting. answered: this one
// is answered, so it leaves room for some time. refused: a connection of the other does not wait
// for that room, so this process has one less for some time, but not less than one.
func (p *pool) makeRoom(answered, refused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.sessions - p.leaving
	if now := p.opts.Now(); answered {
		if !p.limited() {
			p.limit = p.relay.MaxConns // a limit learnt long ago
		}
		p.fewUntil, p.refuses = now.Add(fewFor), refused
		if refused && n > 0 {
			p.limit, p.moreAt = max(1, n-1), now.Add(tryMoreEvery)
		}
	}
	p.dropIdle()
}

// isClosed reports whether this process shuts down.
func (p *pool) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.stopDials()
	for _, c := range p.callers {
		c.got <- handed{err: p.shuttingDown()}
	}
	p.callers = nil
	p.dropIdle()
	if p.sweep != nil {
		p.sweep.Stop()
	}
	p.mu.Unlock()
	p.work.Wait()
}
