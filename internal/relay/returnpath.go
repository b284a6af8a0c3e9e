package relay

import (
	"cmp"
	"context"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/smtp"
)

// A relay may take mail and refuse one return path of our own hosts: that of one customer's domain, or the
// installation's. Then the relay is up, and mail that it has refused so waits: a MAIL command of its own finds
// out when it is taken, after 10, 20, 40 … 300 s. One mail at a time says it for all e-mails whose MAIL commands
// are alike (keyOfMail), on one connection. Mail with another return path does not wait.

// refusedPath is a MAIL command with a return path of our own that the relay refuses while it takes other mail.
type refusedPath struct {
	// failures are the refusals of the first mail and of the probes after it, until when the next one waits.
	failures int
	until    time.Time
	// claimed is until when one e-mail has the right to probe; zero: none has.
	claimed time.Time
	last    delivery.RelayError
}

// notePathRefused notes such a refusal, and returns how long mail like it waits. An e-mail that has not been
// tried yet (probe is false) makes that no longer.
func (g *guard) notePathRefused(now time.Time, m delivery.MailCommand, e delivery.RelayError, probe bool) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.paths == nil {
		g.paths = map[mailKey]*refusedPath{}
	}
	k := keyOfMail(m)
	r, known := g.paths[k]
	if !known {
		if !makeRoom(g.paths, k, func(r *refusedPath) bool { return now.Sub(r.until) > guardFor }) {
			return firstBackoff
		}
		r = &refusedPath{}
		g.paths[k] = r
	}
	r.last = e
	r.last.OfPath = true
	if probe || !known {
		r.failures++
		r.until, r.claimed = now.Add(delivery.RelayBackoff(r.failures)), time.Time{}
	}
	return max(r.until.Sub(now), time.Second)
}

// pathOf is the MAIL command by which the relay refused the return path of an e-mail, and refuses it while it
// takes other mail; nil if it does not. The error says why, and how long the e-mail waits: 0 if it is to probe.
func (g *guard) pathOf(now time.Time, emailID string) (*delivery.MailCommand, *delivery.RelayError) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.emails[emailID].mail
	if m == nil {
		return nil, nil
	}
	r := g.paths[keyOfMail(*m)]
	if r == nil {
		return nil, nil
	}
	e := r.last
	e.RetryAfter = max(r.until.Sub(now), 0)
	if now.Before(r.claimed) {
		e.RetryAfter = delivery.PathProbe
	}
	return m, &e
}

// pathClaim is how long an e-mail has the right to probe, if it finds no answer.
const pathClaim = time.Minute

// claimPath reports whether the caller is the one to probe, and has the others wait for its answer.
func (g *guard) claimPath(now time.Time, m delivery.MailCommand) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.paths[keyOfMail(m)]
	if r == nil || now.Before(r.until) || now.Before(r.claimed) {
		return false
	}
	r.claimed = now.Add(pathClaim)
	return true
}

// refusesPath reports whether the relay refuses the return path of a MAIL command, and takes other mail.
func (g *guard) refusesPath(m delivery.MailCommand) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.paths[keyOfMail(m)] != nil
}

// hasRefusedPaths reports whether there are any.
func (g *guard) hasRefusedPaths() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.paths) > 0
}

// refusedPath is the guard's pathOf what a route is for: an e-mail, or the next one of a batch.
func (p *pool) refusedPath(ctx context.Context, route delivery.Route) (*delivery.MailCommand, *delivery.RelayError) {
	id := route.For
	if route.ForBatch != "" && p.opts.MailOf != nil && p.guard.hasRefusedPaths() {
		var err error
		if id, _, err = p.opts.MailOf(ctx, route); err != nil {
			p.opts.Log.WarnContext(ctx, "relay.probe", "relay", p.relay.Name, "error", err)
		}
	}
	return p.guard.pathOf(p.opts.Now(), id)
}

// claimPath is for mail whose return path the relay has refused. If the backoff is over, the caller probes with m.
// While it lasts, the error says how long the mail waits. Both are nil for other mail.
func (p *pool) claimPath(ctx context.Context, route delivery.Route) (m *delivery.MailCommand, down *delivery.RelayError) {
	m, e := p.refusedPath(ctx, route)
	if m == nil || p.guard.claimPath(p.opts.Now(), *m) {
		return m, nil
	}
	if e.RetryAfter == 0 { // another was first
		e.RetryAfter = delivery.PathProbe
	}
	return nil, e
}

// probePath says MAIL with a return path that the relay has refused, before an attempt is opened. Where it is
// taken, all mail with that return path goes again. Another fault of the relay is one of the relay's.
func (p *pool) probePath(ctx context.Context, s *Session, m delivery.MailCommand) error {
	a, err := s.conn.ProbeMail(ctx, m, probeCommand)
	if err != nil {
		return err
	}
	if a.Taken {
		p.guard.tookMail(m)
		p.answered()
		p.opts.Log.InfoContext(ctx, "relay.return_path_taken", "relay", p.relay.Name, "return_path", delivery.LikeReturnPath(m.From))
		return nil
	}
	e := &delivery.RelayError{Relay: p.relay.Identity(), Reply: a.Reply, Err: cmp.Or(a.Err, errMailRefused)}
	if !a.Doubtful {
		e.RetryAfter = max(p.failed(e, failure{inTransaction: true, mail: &m}), time.Second)
		p.opts.Log.WarnContext(ctx, "relay.down", "relay", p.relay.Name, "retry_in", e.RetryAfter, "code", a.Reply.Code, "enhanced", a.Reply.Enhanced)
		return e
	}
	// Other e-mails show the reply.
	e.Reply.Text = email.MaskDomains(e.Reply.Text, email.DomainOf(m.From))
	e.OfPath = true
	e.RetryAfter = p.refusedPathAgain(m, *e, true)
	return e
}

// refusedPathAgain notes that the relay refused a return path of ours. It returns how long mail like it waits.
func (p *pool) refusedPathAgain(m delivery.MailCommand, e delivery.RelayError, probe bool) time.Duration {
	wait := p.guard.notePathRefused(p.opts.Now(), m, e, probe)
	p.opts.Log.Warn("relay.return_path_refused", "relay", p.relay.Name, "return_path", delivery.LikeReturnPath(m.From), "retry_in", wait,
		"code", e.Reply.Code, "enhanced", e.Reply.Enhanced)
	return wait
}

// noteRefusedPath notes an exchange in which the relay refused our own return path, and takes other mail.
func (p *pool) noteRefusedPath(h *history, res smtp.Result) {
	p.answered()
	p.refusedPathAgain(h.mail, delivery.RelayError{Relay: p.relay.Identity(), Reply: h.maskReply(res.Final), Err: errMailRefused}, false)
}
