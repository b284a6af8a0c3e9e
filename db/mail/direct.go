package mail

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

func directEmail(ctx context.Context, idb bun.IDB, d delivery.DirectStart) (*delivery.DirectEmail, error) {
	var row struct {
		delivery.DirectEmail
		Status email.Status
	}
	name, keyed := d.Name()
	err := idb.NewRaw(`SELECT d.email_id, d.created_at AS accepted_at, d.run_id, d.fingerprint, e.workflow_id AS owner, e.status
		FROM direct_starts AS d JOIN emails AS e ON e.id = d.email_id
		WHERE d.customer_id = ? AND d.namespace = ? AND d.keyed = ? AND d.name = ?`, d.CustomerID, d.Namespace, keyed, name).Scan(ctx, &row)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	row.Final, row.AcceptedAt = row.Status.Final(), pg.UTC(row.AcceptedAt)
	return &row.DirectEmail, nil
}

// DirectEmail finds the e-mail that was accepted under a direct start's name, nil
// if there is none.
func (s *Store) DirectEmail(ctx context.Context, d delivery.DirectStart) (*delivery.DirectEmail, error) {
	out, err := directEmail(ctx, s.db, d)
	return out, pg.Translate(err)
}

// AcceptDirect stores the message of a run that exists, as an e-mail of that run's workflow id. The
// same message under the same name is accepted once, however often and however concurrently it
// comes. Another message under that name is a CodeIdempotencyConflict. It refuses what Accept
// refuses.
func (s *Store) AcceptDirect(ctx context.Context, m email.Message, d delivery.DirectStart) (out delivery.DirectEmail, err error) {
	release, err := s.solo.Acquire(ctx, d.CustomerID)
	if err != nil {
		return out, err
	}
	defer release()
	if err := s.leaveWorkflowID(ctx, d); err != nil {
		return out, err
	}
	id := pg.NewID()
	err = s.inUnit(ctx, func(c *unitOfWork) error {
		name, keyed := d.Name()
		// A start of the same name at the same time waits here for the first to commit.
		res, err := c.tx.NewRaw(`INSERT INTO direct_starts (customer_id, namespace, keyed, name, workflow_id, run_id, fingerprint, email_id)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			d.CustomerID, d.Namespace, keyed, name, d.WorkflowID, d.RunID, d.Fingerprint, id).Exec(ctx)
		if err != nil {
			return fmt.Errorf("reserve direct start: %w", err)
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n == 1 {
			es, err := c.accept([]acceptance{{id: id, workflowID: d.WorkflowID, customerID: d.CustomerID, message: m}})
			if err != nil {
				return err
			}
			out = delivery.DirectEmail{EmailID: id, AcceptedAt: es[0].CreatedAt, RunID: d.RunID, Fingerprint: d.Fingerprint, Owner: d.WorkflowID}
			return nil
		}
		earlier, err := directEmail(ctx, c.tx, d)
		if err == nil && earlier == nil {
			err = errors.New("the direct start's e-mail went away while it was read")
		}
		if err != nil {
			return err
		}
		if out = *earlier; out.Fingerprint != d.Fingerprint {
			return conflictingStart(d)
		}
		return nil
	})
	return out, err
}

func conflictingStart(d delivery.DirectStart) *email.Failure {
	if d.Key != "" {
		return email.Fail(email.CodeIdempotencyConflict, "this idempotency_key was used for another message; use a new key for a new message")
	}
	return email.Fail(email.CodeIdempotencyConflict, "this workflow id was used for another message; start under a new workflow id, or give an idempotency_key")
}

// leaveWorkflowID takes a workflow id from unfinished e-mails of runs that have ended: no signal
// would reach them under it. They are held, because their run may have been terminated, which means
// stop.
func (s *Store) leaveWorkflowID(ctx context.Context, d delivery.DirectStart) error {
	name, keyed := d.Name()
	var ids []string
	err := s.db.NewRaw(`SELECT e.id FROM direct_starts AS d JOIN emails AS e ON e.id = d.email_id AND e.workflow_id = d.workflow_id
		WHERE d.workflow_id = ?0 AND d.run_id <> ?1 AND e.status IN ('queued', 'sending')
		AND NOT (d.customer_id = ?2 AND d.namespace = ?3 AND d.keyed = ?4 AND d.name = ?5)`,
		d.WorkflowID, d.RunID, d.CustomerID, d.Namespace, keyed, name).Scan(ctx, &ids)
	if err != nil || len(ids) == 0 {
		return pg.Translate(err)
	}
	return s.update(ctx, ids, func(c *unitOfWork) error {
		for _, m := range c.emails {
			if m.Status.Final() {
				continue
			}
			if err := c.control(m, email.Control{Action: email.ActionHold}, email.HolderOperator); err != nil {
				return err
			}
			if _, err := c.tx.NewRaw("UPDATE emails SET workflow_id = ? WHERE id = ?", email.WorkflowIDPrefix+m.ID, m.ID).Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// LeaveWorkflowID gives an unfinished e-mail a workflow id of our own: its caller uses
// the other one for something else by now.
func (s *Store) LeaveWorkflowID(ctx context.Context, emailID string) (workflowID string, err error) {
	workflowID = email.WorkflowIDPrefix + emailID
	_, err = s.db.NewRaw("UPDATE emails SET workflow_id = ? WHERE id = ? AND status IN ('queued', 'sending')", workflowID, emailID).Exec(ctx)
	return workflowID, pg.Translate(err)
}
