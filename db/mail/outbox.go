package mail

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/reputation"
)

// ClaimStarts leases outbox rows of a stream without a lease. Customers take turns: of each that
// waits comes the oldest row, then the second of each. If more customers wait than c.Limit, it draws
// lots among them. The caller starts the runs in this order after this has committed. The gate
// deletes the rows.
//
// It returns none only if none waits. If it returns an error beside some, these are claimed.
func (s *Store) ClaimStarts(ctx context.Context, c delivery.Claim) ([]delivery.Start, error) {
	var begin []string
	out, err := claimTurns(c.Limit, func(limit int) ([]delivery.Start, error) {
		var rows []*emailRow
		err := s.db.NewRaw(`WITH RECURSIVE `+turnsOf("outbox", "email_id")+`, claimed AS (
				UPDATE outbox AS o SET lease_owner = ?2, lease_until = now() + ?3 * interval '1 second', attempts = o.attempts + 1
				FROM due WHERE o.email_id = due.id RETURNING due.*)
			SELECT e.id, e.workflow_id, e.customer_id, e.stream, e.status, e.attempts, e.attachments, e.size_bytes
			FROM emails AS e JOIN claimed AS c ON c.id = e.id ORDER BY c.turn, c.lease_until, c.id`,
			c.Stream, limit, c.Owner, c.Lease.Seconds(), c.Waited.Seconds(), delivery.NoOwner).Scan(ctx, &rows)
		out := make([]delivery.Start, len(rows))
		for i, r := range rows {
			out[i] = r.run()
			if mayCache(r) {
				begin = append(begin, r.ID)
			}
		}
		return out, pg.Translate(err)
	})
	if err != nil || !c.Begins || len(begin) == 0 {
		return out, err
	}
	rows, err := s.messageRows(ctx, begin)
	for i := range rows {
		r := &rows[i]
		s.cacheForRun(&r.emailRow, r.Recipients, r.content(), r.TxNow)
	}
	return out, err
}

// ClaimBatches does so for batches whose run was not started.
func (s *Store) ClaimBatches(ctx context.Context, c delivery.Claim) ([]delivery.Start, error) {
	return claimTurns(c.Limit, func(limit int) ([]delivery.Start, error) {
		var rows []*batchRow
		err := s.db.NewRaw(`WITH RECURSIVE `+turnsOf("batches", "id")+`, claimed AS (
				UPDATE batches AS b SET lease_owner = ?2, lease_until = now() + ?3 * interval '1 second' FROM due WHERE b.id = due.id
				RETURNING b.customer_id, b.stream, due.*)
			SELECT id, customer_id, stream FROM claimed AS c ORDER BY c.turn, c.lease_until, c.id`,
			c.Stream, limit, c.Owner, c.Lease.Seconds(), c.Waited.Seconds(), delivery.NoOwner).Scan(ctx, &rows)
		if err != nil {
			return nil, pg.Translate(err)
		}
		out := make([]delivery.Start, len(rows))
		for i, r := range rows {
			out[i] = delivery.RunOfBatch(r.batch())
		}
		return out, nil
	})
}

// turnsOf is the common table expression due: the rows of a table that are claimed next, locked.
// ?0 is the stream, ?1 bounds them, and ?2 is the owner to be. ?4 is for how many seconds there was no
// lease. Unless that is 0, nothing is due while another owner than ?2 and ?5 has any lease. There may
// be fewer rows although more wait: each customer has an equal share, also one that waits with less
// than that.
//
// It reads one row of the index for each customer in firsts, and for each in turns its share. A
// query that ranked all rows would read all of them.
func turnsOf(table, id string) string {
	return strings.NewReplacer("TABLE", table, "ID", id).Replace(`
		firsts AS (
			(SELECT customer_id, lease_until FROM TABLE WHERE stream = ?0 AND lease_until IS NOT NULL ORDER BY customer_id, lease_until LIMIT 1)
			UNION ALL
			SELECT next.* FROM firsts, LATERAL (SELECT t.customer_id, t.lease_until FROM TABLE AS t
				WHERE t.stream = ?0 AND t.customer_id > firsts.customer_id AND t.lease_until IS NOT NULL ORDER BY t.customer_id, t.lease_until LIMIT 1) AS next),
		turns AS (SELECT customer_id FROM firsts WHERE lease_until < now() - ?4 * interval '1 second'
			AND (?4 = 0 OR NOT EXISTS (SELECT 1 FROM TABLE WHERE lease_until > now() AND lease_owner <> ?2 AND lease_owner <> ?5)) ORDER BY random() LIMIT ?1),
		shares AS (
			SELECT own.*, row_number() OVER (PARTITION BY turns.customer_id ORDER BY own.lease_until, own.id) AS turn
			FROM turns, LATERAL (SELECT t.ID AS id, t.lease_until FROM TABLE AS t WHERE t.stream = ?0 AND t.customer_id = turns.customer_id AND t.lease_until < now() - ?4 * interval '1 second'
				ORDER BY t.lease_until LIMIT (SELECT ceil(?1::numeric / greatest(count(*), 1)) FROM turns) FOR UPDATE SKIP LOCKED) AS own),
		due AS (SELECT id, lease_until, turn FROM shares ORDER BY turn, lease_until, id LIMIT ?1)`)
}

// claimTurns claims until it has as many as limit, or until none waits.
func claimTurns(limit int, claim func(limit int) ([]delivery.Start, error)) (out []delivery.Start, err error) {
	for len(out) < limit {
		some, err := claim(limit - len(out))
		if err != nil || len(some) == 0 {
			return out, err
		}
		out = append(out, some...)
	}
	return out, nil
}

// overdueAfter is how late something has to be before its run is taken for lost.
// One whose relay is down is expected to be late while workers probe that relay: its run waits until
// the relay works again, and that is over within afterOutage then. A relay that should have been
// probed overdueAfter ago is in no worker's settings any more.
const (
	overdueAfter     = 10 * time.Minute
	overdueRelayDown = 24 * time.Hour
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
				SELECT 1 FROM relay_states AS rs WHERE rs.name = e.relay_down_by AND (rs.failures > 0 AND rs.next_at > now() - ?0 * interval '1 second' OR rs.changed_at > now() - ?4 * interval '1 second')))
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

// ReturnOverdue gives back runs that ClaimOverdue has found: one of their e-mails is overdue again, unless
// it has gone on meanwhile.
func (s *Store) ReturnOverdue(ctx context.Context, runs []delivery.Start) error {
	ids := make([]string, len(runs))
	for i, r := range runs {
		ids[i] = r.EmailID
	}
	_, err := s.db.NewRaw("UPDATE emails SET next_action_at = now() - ? * interval '1 second' WHERE id = ANY (?) AND status IN ('queued', 'sending') AND next_action_at <= now()",
		(overdueAfter + time.Second).Seconds(), pgdialect.Array(ids)).Exec(ctx)
	return pg.Translate(err)
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

// ClaimOverdueDomains finds sender domains whose check is late or whose turn it is; see accounts.Store.
func (s *Store) ClaimOverdueDomains(ctx context.Context, limit int) ([]string, error) {
	return s.accounts.ClaimOverdueDomains(ctx, limit)
}

// housekeepBatch bounds one deletion, so that it holds no locks for long.
const housekeepBatch = 5000

// Housekeep deletes rows that are not needed any more: idempotency keys past their time; outbox
// rows of e-mails that ended before their run was started; uploads that broke off with their
// process; rates that no recipient has waited for in a day; counts of reputations after
// reputation.KeptDays; DKIM keys that were revoked months ago, and the numbers of selectors of domains
// that were deleted then. It never touches an e-mail.
func (s *Store) Housekeep(ctx context.Context) error {
	for _, chore := range []struct {
		table, where string
		args         []any
	}{
		{"idempotency_keys AS t", "t.created_at < now() - ? * interval '1 second'", []any{email.IdempotencyKept.Seconds()}},
		{"outbox AS t", "EXISTS (SELECT 1 FROM emails AS e WHERE e.id = t.email_id AND e.status NOT IN ('queued', 'sending'))", nil},
		{"blobs AS t", "t.expires_at < now()", nil},
		{"dkim_keys AS t", "t.state = 'revoked' AND t.since < now() - interval '90 days'", nil},
		{"dkim_selectors AS t", "t.used_at < now() - interval '90 days' AND NOT EXISTS (SELECT 1 FROM dkim_keys AS k WHERE k.domain = t.domain)", nil},
		{"reputation_days AS t", "t.day < (now() AT TIME ZONE 'UTC')::date - ?", []any{reputation.KeptDays}},
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
