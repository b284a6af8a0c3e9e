package mail

import (
	"context"
	"encoding/json"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/pacing"
)

// warmupRow is a domain that is being warmed up.
type warmupRow struct {
	ID         string    `bun:"id"`
	CustomerID string    `bun:"customer_id"`
	Name       string    `bun:"name"`
	Plan       []int     `bun:"warmup_plan,array"`
	From       time.Time `bun:"warmup_from"`
}

// warmupDay is a row of the table warmup_days: how many recipients are counted on a day.
type warmupDay struct {
	DomainID      string `json:"domain_id" bun:"domain_id"`
	Day           string `json:"day" bun:"day"`
	Transactional int    `json:"transactional" bun:"transactional"`
	Broadcast     int    `json:"broadcast" bun:"broadcast"`
}

// lockedPlan is the plan of a locked domain.
type lockedPlan struct {
	pacing.Plan
	domainID string
}

// warmUp counts recipients on the days of their senders' warm-up plans. Each recipient
// is counted once for every day on which it is tried.
func (c *unitOfWork) warmUp(mails []*lockedEmail) error {
	today := pacing.Midnight(c.now)
	type key struct {
		CustomerID string `json:"customer_id"`
		Domain     string `json:"name"`
	}
	wanting := map[key][]*recipientRow{}
	streams := map[*recipientRow]email.Stream{}
	var order []key
	for _, m := range mails {
		k := key{m.CustomerID, email.DomainOf(m.FromEmail)}
		for _, r := range c.candidates(m) {
			switch {
			case r.Turn.CountedOn() == today.Format(time.DateOnly), r.Turn.Waits(c.now):
				continue
			case !m.anyWarmup:
				r.count(pacing.Turn{}, c.now)
				continue
			}
			if wanting[k] == nil {
				order = append(order, k)
			}
			wanting[k] = append(wanting[k], r)
			streams[r] = m.Stream
		}
	}
	if len(order) == 0 {
		return nil
	}
	wants, err := json.Marshal(order)
	if err != nil {
		return pg.Wrap("encode senders", err)
	}
	plans, err := c.plans(string(wants), today)
	if err != nil {
		return err
	}
	for _, k := range order {
		p := plans[k.CustomerID+" "+k.Domain]
		for _, r := range wanting[k] {
			t := pacing.Turn{}
			if p != nil {
				t = p.Assign(streams[r], today)
			}
			r.count(t, c.now)
		}
	}
	return c.writePlans(plans)
}

// count gives a recipient the turn that its sender's plan assigned.
func (r *recipientRow) count(assigned pacing.Turn, now time.Time) {
	t := r.Turn.Counted(assigned)
	if r.Turn != nil || t != (pacing.Turn{}) {
		r.setTurn(t, now)
	}
}

// plans locks the domains, by customer and name, that are being warmed up today.
func (c *unitOfWork) plans(wants string, today time.Time) (map[string]*lockedPlan, error) {
	var rows []warmupRow
	err := c.tx.NewRaw(`SELECT d.id, d.customer_id, d.name, d.warmup_plan, d.warmup_from FROM domains AS d
		JOIN jsonb_to_recordset(?0::jsonb) AS v(customer_id uuid, name text) ON v.customer_id = d.customer_id AND v.name = d.name
		WHERE d.warmup_from <= ?1::date AND d.warmup_until > ?1::date ORDER BY d.id FOR NO KEY UPDATE OF d`,
		wants, today.Format(time.DateOnly)).Scan(c.ctx, &rows)
	if err != nil || len(rows) == 0 {
		return nil, pg.Wrap("lock warm-up plans", err)
	}
	byID, out := map[string]*lockedPlan{}, map[string]*lockedPlan{}
	ids := make([]string, len(rows))
	for i, r := range rows {
		p := &lockedPlan{pacing.Plan{Domain: r.Name, Limits: account.Warmup{Plan: r.Plan, From: r.From}, Days: map[string]*pacing.DayCount{}}, r.ID}
		ids[i], byID[r.ID], out[r.CustomerID+" "+r.Name] = r.ID, p, p
	}
	var days []*warmupDay
	err = c.tx.NewRaw(`SELECT domain_id, to_char(day, 'YYYY-MM-DD') AS day, transactional, broadcast FROM warmup_days
		WHERE domain_id IN (?) AND day >= ?::date`, bun.List(ids), today.Format(time.DateOnly)).Scan(c.ctx, &days)
	for _, d := range days {
		byID[d.DomainID].Days[d.Day] = &pacing.DayCount{Day: d.Day, Transactional: d.Transactional, Broadcast: d.Broadcast}
	}
	return out, pg.Wrap("read warm-up days", err)
}

func (c *unitOfWork) writePlans(plans map[string]*lockedPlan) error {
	var days []warmupDay
	for _, p := range plans {
		for _, d := range p.Changed {
			days = append(days, warmupDay{p.domainID, d.Day, d.Transactional, d.Broadcast})
		}
	}
	if len(days) == 0 {
		return nil
	}
	data, err := json.Marshal(days)
	if err != nil {
		return pg.Wrap("encode warm-up days", err)
	}
	_, err = c.late.NewRaw(`INSERT INTO warmup_days (domain_id, day, transactional, broadcast)
		SELECT v.* FROM jsonb_to_recordset(?::jsonb) AS v(domain_id uuid, day date, transactional integer, broadcast integer)
		ON CONFLICT (domain_id, day) DO UPDATE SET transactional = excluded.transactional, broadcast = excluded.broadcast`, string(data)).Exec(c.ctx)
	return pg.Wrap("write warm-up days", err)
}

// releaseChunk is how many e-mails are made due together.
const releaseChunk = 500

// ReleaseWarmup makes due again the e-mails that wait for another day of a domain's warm-up plan.
// It marks them as kept by a pause that has ended: the sweep for those makes them due, and wakes
// their runs.
func (s *Store) ReleaseWarmup(ctx context.Context, customerID, name string) error {
	for after := "00000000-0000-0000-0000-000000000000"; ; {
		var ids []string
		err := s.db.NewRaw("SELECT id FROM emails WHERE throttled_by = ? AND customer_id = ? AND id > ? ORDER BY id LIMIT ?",
			email.WarmupOf(name), customerID, after, releaseChunk).Scan(ctx, &ids)
		if err != nil || len(ids) == 0 {
			return pg.Translate(err)
		}
		err = s.update(ctx, ids, func(c *unitOfWork) error {
			for _, m := range c.emails {
				for _, r := range m.recipients {
					if r.Turn != nil && r.Turn.For == email.WarmupOf(name) && r.Turn.Waits(c.now) {
						r.setTurn(pacing.Turn{}, c.now)
						m.Paused, m.dirty = true, true
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		after = ids[len(ids)-1]
	}
}
