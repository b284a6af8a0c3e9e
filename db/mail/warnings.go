package mail

import (
	"context"
	"sync"
	"time"

	"github.com/postrider/postrider/db/accounts"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

const (
	// warnTimeout bounds what a refusal's warning may take of the call that recorded the refusal.
	warnTimeout = 5 * time.Second
	// maxWarnings is how many domains a process remembers as warned of.
	maxWarnings = 10_000
)

// warnedDomain is a sender's domain of a customer.
type warnedDomain struct{ customerID, domain string }

// warnings remember which customers have been warned of which domains, so that each further refusal costs no statement.
type warnings struct {
	mu   sync.Mutex
	next map[warnedDomain]time.Time
}

// due reports whether a refusal at that time may lead to a warning.
func (w *warnings) due(d warnedDomain, at time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !at.Before(w.next[d])
}

// note notes from when on a refusal may lead to another warning.
func (w *warnings) note(d warnedDomain, next time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.next) >= maxWarnings || w.next == nil {
		w.next = map[warnedDomain]time.Time{} // the database knows them
	}
	w.next[d] = next
}

// noteAuthRefusal notes the reply of a server that does not find the mail of an e-mail's sender authenticated. Of several
// in this change, the first of each domain counts.
func (c *unitOfWork) noteAuthRefusal(m *lockedEmail, o delivery.Outcome, reply email.Reply) {
	d := warnedDomain{m.CustomerID, email.DomainOf(m.FromEmail)}
	if _, known := c.refusals[d]; known {
		return
	}
	if c.refusals == nil {
		c.refusals = map[warnedDomain]accounts.AuthRefusal{}
	}
	fault := o.Auth
	if fault == "" { // the attempt was made by another version
		fault = delivery.AuthAny
	}
	c.refusals[d] = accounts.AuthRefusal{CustomerID: d.customerID, Domain: d.domain, EmailID: m.ID,
		Fault: string(fault), Remedy: fault.Remedy(d.domain, m.BounceHost), Reply: reply}
}

// warnOfRefusals warns the customers of the refusals of a change that is committed. A warning that fails is logged: the
// next refusal leads to one.
func (s *Store) warnOfRefusals(ctx context.Context, c *unitOfWork) {
	for d, r := range c.refusals {
		if !s.warnings.due(d, c.now) {
			continue
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), warnTimeout)
		next, err := s.accounts.WarnOfRefusal(ctx, r)
		cancel()
		if err != nil {
			s.opts.Log.ErrorContext(ctx, "domain.warning_lost", "customer_id", r.CustomerID, "domain", r.Domain, "email_id", r.EmailID, "error", err)
			continue
		}
		s.warnings.note(d, next)
	}
}
