package mail

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
)

func (s *Store) batchRow(ctx context.Context, customerID, id, columns string) (*batchRow, error) {
	var row batchRow
	err := s.db.NewSelect().Model(&row).ColumnExpr(columns).Where("b.id = ?", id).Where("b.customer_id = ?", customerID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, pg.NotFound("batch")
	}
	return &row, pg.Translate(err)
}

// rateOver is over how long a batch's rate is taken.
const rateOver = 10 * time.Second

// Batch tells how far a customer's batch has come. A batch that the customer does not have is a
// CodeNotFound.
func (s *Store) Batch(ctx context.Context, customerID, id string) (email.BatchProgress, error) {
	row, err := s.batchRow(ctx, customerID, id, batchColumns)
	if err != nil {
		return email.BatchProgress{}, err
	}
	ps, err := s.progress(ctx, []*batchRow{row})
	if err != nil {
		return email.BatchProgress{}, err
	}
	return ps[0], nil
}

// progress counts the e-mails of batches.
func (s *Store) progress(ctx context.Context, rows []*batchRow) ([]email.BatchProgress, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	type count struct {
		BatchID string
		Status  email.Status
		Detail  email.Detail
		Emails  int
		Fresh   int
		NextAt  time.Time `bun:"next_at,nullzero"`
		LastAt  time.Time `bun:"last_at"`
	}
	var counts []count
	// A due e-mail that waits for a relay is tried at the relay's next probe.
	err := s.db.NewRaw(`SELECT e.batch_id, e.status, CASE WHEN e.status IN ('queued', 'sending') THEN e.status_detail ELSE '' END AS detail, count(*) AS emails,
			count(*) FILTER (WHERE e.status NOT IN ('queued', 'sending', 'canceled') AND e.status_at > now() - ? * interval '1 second') AS fresh,
			min(CASE WHEN e.next_action_at > now() THEN e.next_action_at WHEN e.relay_down AND NOT e.held AND NOT e.paused THEN greatest(rs.next_at, now()) END)
				FILTER (WHERE NOT e.attempt_open) AS next_at, max(e.status_at) AS last_at
		FROM emails AS e LEFT JOIN (SELECT name, min(next_at) AS next_at FROM relay_states WHERE failures > 0 GROUP BY 1) AS rs ON e.relay_down AND rs.name = e.relay_down_by
		WHERE e.batch_id IN (?) GROUP BY 1, 2, 3`, rateOver.Seconds(), bun.List(ids)).Scan(ctx, &counts)
	if err != nil {
		return nil, pg.Translate(err)
	}
	of := map[string][]count{}
	for _, n := range counts {
		of[n.BatchID] = append(of[n.BatchID], n)
	}
	out := make([]email.BatchProgress, len(rows))
	for i, row := range rows {
		p := email.BatchProgress{Batch: row.batch(), Emails: email.StatusCounts{}, Details: map[email.Detail]int{}}
		fresh, last := 0, time.Time{}
		for _, n := range of[row.ID] {
			p.Emails[n.Status] += n.Emails
			if n.Detail != "" {
				p.Details[n.Detail] += n.Emails
			}
			fresh += n.Fresh
			if n.LastAt.After(last) {
				last = n.LastAt
			}
			if !n.NextAt.IsZero() && (p.NextAt.IsZero() || n.NextAt.Before(p.NextAt)) {
				p.NextAt = n.NextAt.UTC()
			}
		}
		if p.Emails[email.StatusQueued]+p.Emails[email.StatusSending] == 0 {
			p.FinishedAt = pg.UTC(last)
		}
		p.Rate = float64(fresh) / min(rateOver.Seconds(), max(1, time.Since(row.CreatedAt).Seconds()))
		out[i] = p
	}
	return out, nil
}

// Batches lists a customer's batches, newest first.
func (s *Store) Batches(ctx context.Context, customerID string, after email.Cursor, limit int) (out []email.BatchProgress, next *email.Cursor, err error) {
	var rows []*batchRow
	q := s.db.NewSelect().Model(&rows).ColumnExpr(batchColumns).Where("b.customer_id = ?", customerID).Apply(pg.NewestFirst("b", "created_at", after, limit))
	if err := q.Scan(ctx); err != nil {
		return nil, nil, pg.Translate(err)
	}
	rows, next = pg.Page(rows, limit, func(r *batchRow) (time.Time, string) { return r.CreatedAt, r.ID })
	out, err = s.progress(ctx, rows)
	return out, next, err
}
