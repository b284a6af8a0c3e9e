package db

import (
	"slices"
	"time"

	"github.com/postrider/postrider/email"
)

// turn is a recipient's place in a queue: the gate lets it through at its time, and
// then needs no second one.
type turn struct {
	// For is the queue; empty for none.
	For email.ThrottledBy `json:"for,omitempty"`
	At  time.Time         `json:"at,omitzero"`
	// Firm: it is a place. Otherwise it is an appointment.
	Firm bool `json:"firm,omitempty"`
	// Day is the one of its sender's warm-up plan that the recipient is counted on.
	Day string `json:"day,omitempty"`
}

// waits reports whether a recipient's turn is still to come.
func (r *recipientRow) waits(now time.Time) bool {
	return r.Turn != nil && r.Turn.For != "" && r.Turn.At.After(now.Add(opensEarly))
}

// setTurn gives a recipient a turn, and makes it due then.
func (r *recipientRow) setTurn(t turn, now time.Time) {
	r.Turn, r.changed = &t, true
	switch {
	case r.waits(now):
		r.NextAttemptAt = t.At
	case r.NextAttemptAt.After(now):
		r.NextAttemptAt = now
	}
	if t == (turn{}) {
		r.Turn = nil
	}
}

// pace gives recipients that are due the places they need before an attempt may be
// opened at them: on a day of their sender's warm-up plan, and in the queue of their
// own domain. Those that have to wait are not due any more. For many e-mails it takes
// as many statements as for one. What it locks comes last in the order of locks:
// e-mails, domains, rates.
func (c *change) pace(reqs []email.OpenRequest) error {
	var ready []*mail
	for _, req := range reqs {
		m, err := c.mail(req.EmailID)
		if err != nil {
			continue // locked, or not there
		}
		open, err := c.mayOpen(m, req)
		if err != nil {
			return err
		}
		if open && !m.paced {
			m.paced = true
			ready = append(ready, m)
		}
	}
	// Within one transaction, too, transactional mail comes first.
	slices.SortStableFunc(ready, func(a, b *mail) int { return streamOrder(a) - streamOrder(b) })
	if err := c.warmUp(ready); err != nil {
		return err
	}
	if err := c.queueUp(ready); err != nil {
		return err
	}
	for _, m := range ready {
		if slices.ContainsFunc(m.recipients, func(r *recipientRow) bool { return r.changed }) {
			m.dirty = true
			c.settle(m)
		}
	}
	return nil
}

func streamOrder(m *mail) int {
	if m.Stream == email.StreamBroadcast {
		return 1
	}
	return 0
}

// mayOpen reports whether nothing but a rate stands against an attempt.
func (c *change) mayOpen(m *mail, req email.OpenRequest) (bool, error) {
	if m.Status.Final() || m.AttemptOpen || m.Held || req.Attempt != m.Attempts+1 || c.expired(m) {
		return false, nil
	}
	paused, err := c.paused(m, req.Relay.Name)
	return !paused, err
}

// candidates are the recipients that need places: who is due, and who waits for a
// turn, since the queue may have become shorter.
func (c *change) candidates(m *mail) []*recipientRow {
	var out []*recipientRow
	for _, r := range m.recipients {
		if due(r, c.now) || r.waits(c.now) {
			out = append(out, r)
		}
	}
	return out
}

// queuer is one e-mail's recipients at one domain with one turn: they need places
// together.
type queuer struct {
	m          *mail
	recipients []*recipientRow
	queue      email.ThrottledBy
	pace       time.Duration
}

// queueUp sees to the rates of recipients' domains.
func (c *change) queueUp(mails []*mail) error {
	var waiting []queuer
	paces := map[string]time.Duration{}
	for _, m := range mails {
		for _, q := range c.queuers(m) {
			if c.hasTurn(q) {
				continue
			}
			waiting = append(waiting, q)
			paces[string(q.queue)] = q.pace
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	queues, err := lockQueues(c.ctx, c.tx, paces)
	if err != nil {
		return err
	}
	for _, w := range waiting {
		q, had, sooner := queues[string(w.queue)], w.recipients[0].Turn, time.Time{}
		came := had != nil && had.For == w.queue && !had.Firm && !w.recipients[0].waits(c.now)
		if had != nil && had.For == w.queue && w.recipients[0].waits(c.now) {
			sooner = had.At
		}
		at, firm, ok := q.draw(w.m.Stream, len(w.recipients), came, sooner)
		if !ok {
			continue
		}
		for _, r := range w.recipients {
			r.setTurn(turn{For: w.queue, At: at, Firm: firm, Day: r.day()}, c.now)
		}
	}
	return writeQueues(c.ctx, c.late, queues)
}

// queuers are an e-mail's recipients whose domains have a rate. Those whose domain has
// none any more are let go.
func (c *change) queuers(m *mail) []queuer {
	type key struct {
		domain string
		turn   turn
	}
	var keys []key
	groups := map[key][]*recipientRow{}
	for _, r := range c.candidates(m) {
		had := turn{}
		if r.Turn != nil {
			had = *r.Turn
		}
		domain := email.DomainOf(r.Address)
		if had.For == email.WarmupOf(email.DomainOf(m.FromEmail)) && r.waits(c.now) {
			continue // another day
		}
		if c.s.opts.RecipientRates.Of(domain) == 0 {
			if had.For != "" {
				r.setTurn(turn{Day: had.Day}, c.now)
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
	out := make([]queuer, len(keys))
	for i, k := range keys {
		out[i] = queuer{m, groups[k], email.RecipientRate(k.domain), c.s.opts.RecipientRates.Of(k.domain)}
	}
	return out
}

// hasTurn reports whether they have a place and it is their turn. One that came for
// it too late needs another, unless it was the relay that took so long.
func (c *change) hasTurn(q queuer) bool {
	r := q.recipients[0]
	if r.Turn == nil || r.Turn.For != q.queue || !r.Turn.Firm || r.waits(c.now) {
		return false
	}
	at := r.Turn.At
	if q.m.ThrottledUntil.After(at) {
		at = q.m.ThrottledUntil
	}
	return c.now.Sub(at) < placeKept
}

// usedTurn: a retry needs another place, but is not counted twice on a day.
func (r *recipientRow) usedTurn() {
	if r.Turn == nil {
		return
	}
	day := r.Turn.Day
	r.Turn, r.changed = nil, true
	if day != "" {
		r.Turn = &turn{Day: day}
	}
}

func (r *recipientRow) day() string {
	if r.Turn == nil {
		return ""
	}
	return r.Turn.Day
}
