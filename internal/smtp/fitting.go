package smtp

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/postrider/postrider/email"
)

// fit is how well a relay takes a message.
type fit int

const (
	fitsNobody fit = iota
	// fitsSome: some of the recipients; or all, but the message has 8-bit bytes and the
	// relay does not offer 8BITMIME.
	fitsSome
	fitsAll
)

// Fitting returns the session to send a message with: s, or one with another relay of the
// route that takes more of it by what it offers (SIZE, SMTPUTF8, 8BITMIME). s is given
// back in that case, and where an error is returned: an *email.RelayError, an
// *email.Throttled, or ctx's.
//
// Where no relay takes all, and one that might cannot be asked now, Send defers uncounted
// what the session's relay cannot take; otherwise that fails for good.
func (rs *Relays) Fitting(ctx context.Context, route email.Route, s *Session, env email.Envelope, message []byte) (*Session, error) {
	pools := rs.takes(route)
	if len(pools) < 2 {
		return s, nil
	}
	patient := anyUp(pools)
	best, most := s.pool, s.fit(env, message)
	if most == fitsAll {
		return s, nil
	}
	first := s.pool
	s.Close() // who holds one relay's connection does not wait for another's
	later := time.Duration(0)
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
			if wait := notBefore(err, p.opts.Now()); later == 0 || wait < later {
				later = wait
			}
			continue
		}
		f := other.fit(env, message)
		if f == fitsAll {
			other.alternative = true
			return other, nil
		}
		if f > most {
			best, most = p, f
		}
		other.Close()
	}
	s, err := best.session(ctx, route, patient)
	if err != nil {
		return nil, err
	}
	s.alternative, s.elsewhere, s.lastResort = true, later, true
	return s, nil
}

// fit judges by what EHLO offered, and by what the relay has refused of late.
func (s *Session) fit(env email.Envelope, message []byte) fit {
	if limit := s.sizeLimit(); limit > 0 && int64(len(message)) > limit {
		return fitsNobody
	}
	limits := s.pool.unspoken()
	if limits.bytes > 0 && int64(len(message)) >= limits.bytes {
		return fitsNobody
	}
	if s.uses("SMTPUTF8") && !limits.utf8 {
		return fitsAll // a server that offers it takes eight bits (RFC 6531 section 3.1)
	}
	all := fitsAll
	if _, offered := s.extension("8BITMIME"); !offered && !ascii(message) {
		all = fitsSome
	}
	if needsUTF8(env.From, message) {
		return fitsNobody
	}
	taken := 0
	for _, r := range env.Recipients {
		if ascii(r.Address) {
			taken++
		}
	}
	switch taken {
	case len(env.Recipients):
		return all
	case 0:
		return fitsNobody
	}
	return fitsSome
}

// needsUTF8 reports whether a message can be sent with SMTPUTF8 only (RFC 6531),
// whoever its recipients are.
func needsUTF8(from string, message []byte) bool {
	header, _, _ := bytes.Cut(message, []byte("\r\n\r\n"))
	return !ascii(from) || !ascii(header)
}

// unspoken are limits that a relay does not state: they are known by its refusals.
type unspoken struct {
	// bytes is the size of the smallest message refused for its size; 0: none was.
	bytes int64
	// utf8: SMTPUTF8 was offered, and refused.
	utf8 bool
	at   time.Time
}

// unspokenFor is how long such a limit is believed. A relay that takes more by then gets
// that mail again.
const unspokenFor = time.Hour

func (p *pool) unspoken() unspoken {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opts.Now().Sub(p.limits.at) >= unspokenFor {
		p.limits = unspoken{}
	}
	return p.limits
}

func (p *pool) learn(l unspoken) {
	known := p.unspoken()
	p.mu.Lock()
	defer p.mu.Unlock()
	if known.bytes > 0 && (l.bytes == 0 || known.bytes < l.bytes) {
		l.bytes = known.bytes
	}
	p.limits = unspoken{bytes: l.bytes, utf8: l.utf8 || known.utf8, at: p.opts.Now()}
}

// tooLargeHere is called where the relay refuses a message for its size that EHLO did not
// speak of. If another relay may take it, the recipients wait for that one.
func (x *exchange) tooLargeHere(o *email.Outcome) {
	if o.Status != email.RecipientFailed || o.Reason != email.DetailTooLarge {
		return
	}
	x.pool.learn(unspoken{bytes: int64(len(x.message))})
	if x.hasAlternative() {
		o.Status, o.Reason, o.Uncounted, o.RetryAfter = email.RecipientDeferred, "", true, nextTransaction
		o.RelayFault = true
	}
}

// Waits for the turn at a relay that mail goes to because the first one cannot take it.
const (
	// soon is the longest. Such mail has no place in that relay's queue to come back with.
	soon = time.Minute
	// leastWait is the time between two questions.
	leastWait = 100 * time.Millisecond
)

// sessionSoon is session, and waits for a turn that is not far off.
func (p *pool) sessionSoon(ctx context.Context, route email.Route, patient bool) (*Session, error) {
	for {
		s, err := p.session(ctx, route, patient)
		throttled, ok := errors.AsType[*email.Throttled](err)
		if !ok {
			return s, err
		}
		wait := throttled.Turn.At.Sub(p.opts.Now())
		if wait > soon {
			return nil, err
		}
		route.Turn = throttled.Turn
		timer := time.NewTimer(max(wait, leastWait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		}
	}
}

// notBefore is when a relay that gave no session is to be asked again, at least a second.
func notBefore(err error, now time.Time) time.Duration {
	wait := relayWait
	if relay, ok := errors.AsType[*email.RelayError](err); ok {
		wait = relay.RetryAfter
	} else if throttled, ok := errors.AsType[*email.Throttled](err); ok {
		wait = throttled.Turn.At.Sub(now)
	}
	return max(wait, time.Second)
}
