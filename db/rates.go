package db

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Draw takes the next n places in the queue called name, one pace apart, and
// tells how long it is until the first of them. It holds for all processes: each
// place is handed out once. With within above 0 it takes none, and says so, where
// the first place would not come sooner than that.
//
// A new pace stretches or shortens what is left of the queue: places that were
// handed out stay as they are.
func (s *Store) Draw(ctx context.Context, name string, n int, pace, within time.Duration) (wait time.Duration, ok bool, err error) {
	const left = `GREATEST(r.next_at - now(), interval '0') * (EXCLUDED.pace_us::float8 / r.pace_us)`
	var us int64
	err = s.db.NewRaw(`INSERT INTO rates AS r (name, pace_us, next_at) VALUES (?0, ?1, now() + ?2 * interval '1 microsecond')
		ON CONFLICT (name) DO UPDATE SET pace_us = EXCLUDED.pace_us, next_at = now() + `+left+` + ?2 * interval '1 microsecond'
		WHERE ?3 = 0 OR `+left+` < ?3 * interval '1 microsecond'
		RETURNING (extract(epoch FROM r.next_at - now()) * 1000000)::bigint - ?2`,
		name, pace.Microseconds(), int64(n)*pace.Microseconds(), within.Microseconds()).Scan(ctx, &us)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return time.Duration(us) * time.Microsecond, err == nil, translate(err)
}
