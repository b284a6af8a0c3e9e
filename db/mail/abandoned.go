package mail

import (
	"context"
	"fmt"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
)

// settleHeld ends of a batch that is held the attempts that their owners have abandoned, and then
// the e-mails that have expired: they come to no other gate. It leaves out e-mails that another
// transaction has locked.
func (s *Store) settleHeld(ctx context.Context, id string) error {
	if err := s.endAbandoned(ctx, id); err != nil {
		return err
	}
	return s.expireHeld(ctx, id)
}

// endAbandoned ends the abandoned attempts at a batch's e-mails, many in a transaction.
func (s *Store) endAbandoned(ctx context.Context, batchID string) error {
	abandoned := freeEmails{
		where: `e.batch_id = ?0 AND e.workflow_id = ?1 AND e.status IN ('queued', 'sending') AND e.attempt_open
			AND EXISTS (SELECT 1 FROM delivery_attempts AS a WHERE a.email_id = e.id AND a.attempt = e.attempts AND a.part = 1 AND a.lease_until < now())`,
		args: []any{batchID, email.BatchWorkflowIDPrefix + batchID}, orderBy: "e.id", limit: expireAtOnce,
	}
	err := s.updateAllFound(ctx, abandoned, func(c *unitOfWork) error {
		if err := c.readAttempts(); err != nil {
			return err
		}
		for _, m := range c.emails {
			if c.endAbandoned(m) {
				c.handOver(m, c.journal[m.ID].Outcomes)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("end abandoned attempts: %w", err)
	}
	return nil
}

// hasEnded reports whether an open attempt has ended in the journal. It ends there if its owner has
// abandoned it. An attempt that did not come to its final dot is abandoned when its lease has run out,
// and is given back. The lease of another is recalled first, and the attempt is abandoned if its owner
// does not answer that. The outcomes that were written before the dot, for the case that no reply is
// read, become final then.
func (c *unitOfWork) hasEnded(row *attemptRow) bool {
	switch {
	case row.Phase == email.PhaseDone:
		return true
	case row.LeaseUntil.After(c.now):
		return false
	case row.Phase != email.PhaseDataSent:
		row.Outcomes = givenBack(row.RecipientIDs)
	case !row.Recalled:
		c.recalled = append(c.recalled, row.EmailID)
		return false
	}
	c.finish(*row, row.Outcomes, pg.NewID()) // not the owner's: that one may come back
	return true
}

// endAbandoned ends the open attempt at an e-mail if its owner has abandoned it, and reports
// whether it did. No run goes on with the e-mail. The caller has read the attempts.
func (c *unitOfWork) endAbandoned(m *lockedEmail) bool {
	row := c.journal[m.ID]
	if !m.AttemptOpen || row == nil || row.LeaseUntil.After(c.now) || !c.hasEnded(row) {
		return false
	}
	c.projectAttempt(m, *row)
	c.deriveStatus(m)
	return true
}
