package mail

import (
	"context"
	"time"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// RelayWaits lists what the unfinished e-mails say that wait for a relay, each combination once,
// those of transactional mail first.
func (s *Store) RelayWaits(ctx context.Context) ([]delivery.RelayWait, error) {
	var out []delivery.RelayWait
	err := s.db.NewRaw(`SELECT DISTINCT e.stream, lower(split_part(e.from_email, '@', -1)) AS sender_domain, e.relay_down_by AS relay, e.no_relay
		FROM emails AS e WHERE e.status IN ('queued', 'sending') AND e.relay_down AND NOT e.attempt_open ORDER BY 1 DESC, 2, 3, 4`).Scan(ctx, &out)
	return out, pg.Translate(err)
}

// ChangeRelayWait replaces what e-mails that wait for a relay say by another obstacle, and orders
// that their runs are woken. If a relay is configured for them, it makes due what waits because of
// the old relay. It returns how many e-mails it changed. A second call finds none of them. It leaves
// out e-mails that another transaction has locked, and those with an open attempt.
func (s *Store) ChangeRelayWait(ctx context.Context, from delivery.RelayWait, to delivery.Obstacle) (changed int, err error) {
	return s.changeRelayWaits(ctx, from, false, func(c *unitOfWork, m *lockedEmail) {
		if m.relayDown(to) {
			m.dirty = true
		}
		if !to.NoRelay {
			c.endRelayBackoff(m)
		}
	})
}

// WakeRelayWait orders that the runs of e-mails are woken which wait for a relay, because one works
// again. It leaves out e-mails that are not due: the relay refused them, perhaps them alone, and
// their runs have a timer for the next try. It also leaves out what ChangeRelayWait does. It returns
// how many e-mails it found. A second call finds none of them.
func (s *Store) WakeRelayWait(ctx context.Context, w delivery.RelayWait) (woken int, err error) {
	return s.changeRelayWaits(ctx, w, true, func(_ *unitOfWork, m *lockedEmail) {
		m.dirty = m.relayDown(delivery.Obstacle{RelayDown: true}) || m.dirty
	})
}

// changeRelayWaits applies change to the e-mails that wait so, and orders that their runs are woken.
// onlyDue leaves out those that the gate does not take for due. change must make each wait otherwise.
func (s *Store) changeRelayWaits(ctx context.Context, from delivery.RelayWait, onlyDue bool, change func(*unitOfWork, *lockedEmail)) (changed int, err error) {
	var last time.Time // the created_at of the last chunk's newest e-mail
	for {
		waiting := freeEmails{
			where: `e.status IN ('queued', 'sending') AND e.created_at >= ? AND NOT e.attempt_open AND e.stream = ?
				AND lower(split_part(e.from_email, '@', -1)) = ? AND (e.relay_down, e.relay_down_by, e.no_relay) = (true, ?, ?)
				AND (NOT ? OR e.next_action_at <= now() + ? * interval '1 second')`,
			args:    []any{last, from.Stream, from.SenderDomain, from.Relay, from.NoRelay, onlyDue, groupWithin.Seconds()},
			orderBy: "e.created_at", limit: controlChunk,
		}
		n, err := s.updateFound(ctx, waiting, func(c *unitOfWork) error {
			var runs runsToWake
			for _, m := range c.emails {
				if m.CreatedAt.After(last) {
					last = m.CreatedAt
				}
				change(c, m)
				c.deriveStatus(m)
				runs.add(m)
			}
			return c.leaseWakes(runs, 0)
		})
		changed += n
		if err != nil || n < controlChunk {
			return changed, err
		}
	}
}

// endRelayBackoff makes due the recipients that wait because a relay's fault returned them to queued.
// A recipient that its own server deferred keeps its time.
func (c *unitOfWork) endRelayBackoff(m *lockedEmail) {
	for _, r := range m.recipients {
		if r.Status == email.RecipientQueued && m.Attempts > 0 && r.NextAttemptAt.After(c.now) && !r.Turn.Waits(c.now) {
			r.NextAttemptAt, r.changed, m.dirty = c.now, true, true
		}
	}
}
