package mail

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// awaitsSlot are the e-mails of a batch that wait for nothing but a slot of their relay's rate. Each
// shows an estimate of its own, but the batch gets one slot after the other and may use each for any
// of them. So they count as due.
const awaitsSlot = "(e.throttled_until >= e.next_action_at AND NOT (e.held OR e.paused))"

// dueInBatch are the e-mails of a batch that its run may attempt as soon as a relay takes mail.
const dueInBatch = "(e.next_action_at <= now() OR " + awaitsSlot + ")"

// throttleAtOnce is how many e-mails of a batch are marked as throttled in one transaction.
const throttleAtOnce = 1000

// ThrottleBatch notes on the due e-mails of a batch that go one way that they wait for a relay's rate.
// Each gets the time of its own slot, which is an estimate: other mail may take slots in between.
// E-mails whose estimate has passed get the first slots, and new ones come behind all that wait. An
// e-mail is not due again before its estimate, so that another call changes few. Nothing is noted where
// the last of them waits for delivery.TurnPatience at most.
//
// A fault of the relay that gives the slots is over. moved says that e-mails have therefore left the
// route, whose Avoid is that relay. E-mails that avoid another relay go on naming it.
func (s *Store) ThrottleBatch(ctx context.Context, id string, route delivery.Route, t delivery.BatchThrottle) (moved bool, _ error) {
	next, began := t.First, time.Time{}
	for {
		var marked int
		due := freeEmails{
			where: `e.batch_id = ?0 AND e.workflow_id = ?1 AND NOT e.attempt_open AND ` + onRoute + `
				AND e.next_action_at <= least(?5, now())`, // what has passed since the first transaction is marked already
			args:    []any{id, email.BatchWorkflowIDPrefix + id, route.Stream, route.SenderDomain, route.Avoid, bun.NullTime{Time: began}},
			orderBy: "e.next_action_at", limit: throttleAtOnce,
		}
		n, err := s.updateFound(ctx, due, func(c *unitOfWork) error {
			last, err := c.lastThrottled(id, t.Relay)
			if err != nil {
				return err
			}
			if began.IsZero() {
				began = c.now
			}
			if next.IsZero() {
				next = c.now.Add(time.Duration(t.Taken) * t.Pace)
			}
			if soonest := c.now.Add(time.Millisecond); next.Before(soonest) {
				next = soonest
			}
			var waiting []*lockedEmail
			var slots []time.Time
			until := c.now
			for _, m := range c.emails {
				if _, closed := c.checkGate(m); closed || m.Paused {
					continue
				}
				at := &next
				if behind := last.Add(t.Pace); m.ThrottledUntil.IsZero() && behind.After(next) {
					last, at = behind, &behind
				}
				waiting, slots = append(waiting, m), append(slots, *at)
				if at.After(until) {
					until = *at
				}
				*at = at.Add(t.Pace)
			}
			if n := len(c.emails); n < throttleAtOnce && !until.After(c.now.Add(delivery.TurnPatience)) {
				return nil
			}
			for i, m := range waiting {
				m.ThrottledUntil, m.ThrottledBy, m.dirty = slots[i], email.RelayRate(t.Relay), true
				if c.endFault(m, t.Relay) && route.Avoid != "" {
					moved = true
				}
			}
			marked = len(waiting)
			return nil
		})
		if err != nil || n < throttleAtOnce || marked == 0 {
			return moved, err
		}
	}
}

// lastThrottled is the last time that an e-mail of a batch shows which waits for a relay's rate; zero
// is none. It serializes the transactions that mark e-mails of the batch: each comes behind the others.
func (c *unitOfWork) lastThrottled(batchID, relay string) (last time.Time, _ error) {
	c.lockRows("SELECT 1 FROM batches WHERE id = ?", batchID)
	err := c.tx.NewRaw(`SELECT e.next_action_at FROM emails AS e WHERE e.batch_id = ? AND e.throttled_by = ? AND NOT e.attempt_open AND e.next_action_at > now() AND `+awaitsSlot+`
		ORDER BY e.next_action_at DESC LIMIT 1`, batchID, email.RelayRate(relay)).Scan(c.ctx, &last)
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read the last slot of a batch: %w", err)
	}
	return last, nil
}

// endFault forgets that an e-mail waits for a relay that takes mail again, or for none that is named,
// and reports whether it did; see noteRelay.
func (c *unitOfWork) endFault(m *lockedEmail, relay string) bool {
	if m.RelayDownBy != "" && m.RelayDownBy != relay {
		return false
	}
	return c.noteRelay(m, delivery.Obstacle{})
}
