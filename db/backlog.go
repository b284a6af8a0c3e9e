package db

import (
	"context"
	"time"

	"github.com/postrider/postrider/email"
)

// Backlog counts what waits. It reads what is open, not what is finished.
func (s *Store) Backlog(ctx context.Context) (email.Backlog, error) {
	var rows []struct {
		Status email.Status
		Detail email.Detail
		Emails int
		Oldest float64
	}
	err := s.db.NewRaw(`SELECT status, status_detail AS detail, count(*) AS emails, extract(epoch FROM now() - min(created_at)) AS oldest
		FROM emails WHERE status IN ('queued', 'sending') GROUP BY 1, 2 ORDER BY 1, 2`).Scan(ctx, &rows)
	if err != nil {
		return email.Backlog{}, translate(err)
	}
	var b email.Backlog
	for _, r := range rows {
		b.Open = append(b.Open, email.OpenEmails{Status: r.Status, Detail: r.Detail, Emails: r.Emails})
		if r.Detail != email.DetailScheduled && r.Detail != email.DetailHeld {
			b.OldestOpen = max(b.OldestOpen, time.Duration(r.Oldest*float64(time.Second)))
		}
	}
	var overdue float64
	err = s.db.NewRaw(`SELECT greatest(coalesce(extract(epoch FROM now() - (SELECT min(next_action_at) FROM emails WHERE next_action_at IS NOT NULL)), 0), 0),
		(SELECT count(*) FROM outbox), (SELECT count(*) FROM webhook_deliveries WHERE status = 'pending')`).Scan(ctx, &overdue, &b.Starts, &b.Webhooks)
	b.Overdue = time.Duration(overdue * float64(time.Second))
	return b, translate(err)
}
