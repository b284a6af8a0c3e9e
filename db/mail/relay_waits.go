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
	return s.changeRelayWaits(ctx, from, "true", nil, func(c *unitOfWork, m *lockedEmail) {
		if m.relayDown(to) {
			m.dirty = true
		}
		if !to.NoRelay {
			c.endRelayBackoff(m)
		}
	})
}

// wasRefused: the last attempt ended in the relay's fault. The run has a timer for the next attempt,
// and waits for the relay itself only if that finds the relay down.
const wasRefused = `EXISTS (SELECT 1 FROM delivery_attempts AS a WHERE a.email_id = e.id AND a.attempt = e.attempts AND a.part = 1 AND a.phase = 'done'
	AND a.outcomes @> '[{"relay_fault":true}]')`

// WakeRelayWait orders that the runs of e-mails are woken which wait for a relay, because one works
// again. An e-mail that found the relay down names no relay afterwards. An e-mail that the relay
// refused in its last attempt is woken only if it was due at dueBy, a time that has passed. It still
// names the relay: it may be about to be tried and not wait for the relay itself. WakeRelayWait also
// leaves out what ChangeRelayWait does. It returns how many e-mails it found. A second call with the
// same dueBy finds none of them.
func (s *Store) WakeRelayWait(ctx context.Context, w delivery.RelayWait, dueBy time.Time) (woken int, err error) {
	// A run may ask for the relay before its e-mail is due: see the gate.
	woken, err = s.changeRelayWaits(ctx, w, "e.next_action_at <= now() + ? * interval '1 second' AND NOT "+wasRefused, []any{groupWithin.Seconds()},
		func(_ *unitOfWork, m *lockedEmail) {
			m.dirty = m.relayDown(delivery.Obstacle{RelayDown: true}) || m.dirty
		})
	if err != nil {
		return woken, err
	}
	refused, err := s.changeRelayWaits(ctx, w, "e.next_action_at <= least(?, now()) AND coalesce(e.expires_at > now(), true) AND "+wasRefused, []any{dueBy},
		func(c *unitOfWork, m *lockedEmail) {
			for _, r := range m.recipients {
				if !r.NextAttemptAt.IsZero() && r.NextAttemptAt.Before(c.now) {
					r.NextAttemptAt, r.changed, m.dirty = c.now, true, true
				}
			}
		})
	return woken + refused, err
}

// changeRelayWaits applies change to the e-mails that wait so and are of the condition where, and
// orders that their runs are woken. After change an e-mail must not be found again.
func (s *Store) changeRelayWaits(ctx context.Context, from delivery.RelayWait, where string, args []any, change func(*unitOfWork, *lockedEmail)) (changed int, err error) {
	var last time.Time // the created_at of the last chunk's newest e-mail
	for {
		waiting := freeEmails{
			where: `e.status IN ('queued', 'sending') AND e.created_at >= ? AND NOT e.attempt_open AND e.stream = ?
				AND lower(split_part(e.from_email, '@', -1)) = ? AND (e.relay_down, e.relay_down_by, e.no_relay) = (true, ?, ?)
				AND ` + where,
			args:    append([]any{last, from.Stream, from.SenderDomain, from.Relay, from.NoRelay}, args...),
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
