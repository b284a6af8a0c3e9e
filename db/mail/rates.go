package mail

import (
	"context"
	"encoding/json"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/pacing"
)

// Draw takes the next slots of a rate, for all processes: each slot is handed out once.
// See delivery.Demand.
func (s *Store) Draw(ctx context.Context, d delivery.Demand) (out delivery.Slot, ok bool, err error) {
	err = s.db.InDeferredTx(ctx, func(tx *pg.Tx) error {
		rates, err := lockRates(ctx, tx, map[string]time.Duration{d.Queue: d.Pace})
		if err != nil {
			return err
		}
		r := rates[d.Queue]
		req := pacing.Request{Stream: d.Stream, N: d.N, Returning: d.Returning}
		if d.Sooner > 0 {
			req.Before = r.now.Add(d.Sooner)
		}
		slot, taken := r.clock.Take(r.now, req)
		if ok = taken; !ok {
			return nil
		}
		out = delivery.Slot{Wait: slot.At.Sub(r.now), Reserved: slot.Reserved}
		return writeRates(ctx, tx.Deferred(), rates)
	})
	return out, ok, err
}

// rate is a locked rate, started at the time when its lock was there.
type rate struct {
	clock pacing.Clock
	now   time.Time
}

// ratePatch is a row of the table rates, as JSON.
type ratePatch struct {
	Name         string    `json:"name"`
	PaceUS       int64     `json:"pace_us"`
	NextSlot     time.Time `json:"next_at,omitzero"`
	NextEstimate time.Time `json:"queue_at,omitzero"`
}

// lockRates takes the rows of rates, in the order of their names, after every other lock
// of the transaction: many transactions wait for them.
func lockRates(ctx context.Context, tx bun.IDB, paces map[string]time.Duration) (map[string]*rate, error) {
	wants := make([]ratePatch, 0, len(paces))
	for name, pace := range paces {
		wants = append(wants, ratePatch{Name: name, PaceUS: pace.Microseconds()})
	}
	data, err := json.Marshal(wants)
	if err != nil {
		return nil, pg.Wrap("encode rates", err)
	}
	// The clock is read when the lock is there, which may be long after the
	// transaction began.
	var rows []struct {
		Name         string    `bun:"name"`
		PaceUS       int64     `bun:"pace_us"`
		NextSlot     time.Time `bun:"next_at"`
		NextEstimate time.Time `bun:"queue_at,nullzero"`
		ClockAt      time.Time `bun:"clock_at"`
	}
	err = tx.NewRaw(`INSERT INTO rates AS r (name, pace_us, next_at)
		SELECT v.name, v.pace_us, clock_timestamp() FROM jsonb_to_recordset(?::jsonb) AS v(name text, pace_us bigint) ORDER BY v.name
		ON CONFLICT (name) DO UPDATE SET pace_us = r.pace_us RETURNING r.*, clock_timestamp() AS clock_at`, string(data)).Scan(ctx, &rows)
	if err != nil {
		return nil, pg.Wrap("lock rates", err)
	}
	out := make(map[string]*rate, len(rows))
	for _, row := range rows {
		c := pacing.Clock{Pace: time.Duration(row.PaceUS) * time.Microsecond, NextSlot: row.NextSlot, NextEstimate: row.NextEstimate}
		c.Start(row.ClockAt, paces[row.Name])
		out[row.Name] = &rate{c, row.ClockAt}
	}
	return out, nil
}

// writeRates writes locked rates back.
func writeRates(ctx context.Context, tx bun.IDB, rates map[string]*rate) error {
	patches := make([]ratePatch, 0, len(rates))
	for name, r := range rates {
		patches = append(patches, ratePatch{name, r.clock.Pace.Microseconds(), r.clock.NextSlot, r.clock.NextEstimate})
	}
	data, err := json.Marshal(patches)
	if err != nil {
		return pg.Wrap("encode rates", err)
	}
	_, err = tx.NewRaw(`UPDATE rates AS r SET pace_us = v.pace_us, next_at = v.next_at, queue_at = v.queue_at
		FROM jsonb_to_recordset(?::jsonb) AS v(name text, pace_us bigint, next_at timestamptz, queue_at timestamptz) WHERE r.name = v.name`, string(data)).Exec(ctx)
	return pg.Wrap("write rates", err)
}
