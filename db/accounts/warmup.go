package accounts

import (
	"context"
	"database/sql"
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

// SetWarmup gives a customer's domain a warm-up plan, in place of any it has; an empty plan ends
// the warm-up. E-mails that wait for a day of the old plan are made due again within ten minutes. A
// domain that the customer does not have is a CodeNotFound, a plan that is not valid a
// CodeInvalidRequest.
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
	if err := s.opts.WarmupChanged(ctx, customerID, name); err != nil {
		return account.Domain{}, err
	}
	return s.Domain(ctx, customerID, name)
}

// Domain reads one domain of a customer, with how far its warm-up has come. A domain that the
// customer does not have is a CodeNotFound.
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
