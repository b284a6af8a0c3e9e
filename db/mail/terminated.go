package mail

import (
	"context"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// expiryOverdueAfter is how late an e-mail's deadline has to be before a sweep ends it. Its run, if
// it has one, does so within seconds.
const expiryOverdueAfter = time.Minute

// ExpireOverdue ends e-mails whose deadline has passed a while ago, as the gate would: their run is
// gone, or nothing works at it. It leaves out e-mails that another transaction has locked, and
// those with an open attempt. It needs no knowledge of runs: the gate lets none of them through.
func (s *Store) ExpireOverdue(ctx context.Context) error {
	first := time.Unix(0, 0)
	args := []any{expiryOverdueAfter.Seconds(), nil, s.opts.Schedule.Deadline(time.Time{}, first).Sub(first).Seconds()}
	return s.expire(ctx, freeEmails{
		where: "e.next_action_at < now() - ?0 * interval '1 second' AND e.status IN ('queued', 'sending') AND " +
			deadlineOf + " < now() - ?0 * interval '1 second'",
		args: args, orderBy: "e.next_action_at",
	})
}

// HoldTerminated holds mail for an operator whose run was terminated: an e-mail, or all unfinished
// e-mails of a batch. No run ends its attempts any more: it ends those that their owners have
// abandoned, as the next run would. Mail that has expired ends. Doing it again is harmless.
func (s *Store) HoldTerminated(ctx context.Context, run delivery.Start) error {
	if run.BatchID != "" {
		err := s.inUnit(ctx, func(c *unitOfWork) error {
			_, err := c.controlBatch(run.BatchID, email.ActionHold, email.HolderOperator, nil)
			return err
		})
		if err != nil {
			return err
		}
		return s.settleHeld(ctx, run.BatchID)
	}
	return s.update(ctx, []string{run.EmailID}, func(c *unitOfWork) error {
		m, err := c.find(run.EmailID)
		if err != nil {
			return err
		}
		if err := c.readAttempts(); err != nil {
			return err
		}
		c.endAbandoned(m)
		if _, closed := c.checkGate(m); closed && m.Status.Final() {
			return nil
		}
		return c.control(m, email.Control{Action: email.ActionHold}, email.HolderOperator)
	})
}
