package mail

import (
	"slices"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/pacing"
)

// setTurn gives a recipient a turn, and makes it due then. A zero turn is none.
func (r *recipientRow) setTurn(t pacing.Turn, now time.Time) {
	r.Turn, r.changed = &t, true
	switch {
	case r.Turn.Waits(now):
		r.NextAttemptAt = t.At
	case r.NextAttemptAt.After(now):
		r.NextAttemptAt = now
	}
	if t == (pacing.Turn{}) {
		r.Turn = nil
	}
}

// pace gives recipients that are due the turns they need before an attempt may be opened:
// a day of their sender's warm-up plan, and a slot of the rate of their own domain.
// Recipients that have to wait are not due any more. The number of statements does not
// grow with the number of e-mails. The order of locks is: e-mails, domains, rates.
func (c *unitOfWork) pace(reqs []delivery.OpenRequest) error {
	var ready []*lockedEmail
	for _, req := range reqs {
		m, err := c.find(req.EmailID)
		if err != nil {
			continue // locked, or not there
		}
		open, err := c.mayOpen(m, req)
		if err != nil {
			return err
		}
		if open && !m.paced {
			m.paced = true
			c.suppress(m)
			ready = append(ready, m)
		}
	}
	// Within one transaction, too, transactional mail comes first.
	slices.SortStableFunc(ready, func(a, b *lockedEmail) int { return streamOrder(a) - streamOrder(b) })
	if err := c.warmUp(ready); err != nil {
		return err
	}
	if err := c.takeSlots(ready); err != nil {
		return err
	}
	for _, m := range ready {
		if slices.ContainsFunc(m.recipients, func(r *recipientRow) bool { return r.changed }) {
			m.dirty = true
			c.deriveStatus(m)
		}
	}
	return nil
}

func streamOrder(m *lockedEmail) int {
	if m.Stream == email.StreamBroadcast {
		return 1
	}
	return 0
}

// mayOpen reports whether nothing but a rate stands against an attempt.
func (c *unitOfWork) mayOpen(m *lockedEmail, req delivery.OpenRequest) (bool, error) {
	if m.Status.Final() || m.AttemptOpen || m.Held || req.Attempt != m.Attempts+1 || c.expired(m) {
		return false, nil
	}
	paused, err := c.paused(m, req.Relay.Name)
	return !paused, err
}

// candidates are the recipients that need turns: those that are due, and those that
// wait for a turn, since a sooner one may have become free.
func (c *unitOfWork) candidates(m *lockedEmail) []*recipientRow {
	var out []*recipientRow
	for _, r := range m.recipients {
		if due(r, c.now) || r.Turn.Waits(c.now) {
			out = append(out, r)
		}
	}
	return out
}

// paceGroup is one e-mail's recipients at one domain that have the same turn: they take
// slots together.
type paceGroup struct {
	m          *lockedEmail
	recipients []*recipientRow
	rate       email.ThrottledBy
	pace       time.Duration
}

// turn is what all of them have at the moment.
func (g paceGroup) turn() *pacing.Turn { return g.recipients[0].Turn }

// takeSlots gives recipients slots, or estimates, of the rates of their domains.
func (c *unitOfWork) takeSlots(mails []*lockedEmail) error {
	var waiting []paceGroup
	paces := map[string]time.Duration{}
	for _, m := range mails {
		for _, g := range c.paceGroups(m) {
			if g.turn().HasSlot(g.rate, m.ThrottledUntil, c.now) {
				continue
			}
			waiting = append(waiting, g)
			paces[string(g.rate)] = g.pace
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	rates, err := lockRates(c.ctx, c.tx, paces)
	if err != nil {
		return err
	}
	for _, g := range waiting {
		r := rates[string(g.rate)]
		slot, ok := r.clock.Take(r.now, g.turn().Request(g.rate, g.m.Stream, len(g.recipients), c.now))
		if !ok {
			continue
		}
		if !slot.At.After(r.now) && slot.At.After(c.now) {
			slot.At = c.now // it came while the transaction waited for the rate's lock
		}
		for _, rec := range g.recipients {
			rec.setTurn(pacing.Turn{For: g.rate, At: slot.At, Reserved: slot.Reserved, Day: rec.Turn.CountedOn()}, c.now)
		}
	}
	return writeRates(c.ctx, c.late, rates)
}

// paceGroups are an e-mail's recipients whose domains have a rate. Recipients whose
// domain has none any more lose their turn.
func (c *unitOfWork) paceGroups(m *lockedEmail) []paceGroup {
	type key struct {
		domain string
		turn   pacing.Turn
	}
	var keys []key
	groups := map[key][]*recipientRow{}
	for _, r := range c.candidates(m) {
		had := pacing.Turn{}
		if r.Turn != nil {
			had = *r.Turn
		}
		domain := email.DomainOf(r.Address)
		if had.For == email.WarmupOf(email.DomainOf(m.FromEmail)) && r.Turn.Waits(c.now) {
			continue // another day
		}
		if c.s.opts.RecipientRates.Of(domain) == 0 {
			if had.For != "" {
				r.setTurn(pacing.Turn{Day: had.Day}, c.now)
			}
			continue
		}
		had.Day = ""
		k := key{domain, had}
		if groups[k] == nil {
			keys = append(keys, k)
		}
		groups[k] = append(groups[k], r)
	}
	out := make([]paceGroup, len(keys))
	for i, k := range keys {
		out[i] = paceGroup{m, groups[k], email.RecipientRate(k.domain), c.s.opts.RecipientRates.Of(k.domain)}
	}
	return out
}

// spendTurn takes a recipient's turn away, because it is being tried.
func (r *recipientRow) spendTurn() {
	if r.Turn != nil {
		r.Turn, r.changed = r.Turn.Spent(), true
	}
}
