package mail

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// ControlAll carries out an operator's action (cancel, hold or resume) on the e-mails of a reach.
// It passes over e-mails that are finished or that were accepted after it began. It changes up to
// controlChunk of them in one transaction, as Control would one by one. The same transaction orders
// that their runs are woken. After an interruption it can be called again: it passes over the
// e-mails that are done.
//
// An operator's hold of a whole batch is lifted as a whole, if the reach names the batch or all
// mail of its customer.
//
// An e-mail or a batch that does not exist is a CodeNotFound, an e-mail that is finished a
// CodeConflict. A reach that names nothing is a CodeInvalidRequest. progress may be nil; it is
// called after each transaction.
func (s *Store) ControlAll(ctx context.Context, reach delivery.Reach, action email.Action, progress func(delivery.Reached)) (done delivery.Reached, err error) {
	if !reach.Any() {
		return done, email.Fail(email.CodeInvalidRequest, "name an e-mail, a batch, a customer or a domain")
	}
	if err := s.named(ctx, reach); err != nil {
		return done, err
	}
	if action == email.ActionResume && (reach.CustomerID != "" || reach.BatchID != "") && reach.EmailID == "" && reach.RecipientDomain == "" {
		if done.Changed, err = s.resumeBatches(ctx, reach); err != nil {
			return done, err
		}
	}
	var until time.Time
	if err := s.db.NewRaw("SELECT now()").Scan(ctx, &until); err != nil {
		return done, pg.Translate(err)
	}
	last := email.Cursor{ID: delivery.NoOwner}
	for {
		var rows []*emailRow
		if err := s.reached(reach, action, until, last).Scan(ctx, &rows); err != nil {
			return done, pg.Translate(err)
		}
		if len(rows) == 0 {
			return done, nil
		}
		ids := make([]string, len(rows))
		for i, r := range rows {
			ids[i] = r.ID
			last = email.Cursor{At: r.CreatedAt, ID: r.ID}
		}
		part, err := s.controlChunkOf(ctx, ids, action)
		if err != nil {
			return done, err
		}
		done.Changed, done.Kept = done.Changed+part.Changed, done.Kept+part.Kept
		if progress != nil {
			progress(done)
		}
	}
}

// named looks whether the e-mail and the batch that a reach names are there, and whether
// anything can be done about the e-mail: a mistaken id is no success.
func (s *Store) named(ctx context.Context, reach delivery.Reach) error {
	of := func(q *bun.SelectQuery) *bun.SelectQuery {
		if reach.CustomerID != "" {
			q = q.Where("customer_id = ?", reach.CustomerID)
		}
		return q
	}
	if reach.BatchID != "" {
		found, err := of(s.db.NewSelect().Table("batches").Where("id = ?", reach.BatchID)).Exists(ctx)
		if err != nil {
			return pg.Translate(err)
		}
		if !found {
			return pg.NotFound("batch")
		}
	}
	if reach.EmailID == "" {
		return nil
	}
	var status email.Status
	err := of(s.db.NewSelect().Table("emails").Column("status").Where("id = ?", reach.EmailID)).Scan(ctx, &status)
	if errors.Is(err, sql.ErrNoRows) {
		return pg.NotFound("e-mail")
	}
	if err != nil {
		return pg.Translate(err)
	}
	if status.Final() {
		return email.Fail(email.CodeConflict, "the e-mail is %s: nothing will be attempted any more", status)
	}
	return nil
}

// reached finds the next e-mails of a reach, the oldest first.
func (s *Store) reached(reach delivery.Reach, action email.Action, until time.Time, after email.Cursor) *bun.SelectQuery {
	q := s.db.NewSelect().Model((*emailRow)(nil)).Column("e.id", "e.created_at").Where("e.status IN ('queued', 'sending')").
		Where("e.created_at <= ?", until).Where("(e.created_at, e.id) > (?, ?)", after.At, after.ID).Order("e.created_at", "e.id").Limit(controlChunk)
	if reach.EmailID != "" {
		q = q.Where("e.id = ?", reach.EmailID)
	}
	if reach.BatchID != "" {
		q = q.Where("e.batch_id = ?", reach.BatchID)
	}
	if reach.CustomerID != "" {
		q = q.Where("e.customer_id = ?", reach.CustomerID)
	}
	if reach.RecipientDomain != "" {
		open := " AND r.status IN ('queued', 'sending', 'deferred')"
		if action == email.ActionResume {
			open = ""
		}
		q = q.Where("EXISTS (SELECT 1 FROM recipients AS r WHERE r.email_id = e.id AND lower(split_part(r.address, '@', -1)) = ?"+open+")", reach.RecipientDomain)
	}
	switch action {
	case email.ActionHold:
		q = q.Where("NOT (e.held AND e.held_by_operator)")
	case email.ActionResume:
		q = q.Where(operatorMayLift)
	}
	return q
}

// controlChunkOf is one transaction of ControlAll.
func (s *Store) controlChunkOf(ctx context.Context, ids []string, action email.Action) (part delivery.Reached, err error) {
	err = s.update(ctx, ids, func(c *unitOfWork) error {
		part = delivery.Reached{}
		var woken []string
		for _, m := range c.emails {
			if m.Status.Final() {
				continue // it ended before it was locked
			}
			err := c.control(m, email.Control{Action: action}, email.HolderOperator)
			if email.FailureCode(err) == email.CodeConflict {
				part.Kept++
				continue
			}
			if err != nil {
				return err
			}
			if m.dirty {
				part.Changed++
				woken = append(woken, m.ID)
			}
		}
		return c.orderWakes(woken)
	})
	return part, err
}

// resumeBatches ends an operator's hold of whole batches, of all of a customer or of one,
// and counts their e-mails.
func (s *Store) resumeBatches(ctx context.Context, reach delivery.Reach) (emails int, err error) {
	q := s.db.NewSelect().Table("batches").Column("id").Where(operatorMayLift).Order("id")
	if reach.CustomerID != "" {
		q = q.Where("customer_id = ?", reach.CustomerID)
	}
	if reach.BatchID != "" {
		q = q.Where("id = ?", reach.BatchID)
	}
	var ids []string
	if err := q.Scan(ctx, &ids); err != nil {
		return 0, pg.Translate(err)
	}
	for _, id := range ids {
		err := s.inUnit(ctx, func(c *unitOfWork) error {
			changed, err := c.controlBatch(id, email.ActionResume, email.HolderOperator, nil)
			if err != nil {
				return err
			}
			emails += len(changed)
			return c.orderWakes(changed)
		})
		if err != nil {
			return emails, err
		}
	}
	return emails, nil
}
