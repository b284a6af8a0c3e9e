package mail

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// ControlBatchFor is ControlBatch on behalf of a customer. wakes include the order to wake the
// batch's run, unless all its e-mails were finished before. A batch of another customer is a
// CodeNotFound.
func (s *Store) ControlBatchFor(ctx context.Context, customerID, id string, action email.Action) (p email.BatchProgress, wakes []string, err error) {
	if _, err = s.batchRow(ctx, customerID, id, "b.id"); err != nil {
		return p, nil, err
	}
	if wakes, err = s.controlBatch(ctx, id, action, email.HolderCustomer, func(*lockedEmail) bool { return true }); err != nil {
		return p, nil, err
	}
	p, err = s.Batch(ctx, customerID, id)
	return p, wakes, err
}

// controlChunk is how many of a batch's e-mails are read and written together.
const controlChunk = 250

// ControlBatch cancels, holds or resumes for an operator all e-mails of a batch that are not
// finished, those with runs of their own included: all of them, or none if it fails. The gate opens
// no attempt of the batch meanwhile. Doing it again is harmless. wakes are the orders to wake the
// e-mails' own runs, leased to the caller for delivery.WakeLease. The batch's run gets none: it
// carries out the action.
//
// Resuming ends the operator's holds. If there are only a customer's, it is a CodeConflict. A batch
// that does not exist is a CodeNotFound.
func (s *Store) ControlBatch(ctx context.Context, id string, action email.Action) (wakes []string, err error) {
	return s.controlBatch(ctx, id, action, email.HolderOperator, func(m *lockedEmail) bool { return !m.batched() })
}

// controlBatch is ControlBatch on behalf of a holder. It orders the wake-ups of the e-mails that
// woken chooses.
func (s *Store) controlBatch(ctx context.Context, id string, action email.Action, by email.Holder, woken func(*lockedEmail) bool) ([]string, error) {
	var runs runsToWake
	err := s.inUnit(ctx, func(c *unitOfWork) error {
		_, err := c.controlBatch(id, action, by, func(m *lockedEmail) {
			if woken(m) {
				runs.add(m)
			}
		})
		if err != nil {
			return err
		}
		return c.leaseWakes(runs, delivery.WakeLease)
	})
	return runs.ids(), err
}

// controlBatch carries out an action on a batch in c's transaction, and returns the ids of the
// e-mails that it changed. It calls each, which may be nil, for every unfinished e-mail.
func (c *unitOfWork) controlBatch(id string, action email.Action, by email.Holder, each func(*lockedEmail)) (changed []string, err error) {
	ids, err := c.lockBatch(id)
	if err != nil {
		return nil, err
	}
	lifted, err := c.holdBatch(id, action, by, len(ids) > 0)
	if err != nil {
		return nil, err
	}
	kept := false
	for chunk := range slices.Chunk(ids, controlChunk) {
		c.emails = nil
		if err := c.read(chunk); err != nil {
			return nil, err
		}
		for _, m := range c.emails {
			if action == email.ActionResume && m.Held && !m.mine(by) {
				kept = true
				continue
			}
			if err := c.act(m, email.Control{Action: action}, by); err != nil {
				return nil, err
			}
			if m.dirty {
				changed = append(changed, m.ID)
			}
		}
		if err := c.flush(); err != nil {
			return nil, err
		}
		if err := c.tx.Flush(c.ctx); err != nil { // what waits for the commit is in memory
			return nil, fmt.Errorf("control a batch: %w", err)
		}
		if each != nil {
			for _, m := range c.emails {
				each(m)
			}
		}
	}
	if kept && !lifted && len(changed) == 0 {
		return nil, othersHold("batch", by)
	}
	return changed, nil
}

// holdBatch notes on the batch itself whether it is held and by whom. It reports whether a
// hold has been lifted.
func (c *unitOfWork) holdBatch(id string, action email.Action, by email.Holder, open bool) (lifted bool, err error) {
	var row batchRow
	err = c.tx.NewRaw("SELECT customer_id, held, held_by_customer, held_by_operator FROM batches WHERE id = ? FOR NO KEY UPDATE", id).Scan(c.ctx, &row)
	if errors.Is(err, sql.ErrNoRows) {
		return false, pg.NotFound("batch")
	}
	if err != nil {
		return false, fmt.Errorf("lock batch: %w", err)
	}
	switch {
	case action == email.ActionResume:
		if lifted = row.lift(by); !lifted && row.Held {
			return false, othersHold("batch", by)
		}
	case action == email.ActionHold && open:
		row.hold(by)
	default:
		row.holds = holds{}
	}
	_, err = c.tx.NewRaw("UPDATE batches SET held = ?, held_by_customer = ?, held_by_operator = ? WHERE id = ?", row.Held, row.HeldByCustomer, row.HeldByOperator, id).Exec(c.ctx)
	if err != nil {
		return false, fmt.Errorf("update batch: %w", err)
	}
	return lifted, audit.Write(c.ctx, c.tx, row.CustomerID, "batch."+string(action), id, "")
}

// lockBatch locks the e-mails of a batch that are not finished, in the order that update keeps to,
// and returns their ids.
func (c *unitOfWork) lockBatch(id string) (ids []string, err error) {
	const open = "FROM emails WHERE batch_id = ? AND status IN ('queued', 'sending') ORDER BY id"
	c.lockRows("SELECT 1 "+open, id)
	if err := c.tx.NewRaw("SELECT id "+open, id).Scan(c.ctx, &ids); err != nil {
		return nil, fmt.Errorf("lock e-mails of a batch: %w", err)
	}
	return ids, nil
}
