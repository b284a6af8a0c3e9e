package mail

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// ClaimStarts leases up to limit outbox rows whose lease has run out, for
// lease, to owner. The caller starts the runs after this has committed; the
// gate deletes the rows.
func (s *Store) ClaimStarts(ctx context.Context, owner string, lease time.Duration, limit int) ([]delivery.Start, error) {
	var out []delivery.Start
	err := s.db.NewRaw(`WITH due AS (
			SELECT email_id FROM outbox WHERE lease_until < now() ORDER BY lease_until LIMIT ? FOR UPDATE SKIP LOCKED),
		claimed AS (
			UPDATE outbox AS o SET lease_owner = ?, lease_until = now() + ? * interval '1 second', attempts = o.attempts + 1
			FROM due WHERE o.email_id = due.email_id RETURNING o.email_id)
		SELECT e.id AS email_id, e.workflow_id, e.customer_id, e.stream FROM emails AS e JOIN claimed ON claimed.email_id = e.id`,
		limit, owner, lease.Seconds()).Scan(ctx, &out)
	return out, pg.Translate(err)
}

// overdueAfter is how late something has to be before its run is taken for lost.
// One whose relay is down is expected to be late: a pending activity tries it.
// When the relay works again, that is over within afterOutage.
const (
	overdueAfter     = 10 * time.Minute
	overdueRelayDown = time.Hour
)

// ClaimOverdue finds e-mails whose next action is long overdue and pushes that
// time on, so that several sweepers do not all wake the same ones. Those of a batch
// wait for their turn as long as its run is at work; of one that is not, the batch
// comes once.
func (s *Store) ClaimOverdue(ctx context.Context, limit int) ([]delivery.Start, error) {
	var rows []*emailRow
	err := s.db.NewRaw(`WITH due AS (
			SELECT e.id FROM emails AS e WHERE e.next_action_at < now() - ?0 * interval '1 second'
			AND (NOT e.relay_down OR e.next_action_at < now() - ?3 * interval '1 second' OR NOT e.no_relay AND NOT EXISTS (
				SELECT 1 FROM relay_states AS rs WHERE rs.name = e.relay_down_by AND (rs.failures > 0 OR rs.changed_at > now() - ?4 * interval '1 second')))
			AND (e.batch_id IS NULL OR NOT EXISTS (SELECT 1 FROM batches AS b WHERE b.id = e.batch_id AND b.seen_at > now() - ?0 * interval '1 second'
				AND e.workflow_id = ?2 || b.id::text))
			ORDER BY e.next_action_at LIMIT ?1 FOR UPDATE OF e SKIP LOCKED),
		seen AS (UPDATE batches AS b SET seen_at = now() FROM emails AS e, due WHERE e.id = due.id AND b.id = e.batch_id)
		UPDATE emails AS e SET next_action_at = now() FROM due WHERE e.id = due.id RETURNING e.*`,
		overdueAfter.Seconds(), limit, email.BatchWorkflowIDPrefix, overdueRelayDown.Seconds(), afterOutage.Seconds()).Scan(ctx, &rows)
	if err != nil {
		return nil, pg.Translate(err)
	}
	var out []delivery.Start
	for _, r := range rows {
		out = appendRun(out, r.run())
	}
	return out, nil
}

// appendRun adds a run, that of a batch once.
func appendRun(runs []delivery.Start, run delivery.Start) []delivery.Start {
	if run.BatchID != "" && slices.ContainsFunc(runs, func(r delivery.Start) bool { return r.BatchID == run.BatchID }) {
		return runs
	}
	return append(runs, run)
}

// OverdueEndpoints finds webhook endpoints with deliveries that are late; see webhooks.Store.
func (s *Store) OverdueEndpoints(ctx context.Context) ([]string, error) {
	return s.webhooks.OverdueEndpoints(ctx)
}

// housekeepBatch bounds one deletion, so that it holds no locks for long.
const housekeepBatch = 5000

// Housekeep deletes rows that are not needed any more: idempotency keys past their time; outbox
// rows of e-mails that ended before their run was started; uploads that broke off with their
// process; rates that no recipient has waited for in a day. It never touches an e-mail.
func (s *Store) Housekeep(ctx context.Context) error {
	for _, chore := range []struct {
		table, where string
		args         []any
	}{
		{"idempotency_keys AS t", "t.created_at < now() - ? * interval '1 second'", []any{email.IdempotencyKept.Seconds()}},
		{"outbox AS t", "EXISTS (SELECT 1 FROM emails AS e WHERE e.id = t.email_id AND e.status NOT IN ('queued', 'sending'))", nil},
		{"blobs AS t", "t.expires_at < now()", nil},
		{"rates AS t", "greatest(t.next_at, t.queue_at) < now() - interval '1 day'", nil},
	} {
		if err := s.deleteInBatches(ctx, chore.table, chore.where, chore.args...); err != nil {
			return fmt.Errorf("housekeeping of %s: %w", chore.table, err)
		}
	}
	return nil
}

// deleteInBatches deletes the rows of a table, called t, for which where is true.
func (s *Store) deleteInBatches(ctx context.Context, table, where string, args ...any) error {
	query := "DELETE FROM " + table + " WHERE t.ctid = ANY (ARRAY(SELECT t.ctid FROM " + table + " WHERE " + where + " LIMIT ? FOR UPDATE SKIP LOCKED))"
	for {
		res, err := s.db.NewRaw(query, append(args, housekeepBatch)...).Exec(ctx)
		if err != nil {
			return pg.Translate(err)
		}
		if n, err := res.RowsAffected(); err != nil || n < housekeepBatch {
			return err
		}
	}
}
