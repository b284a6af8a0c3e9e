package db

import (
	"context"
	"time"

	"github.com/postrider/postrider/email"
)

// ClaimStarts leases up to limit outbox rows whose lease has run out, for
// lease, to owner. The caller starts the runs after this has committed; the
// gate deletes the rows.
func (s *Store) ClaimStarts(ctx context.Context, owner string, lease time.Duration, limit int) ([]email.Start, error) {
	var out []email.Start
	err := s.db.NewRaw(`WITH due AS (
			SELECT email_id FROM outbox WHERE lease_until < now() ORDER BY lease_until LIMIT ? FOR UPDATE SKIP LOCKED),
		claimed AS (
			UPDATE outbox AS o SET lease_owner = ?, lease_until = now() + ? * interval '1 second', attempts = o.attempts + 1
			FROM due WHERE o.email_id = due.email_id RETURNING o.email_id)
		SELECT e.id AS email_id, e.workflow_id, e.customer_id, e.stream FROM emails AS e JOIN claimed ON claimed.email_id = e.id`,
		limit, owner, lease.Seconds()).Scan(ctx, &out)
	return out, translate(err)
}

// overdueAfter is how late something has to be before its run is taken for lost.
// One whose relay is down is expected to be late: a pending activity tries it.
const (
	overdueAfter     = 10 * time.Minute
	overdueRelayDown = time.Hour
)

// ClaimOverdue finds e-mails whose next action is long overdue and pushes that
// time on, so that several sweepers do not all wake the same ones. Those of a batch
// wait for their turn as long as its run is at work; of one that is not, the batch
// comes once.
func (s *Store) ClaimOverdue(ctx context.Context, limit int) ([]email.Start, error) {
	var rows []*emailRow
	err := s.db.NewRaw(`WITH due AS (
			SELECT e.id FROM emails AS e WHERE e.next_action_at < now() - ?0 * interval '1 second'
			AND (NOT e.relay_down OR e.next_action_at < now() - ?3 * interval '1 second')
			AND (e.batch_id IS NULL OR NOT EXISTS (SELECT 1 FROM batches AS b WHERE b.id = e.batch_id AND b.seen_at > now() - ?0 * interval '1 second'
				AND e.workflow_id = ?2 || b.id::text))
			ORDER BY e.next_action_at LIMIT ?1 FOR UPDATE OF e SKIP LOCKED),
		seen AS (UPDATE batches AS b SET seen_at = now() FROM emails AS e, due WHERE e.id = due.id AND b.id = e.batch_id)
		UPDATE emails AS e SET next_action_at = now() FROM due WHERE e.id = due.id RETURNING e.*`,
		overdueAfter.Seconds(), limit, email.BatchWorkflowIDPrefix, overdueRelayDown.Seconds()).Scan(ctx, &rows)
	if err != nil {
		return nil, translate(err)
	}
	var out []email.Start
	batches := map[string]bool{}
	for _, r := range rows {
		run := r.run()
		if run.BatchID != "" && batches[run.BatchID] {
			continue
		}
		batches[run.BatchID] = true
		out = append(out, run)
	}
	return out, nil
}

// OverdueEndpoints finds webhook endpoints with deliveries that nobody has
// taken for a minute.
func (s *Store) OverdueEndpoints(ctx context.Context) ([]string, error) {
	var ids []string
	err := s.db.NewRaw(`SELECT DISTINCT d.endpoint_id FROM webhook_deliveries AS d JOIN webhook_endpoints AS w ON w.id = d.endpoint_id
		WHERE d.status = 'pending' AND w.disabled_at IS NULL AND d.next_attempt_at < now() - interval '1 minute'
		AND (d.lease_until IS NULL OR d.lease_until < now()) LIMIT 1000`).Scan(ctx, &ids)
	return ids, translate(err)
}

// housekeepBatch bounds one deletion, so that it holds no locks for long.
const housekeepBatch = 5000

// Housekeep deletes what nobody asks for any more: idempotency keys past their
// time, and rates nobody has waited for in a day. It never touches an e-mail.
func (s *Store) Housekeep(ctx context.Context) error {
	if err := s.deleteAll(ctx, `DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(SELECT ctid FROM idempotency_keys
		WHERE created_at < now() - ? * interval '1 second' LIMIT ?))`, email.IdempotencyKept.Seconds(), housekeepBatch); err != nil {
		return err
	}
	// Rows that somebody holds are passed over, so that nobody waits here for anybody.
	return s.deleteAll(ctx, `DELETE FROM rates WHERE name = ANY (ARRAY(SELECT name FROM rates
		WHERE greatest(next_at, queue_at) < now() - interval '1 day' LIMIT ? FOR UPDATE SKIP LOCKED))`, housekeepBatch)
}

// deleteAll repeats a deletion of housekeepBatch rows until there are no more.
func (s *Store) deleteAll(ctx context.Context, query string, args ...any) error {
	for {
		res, err := s.db.NewRaw(query, args...).Exec(ctx)
		if err != nil {
			return translate(err)
		}
		if n, err := res.RowsAffected(); err != nil || n < housekeepBatch {
			return err
		}
	}
}
