package relay

import (
	"errors"
	"strings"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/smtp"
)

// history gives one transaction what its relay's pool knows from others.
type history struct {
	pool *pool
	env  delivery.Envelope
	mail delivery.MailCommand
}

func (h *history) now() time.Time { return h.pool.opts.Now() }

// recipient names a recipient of the e-mail to the guard.
func (h *history) recipient(i int) guardKey {
	return guardKey{emailID: h.env.ID, address: strings.ToLower(h.env.Recipients[i].Address)}
}

// RecipientLimit is the lower of the limits of a transaction and of what is left of the
// connection's.
func (h *history) RecipientLimit(onConnection int) (limit int, said bool) {
	now := h.now()
	limit, said = h.pool.rcpts.perTransaction(now)
	if session := h.pool.rcpts.perSession(now) - onConnection; session > 0 && (limit == 0 || session < limit) {
		return session, false
	}
	return limit, said
}

// NameLast asks the guard.
func (h *history) NameLast(i int) bool { return h.pool.guard.remembers(h.recipient(i)) }

// TookMail tells the guard.
func (h *history) TookMail() { h.pool.guard.tookMail(h.mail) }

// Accepted tells the guard.
func (h *history) Accepted(i int) { h.pool.guard.noteAccepted(h.now(), h.recipient(i)) }

// OwnFault tells and asks the guard.
func (h *history) OwnFault(at smtp.Stage, i int, permanent bool) bool {
	k := guardKey{emailID: h.env.ID}
	switch at {
	case smtp.StageMail:
		k = guardKey{address: string(keyOfMail(h.mail))}
	case smtp.StageRcpt:
		k = h.recipient(i)
	}
	return h.pool.guard.isOwnFault(h.now(), k, permanent)
}

// Refused asks the guard.
func (h *history) Refused(i int, rep email.Reply, how smtp.Suspicion) smtp.Ruling {
	rule := h.pool.guard.judge(h.now(), h.recipient(i), rep, how)
	if !rule.Final {
		log := h.pool.opts.Log.Info
		if rule.tripped {
			log = h.pool.opts.Log.Warn
		}
		log("relay.refusal_held", "relay", h.pool.relay.Name, "code", rep.Code, "enhanced", rep.Enhanced, "recipients", rule.recipients, "relays_fault", rule.Pattern, "retry_in", rule.Wait)
	}
	return rule.Ruling
}

// ClosedAtRcpt tells the limits of recipients.
func (h *history) ClosedAtRcpt(c smtp.RcptClose) (wait time.Duration, cause smtp.CloseCause) {
	again := c.Redialed
	if c.Recipient >= 0 {
		again = again || h.NameLast(c.Recipient)
	}
	return h.pool.rcpts.closedAt(h.now(), c, again)
}

// noteResult notes a transaction's result: what the guard, the limits and the breaker have to know
// of it.
func (p *pool) noteResult(s *Session, h *history, res smtp.Result) {
	now := p.opts.Now()
	if res.RecipientLimit > 0 {
		p.rcpts.noteStatedLimit(now, res.RecipientLimit)
		p.opts.Log.Info("relay.recipients_limited", "relay", p.relay.Name, "recipients", res.RecipientLimit, "code", res.LimitReply.Code, "enhanced", res.LimitReply.Enhanced)
	}
	if res.Refuses != (smtp.Limits{}) {
		p.noteLimits(res.Refuses)
	}
	if res.BreaksPipelining {
		p.rememberBrokenPipelining()
	}
	if res.Aborted != nil {
		p.opts.Log.Warn("smtp.aborted", "relay", p.relay.Name, "email_id", h.env.ID, "error", res.Aborted)
	}
	if res.Blocked > 0 {
		p.noteBlocked(now, res.Blocked, h.maskReply(res.BlockedReply))
	}
	if res.Unanswered != nil {
		p.noteUnanswered(res.Unanswered)
	}
	if res.Delivered > 0 {
		p.rcpts.delivered(now, res.Delivered, s.conn.Recipients(), res.Closing)
		p.guard.noteDelivered(now, h.env.ID)
	}
	var refused *delivery.MailCommand
	if res.RefusedMail {
		refused = &h.mail
	}
	again := res.Faulty() && p.guard.noteFault(now, h.env.ID, refused)
	if len(res.Transcript) == 0 { // nothing was said: the message cannot be sent at all
		return
	}
	if res.RefusesPath {
		p.noteRefusedPath(h, res)
		return
	}
	fault := &delivery.RelayError{Relay: p.relay.Identity(), Reply: h.maskReply(res.Fault), Err: errors.New(h.mask(res.Cause))}
	p.noteVerdict(s, res.Took, res.Verdict, fault, failure{inTransaction: true, mail: refused, perhaps: res.Doubtful, again: again})
}

// maskReply removes this e-mail's addresses and domains from a reply, because other
// e-mails that wait for the same relay show it.
func (h *history) maskReply(r email.Reply) email.Reply {
	r.Text = h.mask(r.Text)
	return r
}

func (h *history) mask(text string) string {
	domains := []string{email.DomainOf(h.env.From)}
	for _, to := range h.env.Recipients {
		domains = append(domains, email.DomainOf(to.Address))
	}
	return email.MaskDomains(text, domains...)
}
