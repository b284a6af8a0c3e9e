package db

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/email"
)

// Draw takes the next places in a queue, for all processes: each place is handed out
// once. See email.Demand.
func (s *Store) Draw(ctx context.Context, d email.Demand) (place email.Place, ok bool, err error) {
	err = s.inPipeline(ctx, func(tx *pipeline) error {
		qs, err := lockQueues(ctx, tx, map[string]time.Duration{d.Queue: d.Pace})
		if err != nil {
			return err
		}
		q := qs[d.Queue]
		var sooner, at time.Time
		if d.Sooner > 0 {
			sooner = q.now.Add(d.Sooner)
		}
		at, place.Firm, ok = q.draw(d.Stream, d.N, d.Came, sooner)
		if !ok {
			return nil
		}
		place.Wait = at.Sub(q.now)
		return writeQueues(ctx, later{tx}, qs)
	})
	return place, ok, err
}

// lockQueues takes the rows of queues, in the order of their names, after every
// other lock of the transaction: many wait for them.
func lockQueues(ctx context.Context, tx bun.IDB, paces map[string]time.Duration) (map[string]*queue, error) {
	type want struct {
		Name   string `json:"name"`
		PaceUS int64  `json:"pace_us"`
	}
	wants := make([]want, 0, len(paces))
	for name, pace := range paces {
		wants = append(wants, want{name, pace.Microseconds()})
	}
	data, err := json.Marshal(wants)
	if err != nil {
		return nil, fmt.Errorf("encode rates: %w", err)
	}
	// The clock is read when the lock is there, which may be long after the
	// transaction began.
	var rows []struct {
		queue
		ClockAt time.Time `bun:"clock_at"`
	}
	err = tx.NewRaw(`INSERT INTO rates AS r (name, pace_us, next_at)
		SELECT v.name, v.pace_us, clock_timestamp() FROM jsonb_to_recordset(?::jsonb) AS v(name text, pace_us bigint) ORDER BY v.name
		ON CONFLICT (name) DO UPDATE SET pace_us = r.pace_us RETURNING r.*, clock_timestamp() AS clock_at`, string(data)).Scan(ctx, &rows)
	if err != nil {
		return nil, fmt.Errorf("lock rates: %w", err)
	}
	out := make(map[string]*queue, len(rows))
	for i := range rows {
		q := &rows[i].queue
		q.begin(rows[i].ClockAt, paces[q.Name])
		out[q.Name] = q
	}
	return out, nil
}

// writeQueues writes them back.
func writeQueues(ctx context.Context, tx bun.IDB, qs map[string]*queue) error {
	type patch struct {
		Name   string    `json:"name"`
		PaceUS int64     `json:"pace_us"`
		NextAt time.Time `json:"next_at"`
		LineAt time.Time `json:"queue_at"`
	}
	patches := make([]patch, 0, len(qs))
	for _, q := range qs {
		patches = append(patches, patch{q.Name, q.PaceUS, q.NextAt, q.LineAt})
	}
	data, err := json.Marshal(patches)
	if err != nil {
		return fmt.Errorf("encode rates: %w", err)
	}
	_, err = tx.NewRaw(`UPDATE rates AS r SET pace_us = v.pace_us, next_at = v.next_at, queue_at = v.queue_at
		FROM jsonb_to_recordset(?::jsonb) AS v(name text, pace_us bigint, next_at timestamptz, queue_at timestamptz) WHERE r.name = v.name`, string(data)).Exec(ctx)
	if err != nil {
		return fmt.Errorf("write rates: %w", err)
	}
	return nil
}
