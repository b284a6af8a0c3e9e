package mail

import (
	"context"
	"fmt"
	"time"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
)

// Control carries out an operator's action on an e-mail, on behalf of a run or of the dispatcher,
// and returns the e-mail's state. See email.Action. An e-mail that does not exist is a
// CodeNotFound, an action that its state does not allow a CodeConflict.
func (s *Store) Control(ctx context.Context, id string, control email.Control) (email.State, error) {
	var st email.State
	err := s.update(ctx, []string{id}, func(c *unitOfWork) error {
		m, err := c.find(id)
		if err != nil {
			return err
		}
		if err := c.control(m, control, email.HolderOperator); err != nil {
			return err
		}
		c.deriveStatus(m)
		st = c.state(m)
		return nil
	})
	return st, err
}

// ControlFor is Control on behalf of a customer, and returns the e-mail. wakes are the orders to
// wake its run, leased to the caller for delivery.WakeLease. An e-mail of another customer is a
// CodeNotFound.
func (s *Store) ControlFor(ctx context.Context, customerID, id string, control email.Control) (e email.Email, wakes []string, err error) {
	err = s.update(ctx, []string{id}, func(c *unitOfWork) error {
		m, err := c.ownEmail(customerID, id)
		if err != nil {
			return err
		}
		if err := c.control(m, control, email.HolderCustomer); err != nil {
			return err
		}
		// Also where nothing has changed: the run may be gone.
		wakes, err = c.wakeRunOf(m)
		return err
	})
	if err != nil {
		return email.Email{}, nil, err
	}
	e, err = s.Email(ctx, customerID, id)
	return e, wakes, err
}

// Delete takes an e-mail out of lists and cancels its unsent recipients. It stays readable by id.
// Deleting it again changes nothing. A run may be waiting for a recipient that is now canceled:
// wakes are the orders to wake it, leased to the caller for delivery.WakeLease. An e-mail that the
// customer does not have is a CodeNotFound.
func (s *Store) Delete(ctx context.Context, customerID, id string) (out email.Email, wakes []string, err error) {
	err = s.update(ctx, []string{id}, func(c *unitOfWork) error {
		m, err := c.ownEmail(customerID, id)
		if err != nil || !m.DeletedAt.IsZero() {
			return err
		}
		m.DeletedAt = c.now
		c.emit(m, eventRow{Type: email.EventDeleted})
		if !m.Status.Final() {
			c.cancel(m)
			if wakes, err = c.wakeRunOf(m); err != nil {
				return err
			}
		}
		return audit.Write(c.ctx, c.tx, customerID, "email.deleted", id, "")
	})
	if err != nil {
		return email.Email{}, nil, err
	}
	out, err = s.Email(ctx, customerID, id)
	return out, wakes, err
}

// ownEmail gives a locked e-mail of a customer.
func (c *unitOfWork) ownEmail(customerID, id string) (*lockedEmail, error) {
	m, err := c.find(id)
	if err == nil && m.CustomerID != customerID {
		return nil, pg.NotFound("e-mail")
	}
	return m, err
}

// control carries out an action of a customer's or an operator's, and notes who wanted it.
func (c *unitOfWork) control(m *lockedEmail, control email.Control, by email.Holder) error {
	if err := c.keptByBatch(m, control.Action, by); err != nil {
		return err
	}
	if err := c.act(m, control, by); err != nil || !m.dirty {
		return err // an action that changes nothing is not audited
	}
	detail := ""
	if control.Action == email.ActionReschedule {
		detail = control.SendAt.UTC().Format(time.RFC3339)
	}
	return audit.Write(c.ctx, c.tx, m.CustomerID, "email."+string(control.Action), m.ID, detail)
}

func (c *unitOfWork) act(m *lockedEmail, control email.Control, by email.Holder) error {
	if m.Status.Final() {
		if control.Action == email.ActionCancel && m.Status == email.StatusCanceled {
			return nil
		}
		return email.Fail(email.CodeConflict, "the e-mail is %s: nothing will be attempted any more", m.Status)
	}
	switch control.Action {
	case email.ActionCancel:
		c.cancel(m)
	case email.ActionHold:
		c.hold(m, by)
	case email.ActionResume:
		return c.resume(m, by)
	case email.ActionRetryNow:
		return c.retryNow(m, by)
	case email.ActionReschedule:
		return c.reschedule(m, control.SendAt)
	default:
		return email.Fail(email.CodeInvalidRequest, "there is no action %q", control.Action)
	}
	return nil
}

// cancel ends the recipients that are not being sent to. For the others it notes the wish: the end
// of the open attempt carries it out on those that are deferred.
func (c *unitOfWork) cancel(m *lockedEmail) {
	if m.AttemptOpen && !m.CancelRequested {
		m.CancelRequested, m.dirty = true, true
		c.emit(m, eventRow{Type: email.EventCancelRequested, Attempt: m.Attempts})
	}
	for _, r := range m.recipients {
		if r.Status == email.RecipientQueued || r.Status == email.RecipientDeferred {
			c.endUnsent(m, r, email.RecipientCanceled, "")
		}
	}
}

// hold begins a hold of its own for each who asks. An open attempt is not touched by it.
func (c *unitOfWork) hold(m *lockedEmail, by email.Holder) {
	if m.hold(by) {
		c.emit(m, eventRow{Type: email.EventHeld, Holder: by})
	}
}

// resume ends the hold of the one who asks. If only another's hold is there, it is refused. An
// e-mail that another's hold or a pause still keeps shows that at once, and not only when it comes
// to the gate.
func (c *unitOfWork) resume(m *lockedEmail, by email.Holder) error {
	switch {
	case m.lift(by):
		c.emit(m, eventRow{Type: email.EventResumed, Holder: by})
	case m.Held:
		return othersHold("e-mail", by)
	}
	if m.Held || m.Paused || m.AttemptOpen {
		return nil
	}
	paused, err := c.paused(m, "")
	if paused {
		c.pause(m, "")
	}
	return err
}

// keptByBatch refuses what would have no effect: a batch that is held takes up none of
// its e-mails. Each may take back its own hold of one of them while only the other holds
// the batch.
func (c *unitOfWork) keptByBatch(m *lockedEmail, action email.Action, by email.Holder) error {
	if action != email.ActionResume && action != email.ActionRetryNow || !m.batched() || m.Status.Final() {
		return nil
	}
	var whole holds
	err := c.tx.NewRaw("SELECT held, held_by_customer, held_by_operator FROM batches WHERE id = ?", m.BatchID).Scan(c.ctx, &whole)
	switch {
	case err != nil:
		return fmt.Errorf("read batch: %w", err)
	case whole.mine(by):
		return email.Fail(email.CodeConflict, "the whole batch of this e-mail is held: resume the batch, %s", m.BatchID)
	case whole.Held && (action == email.ActionRetryNow || !m.mine(by)):
		return othersHold("whole batch of this e-mail", by)
	}
	return nil
}

// retryNow makes due who is deferred, or waits for its turn in a later transaction. While an attempt is open that is what
// is happening anyway.
func (c *unitOfWork) retryNow(m *lockedEmail, by email.Holder) error {
	switch {
	case m.Held && !m.mine(by):
		return othersHold("e-mail", by)
	case m.Held:
		return email.Fail(email.CodeConflict, "the e-mail is held: resume it instead")
	case m.Attempts == 0 && m.SendAt.After(c.now):
		return email.Fail(email.CodeConflict, "the e-mail is scheduled: reschedule it instead")
	}
	if scope, err := c.pausedBy(m, m.PausedRelay); err != nil {
		return err
	} else if scope != "" && !m.AttemptOpen {
		return email.Fail(email.CodeConflict, "mail like this is paused (%s): it goes on when an operator lifts the pause", scope)
	}
	for _, r := range m.recipients {
		// Not tried yet, or returned to that state by a relay's fault.
		passedOver := r.Status == email.RecipientQueued && m.Attempts > 0
		if (r.Status == email.RecipientDeferred || passedOver) && r.NextAttemptAt.After(c.now) && !r.Turn.Waits(c.now) {
			r.NextAttemptAt, r.StatusAt, m.dirty = c.now, c.now, true
		}
	}
	return nil
}

// reschedule moves the first attempt. A time that has passed means now.
func (c *unitOfWork) reschedule(m *lockedEmail, at time.Time) error {
	switch {
	case m.Attempts > 0:
		return email.Fail(email.CodeConflict, "the e-mail is %s: only one that was never attempted can be rescheduled", m.Status)
	case at.IsZero():
		return email.Fail(email.CodeInvalidRequest, "give the new time as send_at")
	case at.After(c.now.Add(email.MaxScheduleAhead)):
		return email.Fail(email.CodeInvalidRequest, "send_at may lie at most 366 days ahead")
	case !m.ExpiresAt.IsZero() && !m.ExpiresAt.After(at):
		return email.Fail(email.CodeInvalidRequest, "the e-mail would expire before it is sent")
	case at.Equal(m.SendAt):
		return nil
	}
	m.SendAt = at
	due := at
	if due.Before(c.now) {
		due = c.now
	}
	for _, r := range m.recipients {
		if r.Status == email.RecipientQueued {
			r.NextAttemptAt, r.StatusAt, r.Turn = due, c.now, nil
		}
	}
	c.emit(m, eventRow{Type: email.EventScheduled})
	return nil
}
