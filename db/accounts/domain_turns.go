package accounts

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
)

// Looks at the DNS have places, so that name servers that do not answer hold up no other customer. A
// check that is due and finds no place waits in domains.queued_at until GiveTurns gives it one. Its run
// sleeps meanwhile.
const (
	// customerPlaces is how many domains of a customer are looked at at the same time.
	customerPlaces = 5
	// sharedPlaces is how many of all customers, and allPlaces how many together with the first looks of
	// customers: a customer without a look under way waits only while there are allPlaces. A worker has
	// 200 slots for activities.
	sharedPlaces, allPlaces = 60, 100
	// unansweredPlace is how long a look without an answer keeps its place, from its begin, at least.
	unansweredPlace = 10 * time.Second
	// maxTurnWait is how long a run sleeps whose check waits for a place, unless it is woken.
	maxTurnWait = time.Hour
	// placesLock is the key of the advisory lock under which places are given. A transaction may hold a
	// domain's row lock when it takes this one, so it waits for no row lock afterwards.
	placesLock = 0x706f7374706c6163 // "postplac"
)

func lockPlaces(ctx context.Context, tx bun.Tx) error {
	_, err := tx.NewRaw("SELECT pg_advisory_xact_lock(?)", int64(placesLock)).Exec(ctx)
	return err
}

// takePlace gives a locked domain a place for claimLease, or has it wait for one. A domain keeps the
// place that it has. Those of its customer that wait longer come first.
func (r *verificationRow) takePlace(ctx context.Context, tx bun.Tx) (ok bool, err error) {
	if err := lockPlaces(ctx, tx); err != nil {
		return false, err
	}
	err = tx.NewRaw(`WITH held AS (
			SELECT count(*) AS places, count(*) FILTER (WHERE customer_id = ?1) AS own FROM domains WHERE place_until > now() AND id <> ?0),
		may AS (SELECT d.place_until > now() OR h.own < ?2 AND (h.places < ?3 OR h.own = 0 AND h.places < ?4) AND NOT EXISTS (
				SELECT 1 FROM domains AS q WHERE q.customer_id = ?1 AND q.queued_at IS NOT NULL AND q.id <> ?0
					AND (q.queued_at, q.id) < (coalesce(d.queued_at, now()), d.id)) AS now
			FROM domains AS d, held AS h WHERE d.id = ?0)
		UPDATE domains AS d SET
			place_at = CASE WHEN may.now THEN now() ELSE d.place_at END,
			place_until = CASE WHEN may.now THEN now() + ?5 * interval '1 second' END,
			claimed_until = CASE WHEN may.now THEN now() + ?5 * interval '1 second' END,
			queued_at = CASE WHEN may.now IS NOT TRUE THEN coalesce(d.queued_at, now()) END
		FROM may WHERE d.id = ?0 RETURNING d.place_until IS NOT NULL`,
		r.ID, r.CustomerID, customerPlaces, sharedPlaces, allPlaces, claimLease.Seconds()).Scan(ctx, &ok)
	return ok, err
}

// endPlace frees the place of a locked domain after a look. A look without an answer keeps it for
// unansweredPlace, however soon the DNS servers have refused: otherwise such looks would follow each other
// as fast as they fail.
func (r *verificationRow) endPlace(ctx context.Context, tx bun.Tx, answered bool) error {
	_, err := tx.NewRaw("UPDATE domains SET place_until = CASE WHEN NOT ? THEN place_at + ? * interval '1 second' END WHERE id = ?", answered, unansweredPlace.Seconds(), r.ID).Exec(ctx)
	return err
}

// endWaiting has a locked domain whose check is not due wait for no place.
func (r *verificationRow) endWaiting(ctx context.Context, tx bun.Tx) error {
	_, err := tx.NewRaw("UPDATE domains SET queued_at = NULL WHERE id = ? AND queued_at IS NOT NULL", r.ID).Exec(ctx)
	return err
}

// GiveTurns gives free places to checks that wait, to at most limit of them. The customers with the
// fewest places come first, then those whose last turn is the longest ago; of a customer the check that
// has waited longest. It returns the ids of their domains: each needs a run. A place that no run takes
// within claimLease is free again, and a sweep finds its domain.
func (s *Store) GiveTurns(ctx context.Context, limit int) (ids []string, err error) {
	var waits bool
	err = s.db.NewRaw("SELECT EXISTS (SELECT 1 FROM domains WHERE queued_at IS NOT NULL)").Scan(ctx, &waits)
	if err != nil || !waits {
		return nil, pg.Translate(err)
	}
	err = s.db.InTx(ctx, func(tx bun.Tx) error {
		if err := lockPlaces(ctx, tx); err != nil {
			return err
		}
		return tx.NewRaw(`WITH RECURSIVE held AS MATERIALIZED (
				SELECT customer_id, count(*) AS places FROM domains WHERE place_until > now() GROUP BY customer_id),
			customer AS (
				(SELECT customer_id FROM domains WHERE queued_at IS NOT NULL ORDER BY customer_id LIMIT 1)
				UNION ALL
				SELECT (SELECT d.customer_id FROM domains AS d WHERE d.queued_at IS NOT NULL AND d.customer_id > c.customer_id ORDER BY d.customer_id LIMIT 1)
				FROM customer AS c WHERE c.customer_id IS NOT NULL),
			next AS (
				SELECT q.id, q.queued_at, last.place_at, coalesce(h.places, 0) + row_number() OVER (PARTITION BY c.customer_id ORDER BY q.queued_at, q.id) AS own
				FROM customer AS c LEFT JOIN held AS h USING (customer_id)
				CROSS JOIN LATERAL (SELECT id, queued_at FROM domains AS d WHERE d.customer_id = c.customer_id AND d.queued_at IS NOT NULL ORDER BY queued_at, id LIMIT ?0) AS q
				LEFT JOIN LATERAL (SELECT place_at FROM domains AS d WHERE d.customer_id = c.customer_id AND d.place_at IS NOT NULL ORDER BY d.place_at DESC LIMIT 1) AS last ON true),
			ranked AS (
				SELECT id, own, row_number() OVER (ORDER BY own, place_at NULLS FIRST, queued_at, id) AS nth,
					(SELECT coalesce(sum(places), 0) FROM held) AS places
				FROM next WHERE own <= ?0),
			chosen AS (
				SELECT d.id FROM domains AS d JOIN ranked AS r USING (id)
				WHERE r.nth <= ?4 AND (r.places + r.nth <= ?1 OR r.own = 1 AND r.places + r.nth <= ?2)
				FOR NO KEY UPDATE OF d SKIP LOCKED)
			UPDATE domains AS d SET place_at = now(), place_until = now() + ?3 * interval '1 second', claimed_until = now() + ?3 * interval '1 second', queued_at = NULL
			FROM chosen AS c WHERE d.id = c.id RETURNING d.id`,
			customerPlaces, sharedPlaces, allPlaces, claimLease.Seconds(), limit).Scan(ctx, &ids)
	})
	return ids, err
}
