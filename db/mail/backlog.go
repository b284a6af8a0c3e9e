package mail

import (
	"context"
	"time"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// afterOutage is how soon mail follows a relay that works again: the longest backoff, and
// the time that a run takes to notice.
const afterOutage = delivery.RelayBackoffMost + time.Minute

// Backlog counts what waits. It reads what is open, not what is finished.
func (s *Store) Backlog(ctx context.Context) (delivery.Backlog, error) {
	var rows []struct {
		Status email.Status
		Detail email.Detail
		Emails int
		Oldest float64
	}
	err := s.db.NewRaw(`SELECT status, status_detail AS detail, count(*) AS emails, extract(epoch FROM now() - min(created_at)) AS oldest
		FROM emails WHERE status IN ('queued', 'sending') GROUP BY 1, 2 ORDER BY 1, 2`).Scan(ctx, &rows)
	if err != nil {
		return delivery.Backlog{}, pg.Translate(err)
	}
	var b delivery.Backlog
	for _, r := range rows {
		b.Open = append(b.Open, delivery.OpenEmails{Status: r.Status, Detail: r.Detail, Emails: r.Emails})
		if r.Detail != email.DetailScheduled && r.Detail != email.DetailHeld {
			b.OldestOpen = max(b.OldestOpen, time.Duration(r.Oldest*float64(time.Second)))
		}
	}
	// E-mails that wait for a relay that fails and is probed, or for none that is configured, are not
	// late for a reason of ours. When the relay works again its mail follows within afterOutage.
	var overdue float64
	err = s.db.NewRaw(`SELECT greatest(coalesce(max(extract(epoch FROM now() - CASE WHEN NOT e.relay_down THEN e.next_action_at
				WHEN NOT e.no_relay AND NOT coalesce(rs.failing, false)
				THEN greatest(e.next_action_at, rs.changed_at + ?0 * interval '1 second') END)), 0), 0),
			(SELECT count(*) FROM outbox AS o WHERE o.lease_owner IS DISTINCT FROM ?1 OR o.lease_until <= now()),
			(SELECT count(*) FROM webhook_deliveries WHERE status = 'pending'),
			(SELECT count(*) FROM suppression_circuits WHERE until > now())
		FROM emails AS e LEFT JOIN (SELECT name, bool_or(failures > 0 AND next_at > now() - ?2 * interval '1 second') AS failing, max(changed_at) AS changed_at FROM relay_states GROUP BY name) AS rs
			ON e.relay_down AND rs.name = e.relay_down_by
		WHERE e.next_action_at < now()`, afterOutage.Seconds(), delivery.NoOwner, overdueAfter.Seconds()).Scan(ctx, &overdue, &b.Starts, &b.Webhooks, &b.Circuits)
	b.Overdue = time.Duration(overdue * float64(time.Second))
	return b, pg.Translate(err)
}
