package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/smtp"
)

// Fitting returns the session to send a message with: s, or one with another relay of the
// route that takes more of it by what it offers (SIZE, SMTPUTF8, 8BITMIME). s is given
// back in that case, and where an error is returned: an *delivery.RelayError, an
// *delivery.Throttled, or ctx's.
//
// Where no relay takes all, and one that might cannot be asked now, Send defers uncounted
// what the session's relay cannot take; otherwise that fails for good. Where no relay takes any
// of it, and one that might is down, the error is of that one, and says when to ask again.
func (rs *Relays) Fitting(ctx context.Context, route delivery.Route, s *Session, env delivery.Envelope, message []byte) (*Session, error) {
	pools := rs.takes(route)
	if len(pools) < 2 {
		return s, nil
	}
	patient := anyUp(pools)
	best, most := s.pool, s.fits(env, message)
	if most == smtp.FitsAll {
		return s, nil
	}
	first := s.pool
	s.Close() // who holds one relay's connection does not wait for another's
	later := time.Duration(0)
	var down *delivery.RelayError
	for _, p := range pools {
		if p == first {
			continue
		}
		other, err := p.sessionSoon(ctx, route, patient)
		if ctx.Err() != nil {
			if err == nil {
				other.Close()
			}
			return nil, context.Cause(ctx)
		}
		if err != nil {
			if wait := retryAfter(err, p.opts.Now()); later == 0 || wait < later {
				later = wait
			}
			if e, ok := errors.AsType[*delivery.RelayError](err); ok && down == nil {
				down = e
			}
			continue
		}
		f := other.fits(env, message)
		if f == smtp.FitsAll {
			other.alternative = true
			return other, nil
		}
		if f > most {
			best, most = p, f
		}
		other.Close()
	}
	if most == smtp.FitsNobody && down != nil {
		e := *down
		e.RetryAfter, e.Err = later, fmt.Errorf("%w; relay %s does not take this message", down.Err, first.relay.Name)
		return nil, &e
	}
	s, err := best.session(ctx, route, patient)
	if err != nil {
		return nil, err
	}
	s.alternative, s.elsewhere, s.lastResort = true, later, true
	return s, nil
}

// observedLimits are limits that the relay does not state, and when it showed one last.
type observedLimits struct {
	smtp.Limits
	at time.Time
}

// observedLimitsFor is how long such a limit is believed. A relay that takes more by then gets
// that mail again.
const observedLimitsFor = time.Hour

func (p *pool) currentLimits() smtp.Limits {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opts.Now().Sub(p.limits.at) >= observedLimitsFor {
		p.limits = observedLimits{}
	}
	return p.limits.Limits
}

func (p *pool) noteLimits(l smtp.Limits) {
	known := p.currentLimits()
	p.mu.Lock()
	defer p.mu.Unlock()
	if known.Bytes > 0 && (l.Bytes == 0 || known.Bytes < l.Bytes) {
		l.Bytes = known.Bytes
	}
	l.UTF8 = l.UTF8 || known.UTF8
	p.limits = observedLimits{l, p.opts.Now()}
}

// Waits for the turn at a relay that mail goes to because the first one cannot take it.
const (
	// longestTurnWait is the longest wait. Such mail has no turn at that relay to come back with.
	longestTurnWait = time.Minute
	// shortestTurnWait is the least time between two questions.
	shortestTurnWait = 100 * time.Millisecond
)

// sessionSoon is session, and waits for a turn that is not far off.
func (p *pool) sessionSoon(ctx context.Context, route delivery.Route, patient bool) (*Session, error) {
	for {
		s, err := p.session(ctx, route, patient)
		throttled, ok := errors.AsType[*delivery.Throttled](err)
		if !ok {
			return s, err
		}
		wait := throttled.Turn.At.Sub(p.opts.Now())
		if wait > longestTurnWait {
			return nil, err
		}
		route.Turn = throttled.Turn
		timer := time.NewTimer(max(wait, shortestTurnWait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		}
	}
}

// retryAfter is when a relay that gave no session is to be asked again, at least a second.
func retryAfter(err error, now time.Time) time.Duration {
	wait := firstBackoff
	if relay, ok := errors.AsType[*delivery.RelayError](err); ok {
		wait = relay.RetryAfter
	} else if throttled, ok := errors.AsType[*delivery.Throttled](err); ok {
		wait = throttled.Turn.At.Sub(now)
	}
	return max(wait, time.Second)
}
