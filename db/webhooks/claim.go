package webhooks

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/internal/endpoint"
)

// Leases of claimed deliveries: longer than the calls they are claimed for.
const (
	inlineDeliveryLease = 10 * time.Second
	deliveryLease       = time.Minute
	// roundLease is longer than a round of an endpoint's run.
	roundLease = 2 * time.Minute
)

// dueRow is a claimed delivery with its endpoint.
type dueRow struct {
	ID         string        `bun:"id"`
	EmailID    string        `bun:"email_id"`
	Type       string        `bun:"type"`
	Body       string        `bun:"body"`
	Attempts   int           `bun:"attempts"`
	CreatedAt  time.Time     `bun:"created_at"`
	EndpointID string        `bun:"endpoint_id"`
	CustomerID string        `bun:"customer_id"`
	Kind       endpoint.Kind `bun:"kind"`
	URL        string        `bun:"url"`
	Method     string        `bun:"method"`
	Failures   int           `bun:"failures"`
	// SecretOf is the endpoint whose secret signs: a callback has none of its own.
	SecretOf     string `bun:"secret_of"`
	SecretSealed []byte `bun:"secret_sealed"`
}

// claimed leases the deliveries that due selects for ?1 seconds, and reads them, oldest event first.
const claimed = `UPDATE webhook_deliveries AS d SET lease_until = now() + ?1 * interval '1 second' FROM due WHERE d.id = due.id
	RETURNING d.id, coalesce(d.email_id::text, '') AS email_id, d.type, d.body, d.attempts, d.created_at, d.event_id, d.endpoint_id)
	SELECT c.id, c.email_id, c.type, c.body, c.attempts, c.created_at, c.endpoint_id, w.customer_id, w.kind, w.url, w.method, w.failures, own.id AS secret_of, own.secret_sealed
	FROM claimed AS c JOIN webhook_endpoints AS w ON w.id = c.endpoint_id
	JOIN webhook_endpoints AS own ON (w.kind <> 'callback' AND own.id = w.id) OR (w.kind = 'callback' AND own.customer_id = w.customer_id AND own.kind = 'customer')
	ORDER BY c.event_id`

// free are deliveries that are due and have no lease.
const free = `d.status = 'pending' AND d.next_attempt_at <= now() AND (d.lease_until IS NULL OR d.lease_until < now())`

// unattended are endpoints (w) that need a run: enabled, not in backoff, and without a run at work.
// A caller that has committed a delivery for an attended endpoint need not wake it. The run reads
// the waiting deliveries after it has noted that it stops; an endpoint in backoff is read when the
// backoff is over.
const unattended = `w.disabled_at IS NULL AND (w.blocked_until IS NULL OR w.blocked_until <= now()) AND (w.round_until IS NULL OR w.round_until <= now())`

// ClaimForEmail leases an e-mail's due deliveries to endpoints that have no other pending ones.
// others are the remaining endpoints of its deliveries that no run attends.
func (s *Store) ClaimForEmail(ctx context.Context, emailID string) (due []endpoint.Due, others []string, err error) {
	var rows []dueRow
	err = s.db.NewRaw(`WITH due AS (
			SELECT d.id FROM webhook_deliveries AS d JOIN webhook_endpoints AS w ON w.id = d.endpoint_id AND w.disabled_at IS NULL AND w.failures = 0
			WHERE d.email_id = ?0 AND `+free+` AND NOT EXISTS (SELECT 1 FROM webhook_deliveries AS o
				WHERE o.endpoint_id = d.endpoint_id AND o.status = 'pending' AND o.email_id IS DISTINCT FROM d.email_id)
			FOR UPDATE OF d SKIP LOCKED),
		claimed AS (`+claimed, emailID, inlineDeliveryLease.Seconds()).Scan(ctx, &rows)
	if err != nil {
		return nil, nil, pg.Translate(err)
	}
	if due, err = s.due(rows); err != nil {
		return nil, nil, err
	}
	err = s.db.NewRaw(`SELECT DISTINCT d.endpoint_id FROM webhook_deliveries AS d JOIN webhook_endpoints AS w ON w.id = d.endpoint_id AND `+unattended+`
		WHERE d.email_id = ? AND `+free, emailID).Scan(ctx, &others)
	return due, others, pg.Translate(err)
}

// BeginRound says that an endpoint's run is at work, until EndpointBacklog is asked.
func (s *Store) BeginRound(ctx context.Context, endpointID string) error {
	_, err := s.db.NewRaw("UPDATE webhook_endpoints SET round_until = now() + ? * interval '1 second' WHERE id = ?", roundLease.Seconds(), endpointID).Exec(ctx)
	return pg.Translate(err)
}

// ClaimForEndpoint leases up to limit due deliveries of one endpoint. It leases one after the
// endpoint has failed, and during the backoff only those that a user has asked for.
func (s *Store) ClaimForEndpoint(ctx context.Context, endpointID string, limit int) ([]endpoint.Due, error) {
	var rows []dueRow
	err := s.db.NewRaw(`WITH due AS (
			SELECT d.id FROM webhook_deliveries AS d JOIN webhook_endpoints AS w ON w.id = d.endpoint_id AND w.disabled_at IS NULL
				AND (w.blocked_until IS NULL OR w.blocked_until <= now() OR d.asked)
			WHERE d.endpoint_id = ?0 AND `+free+` ORDER BY d.asked DESC, d.next_attempt_at, d.event_id
			LIMIT (SELECT CASE WHEN failures > 0 THEN 1 ELSE ?2 END FROM webhook_endpoints WHERE id = ?0) FOR UPDATE OF d SKIP LOCKED),
		claimed AS (`+claimed, endpointID, deliveryLease.Seconds(), limit).Scan(ctx, &rows)
	if err != nil {
		return nil, pg.Translate(err)
	}
	return s.due(rows)
}

func (s *Store) due(rows []dueRow) ([]endpoint.Due, error) {
	out := make([]endpoint.Due, len(rows))
	for i, r := range rows {
		secrets, err := s.openSecrets(r.SecretOf, r.SecretSealed)
		if err != nil {
			return nil, err
		}
		out[i] = endpoint.Due{
			Endpoint: endpoint.Endpoint{ID: r.EndpointID, CustomerID: r.CustomerID, Kind: r.Kind, URL: r.URL, Method: r.Method, Failures: r.Failures, Secrets: secrets},
			Delivery: endpoint.Delivery{
				ID: endpoint.DeliveryIDPrefix + r.ID, EndpointID: r.EndpointID, EmailID: r.EmailID, Type: r.Type, Body: []byte(r.Body),
				Attempts: r.Attempts, Status: endpoint.StatusPending, CreatedAt: pg.UTC(r.CreatedAt),
			},
		}
	}
	return out, nil
}

// ReleaseDeliveries gives claimed deliveries back without an attempt.
func (s *Store) ReleaseDeliveries(ctx context.Context, ds []endpoint.Delivery) error {
	if len(ds) == 0 {
		return nil
	}
	ids := make([]string, len(ds))
	for i, d := range ds {
		ids[i] = strings.TrimPrefix(d.ID, endpoint.DeliveryIDPrefix)
	}
	_, err := s.db.NewRaw("UPDATE webhook_deliveries SET lease_until = NULL WHERE id IN (?) AND status = 'pending'", bun.List(ids)).Exec(ctx)
	return pg.Translate(err)
}

// RecordDelivery writes what an attempt came to: done, to be tried again on the
// schedule, or given up. It moves the endpoint's breaker, disables one that answered
// 410 or has failed for endpoint.DisableAfter, and tells the customer's other
// endpoints of that, and before.
func (s *Store) RecordDelivery(ctx context.Context, d endpoint.Delivery, r endpoint.Result) error {
	id := strings.TrimPrefix(d.ID, endpoint.DeliveryIDPrefix)
	if r.Verdict == endpoint.VerdictDelivered {
		return s.recordDelivered(ctx, id, d.EndpointID, r)
	}
	return s.db.InTx(ctx, func(tx bun.Tx) error {
		// The endpoint first, in the order of all transactions that change one. Not FOR UPDATE: the
		// mail's own transactions write deliveries for it meanwhile.
		var row failingRow
		err := tx.NewRaw("SELECT w.*, now() AS tx_now FROM webhook_endpoints AS w WHERE w.id = ? FOR NO KEY UPDATE", d.EndpointID).Scan(ctx, &row)
		if err != nil {
			return err
		}
		settled, err := s.recordFailed(ctx, tx, id, r)
		if err != nil || !settled {
			return err // another worker has settled it
		}
		return row.recordFailure(ctx, tx, r)
	})
}

// recordDelivered is one statement: there are many of them.
func (s *Store) recordDelivered(ctx context.Context, id, endpointID string, r endpoint.Result) error {
	_, err := s.db.NewRaw(`WITH back AS (
			UPDATE webhook_endpoints SET failures = 0, failing_since = NULL, blocked_until = NULL, warned_at = NULL, last_error = '' WHERE id = ?0 AND failures > 0),
		done AS (
			UPDATE webhook_deliveries SET attempts = attempts + 1, lease_until = NULL, asked = false, last_code = ?1, last_error = '', status = 'delivered',
				next_attempt_at = NULL, done_at = now() WHERE id = ?2 AND status = 'pending' RETURNING id, attempts)
		INSERT INTO webhook_attempts (delivery_id, attempt, code, ms, answer) SELECT id, attempts, ?1, ?3, ?4 FROM done ON CONFLICT DO NOTHING`,
		endpointID, r.Status, id, r.Duration.Milliseconds(), pg.CleanText(r.BodyExcerpt)).Exec(ctx)
	return pg.Translate(err)
}

// recordFailed moves a delivery on the schedule, or to its end.
func (s *Store) recordFailed(ctx context.Context, tx bun.Tx, id string, r endpoint.Result) (settled bool, err error) {
	var made int
	err = tx.NewRaw("SELECT attempts - spent + 1 FROM webhook_deliveries WHERE id = ? AND status = 'pending' FOR UPDATE", id).Scan(ctx, &made)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	wait, more := endpoint.Schedule{Steps: s.schedule}.NextAfter(made, r.RetryAfter, rand.Float64())
	status := endpoint.StatusPending
	if !more || r.Verdict == endpoint.VerdictGone {
		status = endpoint.StatusFailed
	}
	_, err = tx.NewRaw(`WITH tried AS (
			UPDATE webhook_deliveries SET attempts = attempts + 1, lease_until = NULL, asked = false, last_code = ?0, last_error = ?1, status = ?2,
				next_attempt_at = CASE WHEN ?2 = 'pending' THEN now() + ?3 * interval '1 second' END,
				done_at = CASE WHEN ?2 <> 'pending' THEN now() END WHERE id = ?4 RETURNING id, attempts)
		INSERT INTO webhook_attempts (delivery_id, attempt, code, ms, error, answer) SELECT id, attempts, ?0, ?5, ?1, ?6 FROM tried ON CONFLICT DO NOTHING`,
		r.Status, pg.CleanText(r.Error), string(status), wait.Seconds(), id, r.Duration.Milliseconds(), pg.CleanText(r.BodyExcerpt)).Exec(ctx)
	return true, err
}

// failingRow is a locked endpoint with the time.
type failingRow struct {
	endpointRow
	TxNow time.Time `bun:"tx_now"`
}

// recordFailure moves an endpoint's breaker.
func (row *failingRow) recordFailure(ctx context.Context, tx bun.Tx, r endpoint.Result) error {
	if !row.DisabledAt.IsZero() {
		return nil
	}
	if !row.BlockedUntil.After(row.TxNow) {
		row.Failures++ // else a call beside this one has just said so
	}
	if row.FailingSince.IsZero() {
		row.FailingSince = row.TxNow
	}
	row.LastError = pg.CleanText(r.Error)
	if until := row.TxNow.Add(max(endpoint.Backoff(row.Failures), min(r.RetryAfter, endpoint.MaxRetryAfter))); until.After(row.BlockedUntil) {
		row.BlockedUntil = until
	}
	warn, disable := endpoint.Escalate(row.TxNow, row.FailingSince, row.WarnedAt)
	switch {
	case r.Verdict == endpoint.VerdictGone:
		row.DisabledReason = endpoint.ReasonGone
	case disable:
		row.DisabledReason = endpoint.ReasonFailing
	case warn:
		row.WarnedAt = row.TxNow
	}
	if row.DisabledReason != "" {
		row.DisabledAt = row.TxNow
	}
	_, err := tx.NewRaw(`UPDATE webhook_endpoints SET failures = ?, failing_since = ?, blocked_until = ?, warned_at = ?, last_error = ?, disabled_at = ?, disabled_reason = ?,
		updated_at = now() WHERE id = ?`,
		row.Failures, row.FailingSince, row.BlockedUntil, pg.OrNull(row.WarnedAt), row.LastError, pg.OrNull(row.DisabledAt), row.DisabledReason, row.ID).Exec(ctx)
	switch {
	case err != nil:
		return err
	case row.DisabledReason != "":
		return errors.Join(row.notify(ctx, tx, endpoint.TypeDisabled, map[string]any{"reason": row.DisabledReason}),
			audit.Write(ctx, tx, row.CustomerID, "webhook.disabled", row.ID, row.DisabledReason))
	case row.WarnedAt.Equal(row.TxNow):
		return errors.Join(row.notify(ctx, tx, endpoint.TypeFailing, map[string]any{"disables_at": endpoint.DisablesAt(row.FailingSince, row.WarnedAt).UTC()}),
			audit.Write(ctx, tx, row.CustomerID, "webhook.failing", row.ID, row.LastError))
	}
	return nil
}

// notify writes a delivery for those of a customer's other endpoints that want the event.
func (row *failingRow) notify(ctx context.Context, tx bun.Tx, eventType string, more map[string]any) error {
	data := map[string]any{
		"endpoint_id": row.ID, "customer_id": row.CustomerID, "url": row.URL, "failing_since": row.FailingSince.UTC(), "failures": row.Failures, "last_error": row.LastError,
	}
	maps.Copy(data, more)
	return enqueueOfCustomer(ctx, tx, row.CustomerID, eventType, row.TxNow, data, row.ID)
}

// EndpointBacklog says what waits for an endpoint, and ends a round.
func (s *Store) EndpointBacklog(ctx context.Context, endpointID string) (endpoint.Backlog, error) {
	// Two statements: what commits before the first is seen by the second, what commits
	// later finds the round ended (see unattended).
	if _, err := s.db.NewRaw("UPDATE webhook_endpoints SET round_until = NULL WHERE id = ? AND round_until IS NOT NULL", endpointID).Exec(ctx); err != nil {
		return endpoint.Backlog{}, pg.Translate(err)
	}
	var row struct {
		endpointRow
		Waiting int       `bun:"waiting"`
		NextAt  time.Time `bun:"next_at"`
	}
	err := s.db.NewRaw(`SELECT w.*, b.waiting, b.next_at FROM webhook_endpoints AS w, LATERAL (
			SELECT count(*) AS waiting, coalesce(min(greatest(d.next_attempt_at, d.lease_until, CASE WHEN NOT d.asked THEN w.blocked_until END)), now()) AS next_at
			FROM webhook_deliveries AS d WHERE d.endpoint_id = w.id AND d.status = 'pending' AND w.disabled_at IS NULL) AS b
		WHERE w.id = ?`, endpointID).Scan(ctx, &row)
	if errors.Is(err, sql.ErrNoRows) {
		return endpoint.Backlog{}, nil
	}
	if err != nil {
		return endpoint.Backlog{}, pg.Translate(err)
	}
	out := endpoint.Backlog{Waiting: row.Waiting, Endpoint: row.endpoint()}
	if row.Waiting > 0 {
		out.NextAt = pg.UTC(row.NextAt)
	}
	return out, nil
}

// endpointOverdueAfter is how late a delivery has to be before a sweep wakes its endpoint: longer
// than an e-mail's run takes to come to it.
const endpointOverdueAfter = 2 * time.Second

// OverdueEndpoints finds webhook endpoints with deliveries that no worker has taken: those of
// events outside a run, and those whose worker has died.
func (s *Store) OverdueEndpoints(ctx context.Context) ([]string, error) {
	var ids []string
	// From one endpoint to the next by the index, past however much waits for each.
	err := s.db.NewRaw(`WITH RECURSIVE waiting AS (
			(SELECT endpoint_id FROM webhook_deliveries WHERE status = 'pending' ORDER BY endpoint_id LIMIT 1)
			UNION ALL
			SELECT (SELECT d.endpoint_id FROM webhook_deliveries AS d WHERE d.status = 'pending' AND d.endpoint_id > waiting.endpoint_id ORDER BY d.endpoint_id LIMIT 1)
			FROM waiting WHERE waiting.endpoint_id IS NOT NULL)
		SELECT w.id FROM waiting JOIN webhook_endpoints AS w ON w.id = waiting.endpoint_id
		WHERE `+unattended+` AND (w.blocked_until IS NULL OR w.blocked_until < now() - ?0 * interval '1 second')
			AND EXISTS (SELECT 1 FROM webhook_deliveries AS d WHERE d.endpoint_id = w.id AND d.status = 'pending'
				AND d.next_attempt_at < now() - ?0 * interval '1 second' AND (d.lease_until IS NULL OR d.lease_until < now())) LIMIT 1000`,
		endpointOverdueAfter.Seconds()).Scan(ctx, &ids)
	return ids, pg.Translate(err)
}

// PendingForEmails counts the deliveries of e-mails that are worth a look at once, by e-mail.
func (s *Store) PendingForEmails(ctx context.Context, emailIDs []string) (map[string]int, error) {
	var counts []struct {
		EmailID string
		N       int
	}
	err := s.db.NewRaw(`SELECT d.email_id, count(*) AS n FROM webhook_deliveries AS d JOIN webhook_endpoints AS w ON w.id = d.endpoint_id AND `+unattended+`
		WHERE d.email_id IN (?) AND d.status = 'pending' GROUP BY d.email_id`,
		bun.List(emailIDs)).Scan(ctx, &counts)
	out := make(map[string]int, len(counts))
	for _, n := range counts {
		out[n.EmailID] = n.N
	}
	return out, pg.Translate(err)
}

// EndpointsOf are the endpoints that have deliveries of e-mails waiting.
func (s *Store) EndpointsOf(ctx context.Context, emailIDs []string) (endpoints []string, err error) {
	err = s.db.NewRaw(`SELECT DISTINCT d.endpoint_id FROM webhook_deliveries AS d JOIN webhook_endpoints AS w ON w.id = d.endpoint_id AND `+unattended+`
		WHERE d.email_id IN (?) AND d.status = 'pending'`, bun.List(emailIDs)).Scan(ctx, &endpoints)
	return endpoints, pg.Translate(err)
}
