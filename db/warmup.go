package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/postrider/postrider/db/internal/audit"
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
func (c *change) warmUp(mails []*mail) error {
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
func (c *change) plans(wants string, today time.Time) (map[string]*lockedPlan, error) {
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

func (c *change) writePlans(plans map[string]*lockedPlan) error {
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

// SetWarmup gives a customer's domain a warm-up plan, in place of any it has, or none
// where the plan is empty. Mail that waits for a day of the old plan is looked at anew,
// within ten minutes. The domain has to be there.
func (s *Store) SetWarmup(ctx context.Context, customerID, name string, w account.Warmup) (account.Domain, error) {
	detail := "off"
	var plan, from any
	if len(w.Plan) > 0 {
		if err := w.Check(); err != nil {
			return account.Domain{}, email.Fail(email.CodeInvalidRequest, "%s", err)
		}
		detail = fmt.Sprintf("%d days from %s", len(w.Plan), pacing.Midnight(w.From).Format(time.DateOnly))
		plan, from = pgdialect.Array(w.Plan), pacing.Midnight(w.From).Format(time.DateOnly)
	}
	err := s.db.InTx(ctx, func(tx bun.Tx) error {
		// Days of another plan that begins on another day count as they are: what has
		// gone out today has gone out. Places on days to come are given away anew.
		var id string
		err := tx.NewRaw(`UPDATE domains SET warmup_plan = ?0::integer[], warmup_from = ?1::date, warmup_until = ?1::date + cardinality(?0::integer[])
			WHERE customer_id = ?2 AND name = ?3 RETURNING id`, plan, from, customerID, name).Scan(ctx, &id)
		if errors.Is(err, sql.ErrNoRows) {
			return pg.NotFound("domain")
		}
		if err != nil {
			return err
		}
		if _, err := tx.NewRaw("DELETE FROM warmup_days WHERE domain_id = ? AND day > (now() AT TIME ZONE 'UTC')::date", id).Exec(ctx); err != nil {
			return err
		}
		return audit.Write(ctx, tx, customerID, "domain.warmup", name, detail)
	})
	if err != nil {
		return account.Domain{}, err
	}
	if err := s.releaseWarmup(ctx, customerID, name); err != nil {
		return account.Domain{}, err
	}
	return s.Domain(ctx, customerID, name)
}

// Domain reads one domain of a customer, with how far its warm-up has come.
func (s *Store) Domain(ctx context.Context, customerID, name string) (account.Domain, error) {
	var row struct {
		domainRow
		Plan          []int     `bun:"warmup_plan,array"`
		From          time.Time `bun:"warmup_from,nullzero"`
		Day           int       `bun:"day"`
		Transactional int       `bun:"transactional"`
		Broadcast     int       `bun:"broadcast"`
		Waiting       int       `bun:"waiting"`
	}
	err := s.db.NewRaw(`SELECT d.id, d.customer_id, d.name, d.verified_at, d.created_at, d.warmup_plan, d.warmup_from, coalesce((now() AT TIME ZONE 'UTC')::date - d.warmup_from + 1, 0) AS day,
			coalesce(w.transactional, 0) AS transactional, coalesce(w.broadcast, 0) AS broadcast,
			(SELECT count(*) FROM emails AS e WHERE e.throttled_by = ?2 AND e.customer_id = d.customer_id) AS waiting
		FROM domains AS d LEFT JOIN warmup_days AS w ON w.domain_id = d.id AND w.day = (now() AT TIME ZONE 'UTC')::date
		WHERE d.customer_id = ?0 AND d.name = ?1`, customerID, name, email.WarmupOf(name)).Scan(ctx, &row)
	if errors.Is(err, sql.ErrNoRows) {
		return account.Domain{}, pg.NotFound("domain")
	}
	d := row.domain()
	if len(row.Plan) > 0 {
		d.Warmup = account.Warmup{Plan: row.Plan, From: pg.UTC(row.From), Day: row.Day, Used: row.Transactional + row.Broadcast, UsedByBroadcast: row.Broadcast, Waiting: row.Waiting}
	}
	return d, pg.Translate(err)
}

// releaseChunk is how many e-mails are made due together.
const releaseChunk = 500

// releaseWarmup lets go what waits for another day, as if a pause had kept it: the sweep
// for that makes it due, and wakes its runs.
func (s *Store) releaseWarmup(ctx context.Context, customerID, name string) error {
	for after := "00000000-0000-0000-0000-000000000000"; ; {
		var ids []string
		err := s.db.NewRaw("SELECT id FROM emails WHERE throttled_by = ? AND customer_id = ? AND id > ? ORDER BY id LIMIT ?",
			email.WarmupOf(name), customerID, after, releaseChunk).Scan(ctx, &ids)
		if err != nil || len(ids) == 0 {
			return pg.Translate(err)
		}
		err = s.change(ctx, ids, func(c *change) error {
			for _, m := range c.mails {
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
