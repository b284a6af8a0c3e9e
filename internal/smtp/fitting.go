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
		other, err := p.sessionSoon(ctx, route)
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
	s, err := best.session(ctx, route)
	if err != nil {
		return nil, err
	}
	s.alternative, s.elsewhere = true, later
	return s, nil
}

// fit judges by what EHLO offered.
func (s *Session) fit(env email.Envelope, message []byte) fit {
	if limit := s.sizeLimit(); limit > 0 && int64(len(message)) > limit {
		return fitsNobody
	}
	all := fitsAll
	if _, offered := s.extension("8BITMIME"); !offered && !ascii(message) {
		all = fitsSome
	}
	if _, offered := s.extension("SMTPUTF8"); offered {
		return all
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

// Waits for the turn at a relay that mail goes to because the first one cannot take it.
const (
	// soon is the longest. Such mail has no place in that relay's queue to come back with.
	soon = time.Minute
	// leastWait is the time between two questions.
	leastWait = 100 * time.Millisecond
)

// sessionSoon is session, and waits for a turn that is not far off.
func (p *pool) sessionSoon(ctx context.Context, route email.Route) (*Session, error) {
	for {
		s, err := p.session(ctx, route)
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
