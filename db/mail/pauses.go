package mail

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/delivery"
)

type pauseRow struct {
	bun.BaseModel `bun:"table:pauses,alias:p"`

	Scope     email.PauseScope `bun:"scope,pk"`
	Key       string           `bun:"key,pk"`
	Reason    string           `bun:"reason"`
	SetBy     string           `bun:"set_by"`
	CreatedAt time.Time        `bun:"created_at,nullzero,default:now()"`
}

// Pause stops mail: from the next check at the gate on, no attempt begins that the pause covers.
// Open attempts end normally. Pausing again changes the reason and who set the pause. A customer that
// does not exist is a CodeNotFound.
func (s *Store) Pause(ctx context.Context, p email.Pause) (email.Pause, error) {
	if id := p.CustomerID(); id != "" {
		if _, err := s.accounts.Customer(ctx, id); err != nil {
			return email.Pause{}, err
		}
	}
	row := newPauseRow(ctx, p)
	err := s.db.InTx(ctx, func(tx bun.Tx) error {
		_, err := tx.NewInsert().Model(&row).On("CONFLICT (scope, key) DO UPDATE").Set("reason = EXCLUDED.reason, set_by = EXCLUDED.set_by").Returning("*").Exec(ctx)
		if err != nil {
			return err
		}
		return auditPause(ctx, tx, p)
	})
	return row.pause(), err
}

// SetPause pauses in a transaction of another part, unless the scope is paused already: that pause
// stays as it is. It reports whether it set one.
func SetPause(ctx context.Context, tx bun.Tx, p email.Pause) (bool, error) {
	row := newPauseRow(ctx, p)
	res, err := tx.NewInsert().Model(&row).On("CONFLICT (scope, key) DO NOTHING").Returning("NULL").Exec(ctx)
	if err != nil {
		return false, fmt.Errorf("set pause: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return false, err
	}
	return true, auditPause(ctx, tx, p)
}

func newPauseRow(ctx context.Context, p email.Pause) pauseRow {
	return pauseRow{Scope: p.Scope, Key: p.Key, Reason: p.Reason, SetBy: account.ActorOf(ctx).Name}
}

func auditPause(ctx context.Context, tx bun.Tx, p email.Pause) error {
	return audit.Write(ctx, tx, p.CustomerID(), "pause.set", string(p.Scope)+" "+p.Key, p.Reason)
}

func (r *pauseRow) pause() email.Pause {
	return email.Pause{Scope: r.Scope, Key: r.Key, Reason: r.Reason, SetBy: r.SetBy, CreatedAt: pg.UTC(r.CreatedAt)}
}

// Unpause removes a pause; a sweep finds the mail that it stopped. A pause that does not exist is a
// CodeNotFound.
func (s *Store) Unpause(ctx context.Context, p email.Pause) error {
	return s.db.InTx(ctx, func(tx bun.Tx) error {
		res, err := tx.NewDelete().Model((*pauseRow)(nil)).Where("scope = ?", p.Scope).Where("key = ?", p.Key).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, pg.NotFound("pause"))
		}
		return audit.Write(ctx, tx, p.CustomerID(), "pause.lifted", string(p.Scope)+" "+p.Key, "")
	})
}

// Pauses lists what is paused, oldest first, with how many e-mails wait.
func (s *Store) Pauses(ctx context.Context) (ps []email.Pause, waiting int, err error) {
	var rows []pauseRow
	if err := s.db.NewSelect().Model(&rows).Order("p.created_at").Scan(ctx); err != nil {
		return nil, 0, pg.Translate(err)
	}
	for _, r := range rows {
		ps = append(ps, r.pause())
	}
	err = s.db.NewRaw("SELECT count(*) FROM emails WHERE paused").Scan(ctx, &waiting)
	return ps, waiting, pg.Translate(err)
}

// covers is the condition under which a pause p stands against an e-mail e on its
// way to a relay.
const covers = `(p.scope = 'installation' OR (p.scope = 'customer' AND p.key = e.customer_id::text)
	OR (p.scope = 'stream' AND p.key = e.stream) OR (p.scope = 'relay' AND p.key = e.paused_relay)
	OR (p.scope = 'domain_stream' AND p.key = e.customer_id::text || '/' || lower(split_part(e.from_email, '@', -1)) || '/' || e.stream))`

// paused reports whether a pause stands against an e-mail that a session with
// the relay was taken for.
func (c *unitOfWork) paused(m *lockedEmail, relay string) (bool, error) {
	scope, err := c.pausedBy(m, relay)
	return scope != "", err
}

// pauseKey is what of an e-mail decides which pauses cover it.
type pauseKey struct {
	customerID, fromEmail, relay string
	stream                       email.Stream
}

// pausedBy is the scope of the oldest pause that covers an e-mail; empty if none does. The relay is
// known only after a session was taken. The e-mails of a transaction that are alike are looked up once.
func (c *unitOfWork) pausedBy(m *lockedEmail, relay string) (scope email.PauseScope, err error) {
	if !m.anyPause {
		return "", nil
	}
	key := pauseKey{m.CustomerID, m.FromEmail, relay, m.Stream}
	if scope, ok := c.pauses[key]; ok {
		return scope, nil
	}
	err = c.tx.NewRaw(`SELECT coalesce((SELECT p.scope FROM pauses AS p, (SELECT ?::uuid AS customer_id, ? AS from_email, ? AS stream, ? AS paused_relay) AS e
		WHERE `+covers+` ORDER BY p.created_at LIMIT 1), '')`,
		m.CustomerID, m.FromEmail, string(m.Stream), relay).Scan(c.ctx, &scope)
	if err != nil {
		return "", fmt.Errorf("read pauses: %w", err)
	}
	if c.pauses == nil {
		c.pauses = map[pauseKey]email.PauseScope{}
	}
	c.pauses[key] = scope
	return scope, nil
}

// pause notes that the gate turned an e-mail away. It waits for a wake-up, and
// for its deadline if it has one.
func (c *unitOfWork) pause(m *lockedEmail, relay string) {
	m.Paused, m.PausedRelay, m.dirty = true, relay, true
	c.deriveStatus(m)
}

// ClaimUnpaused finds up to limit e-mails that a pause stopped and none stops any more,
// and makes them due. In the same transaction it orders that their runs are woken, and leases
// the orders for so long; see ClaimWakes. The run of a batch comes once; there may be more as
// long as there is any.
func (s *Store) ClaimUnpaused(ctx context.Context, lease time.Duration, limit int) ([]delivery.Wake, error) {
	var ids []string
	err := s.db.NewRaw(`SELECT e.id FROM emails AS e WHERE e.paused AND NOT EXISTS (SELECT 1 FROM pauses AS p WHERE `+covers+`)
		ORDER BY e.id LIMIT ?`, limit).Scan(ctx, &ids)
	if err != nil || len(ids) == 0 {
		return nil, pg.Translate(err)
	}
	var runs runsToWake
	err = s.update(ctx, ids, func(c *unitOfWork) error {
		for _, m := range c.emails {
			if m.Paused {
				m.Paused, m.PausedRelay, m.dirty = false, "", true
				runs.add(m)
			}
		}
		return c.leaseWakes(runs, lease)
	})
	return runs.wakes, err
}
