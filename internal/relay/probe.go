package relay

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/smtp"
)

// mailToProbeWith is the MAIL command that finds out whether a relay which refused one takes mail
// again: the command of the caller's e-mail where that is known (own), else the refused one. ok
// is false where MAIL was not what failed.
func (p *pool) mailToProbeWith(ctx context.Context, route delivery.Route) (m delivery.MailCommand, own, ok bool) {
	m, ok = p.breaker.refusedMail()
	if !ok || routeID(route) == "" || p.opts.MailOf == nil {
		return m, false, ok
	}
	emailID, mine, err := p.opts.MailOf(ctx, route)
	if err != nil {
		p.opts.Log.WarnContext(ctx, "relay.probe", "relay", p.relay.Name, "error", err)
	}
	if emailID == "" {
		return m, false, true
	}
	if said := p.guard.mailOf(emailID); said != nil {
		mine = *said // it has the size of the whole message
	}
	return mine, true, true
}

// probeWithMail says MAIL before an attempt is opened. Where it is taken the relay works again. A
// refusal that is about the return-path says the same: it is no fault of the relay's.
//
// id names what the caller wants to send, and fresh says that the relay has not refused that yet.
func (p *pool) probeWithMail(ctx context.Context, s *Session, m delivery.MailCommand, id string, fresh bool) error {
	a, err := s.conn.ProbeMail(ctx, m, probeCommand)
	if err != nil {
		return err
	}
	if a.Taken {
		p.guard.tookMail(m)
		p.answered()
		if p.breaker.succeeded() {
			p.recovered()
		}
		return nil
	}
	e := &delivery.RelayError{Relay: p.relay.Identity(), Reply: a.Reply, Err: cmp.Or(a.Err, errMailRefused)}
	how := failure{inTransaction: true, mail: &m, probe: true, fresh: fresh, perhaps: a.Doubtful}
	p.guard.noteFault(p.opts.Now(), id, &m)
	e.RetryAfter = max(p.failed(e, how), time.Second)
	p.opts.Log.WarnContext(ctx, "relay.down", "relay", p.relay.Name, "retry_in", e.RetryAfter, "code", a.Reply.Code, "enhanced", a.Reply.Enhanced)
	return e
}

var errMailRefused = fmt.Errorf("it refused %s", smtp.StageMail)

// Run shares what this process and the others meet, applies this process's relays to waiting mail
// (applyChanges), and probes relays until ctx ends: at once, then every ProbeEvery those that have
// not answered since. A probe connects, greets, encrypts, authenticates and says goodbye. A relay
// that fails is probed when its backoff is over, so that it is back before there is mail.
func (rs *Relays) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	if rs.opts.Board != nil {
		wg.Go(func() {
			repeat(ctx, syncEvery, func() {
				if err := rs.sync(ctx); err != nil && ctx.Err() == nil {
					rs.opts.Log.WarnContext(ctx, "relay.board", "error", err)
				}
			})
		})
		wg.Go(func() { rs.applyChanges(ctx) })
		wg.Go(func() {
			known := map[string]recovery{}
			repeat(ctx, syncEvery, func() {
				if err := rs.wakeRecovered(ctx, known); err != nil && ctx.Err() == nil {
					rs.opts.Log.WarnContext(ctx, "relay.wake", "error", err)
				}
			})
		})
	}
	if rs.opts.ProbeEvery <= 0 {
		return
	}
	for _, p := range rs.pools {
		wg.Go(func() { p.keepProbing(ctx) })
	}
}

// keepProbing probes at once, then every ProbeEvery, and when the backoff of a relay that fails is
// over, until ctx ends.
func (p *pool) keepProbing(ctx context.Context) {
	for ctx.Err() == nil {
		p.probe(ctx)
		wait := p.opts.ProbeEvery
		if e := p.breaker.down(p.opts.Now(), false); e != nil {
			wait = min(wait, e.RetryAfter)
		}
		next := time.NewTimer(wait)
		select {
		case <-next.C:
		case <-p.look:
		case <-ctx.Done():
		}
		next.Stop()
	}
}

// repeat calls f at once and then every interval, until ctx ends.
func repeat(ctx context.Context, interval time.Duration, f func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		f()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// lookAgain tells keepProbing to look when the relay may be probed next.
func (p *pool) lookAgain() {
	select {
	case p.look <- struct{}{}:
	default: // it is going to
	}
}

// probe finds out whether the relay answers, unless mail has just done so or has all of
// its connections.
func (p *pool) probe(ctx context.Context) {
	now := p.opts.Now()
	if p.breaker.up() && p.tried.Load() && now.Sub(time.Unix(0, p.answeredAt.Load())) < p.opts.ProbeEvery {
		return
	}
	if p.breaker.down(now, false) != nil {
		return
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	default:
		return
	}
	if p.isClosed() {
		return
	}
	probe, down := p.admit(ctx, false)
	if down != nil {
		return
	}
	// The relay may have no process left for another connection than those of this pool.
	if !probe && p.hasAnswered(ctx, p.answers.Load()) {
		return
	}
	s, err := p.connect(ctx, caller{own: true, probe: probe})
	if m, ok := p.breaker.refusedMail(); err == nil && probe && ok {
		// Its error is noted there.
		_ = p.probeWithMail(ctx, s, m, "", false)
	}
	if probe {
		p.releaseProbe()
	}
	if err == nil {
		p.end(s)
	}
}

// oneLine is an error's text on one line.
func oneLine(err error) string {
	if err == nil {
		return ""
	}
	return strings.Join(strings.Fields(smtp.Printable(err.Error())), " ")
}
