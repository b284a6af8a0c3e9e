package db

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/internal/endpoint"
)

// Leases of claimed deliveries: longer than the calls they are claimed for.
const (
	inlineDeliveryLease = 10 * time.Second
	deliveryLease       = 5 * time.Minute
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
	// SecretOf is the endpoint whose secret signs: a callback has none of its own.
	SecretOf     string `bun:"secret_of"`
	SecretSealed []byte `bun:"secret_sealed"`
}

// claimed reads back what an UPDATE has leased, oldest event first.
const claimed = `UPDATE webhook_deliveries AS d SET lease_until = now() + ? * interval '1 second' FROM due WHERE d.id = due.id
	RETURNING d.id, coalesce(d.email_id::text, '') AS email_id, d.type, d.body, d.attempts, d.created_at, d.event_id, d.endpoint_id)
	SELECT c.id, c.email_id, c.type, c.body, c.attempts, c.created_at, c.endpoint_id, w.customer_id, w.kind, w.url, w.method, own.id AS secret_of, own.secret_sealed
	FROM claimed AS c JOIN webhook_endpoints AS w ON w.id = c.endpoint_id
	JOIN webhook_endpoints AS own ON (w.kind <> 'callback' AND own.id = w.id) OR (w.kind = 'callback' AND own.customer_id = w.customer_id AND own.kind = 'customer')
	ORDER BY c.event_id`

// free are deliveries that nobody holds and that are due.
const free = `d.status = 'pending' AND d.next_attempt_at <= now() AND (d.lease_until IS NULL OR d.lease_until < now())`

// ClaimForEmail leases an e-mail's due deliveries to endpoints that have nothing
// else pending. others are the endpoints of the rest.
func (s *Store) ClaimForEmail(ctx context.Context, emailID string) (due []endpoint.Due, others []string, err error) {
	var rows []dueRow
	err = s.db.NewRaw(`WITH due AS (
			SELECT d.id FROM webhook_deliveries AS d JOIN webhook_endpoints AS w ON w.id = d.endpoint_id AND w.disabled_at IS NULL AND w.failures = 0
			WHERE d.email_id = ?0 AND `+free+` AND NOT EXISTS (SELECT 1 FROM webhook_deliveries AS o
				WHERE o.endpoint_id = d.endpoint_id AND o.status = 'pending' AND o.email_id IS DISTINCT FROM d.email_id)
			FOR UPDATE OF d SKIP LOCKED),
		claimed AS (`+strings.Replace(claimed, "?", "?1", 1), emailID, inlineDeliveryLease.Seconds()).Scan(ctx, &rows)
	if err != nil {
		return nil, nil, translate(err)
	}
	if due, err = s.due(rows); err != nil {
		return nil, nil, err
	}
	err = s.db.NewRaw(`SELECT DISTINCT d.endpoint_id FROM webhook_deliveries AS d JOIN webhook_endpoints AS w ON w.id = d.endpoint_id
		WHERE d.email_id = ? AND w.disabled_at IS NULL AND `+free, emailID).Scan(ctx, &others)
	return due, others, translate(err)
}

// ClaimForEndpoint leases up to limit due deliveries of one endpoint: none while it
// is left alone, one after it has failed.
func (s *Store) ClaimForEndpoint(ctx context.Context, endpointID string, limit int) ([]endpoint.Due, error) {
	var rows []dueRow
	err := s.db.NewRaw(`WITH due AS (
			SELECT d.id FROM webhook_deliveries AS d JOIN webhook_endpoints AS w ON w.id = d.endpoint_id AND w.disabled_at IS NULL
				AND (w.blocked_until IS NULL OR w.blocked_until <= now())
			WHERE d.endpoint_id = ?0 AND `+free+` ORDER BY d.next_attempt_at, d.event_id
			LIMIT (SELECT CASE WHEN failures > 0 THEN 1 ELSE ?2 END FROM webhook_endpoints WHERE id = ?0) FOR UPDATE OF d SKIP LOCKED),
		claimed AS (`+strings.Replace(claimed, "?", "?1", 1), endpointID, deliveryLease.Seconds(), limit).Scan(ctx, &rows)
	if err != nil {
		return nil, translate(err)
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
			Endpoint: endpoint.Endpoint{ID: r.EndpointID, CustomerID: r.CustomerID, Kind: r.Kind, URL: r.URL, Method: r.Method, Secrets: secrets},
			Delivery: endpoint.Delivery{
				ID: endpoint.DeliveryIDPrefix + r.ID, EndpointID: r.EndpointID, EmailID: r.EmailID, Type: r.Type, Body: []byte(r.Body),
				Attempts: r.Attempts, Status: endpoint.StatusPending, CreatedAt: utc(r.CreatedAt),
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
	return translate(err)
}

// SettleDelivery writes what an attempt came to: done, to be tried again on the
// schedule, or given up. It moves the endpoint's breaker, disables one that answered
// 410 or has failed for endpoint.DisableAfter, and tells the customer's other
// endpoints of that.
func (s *Store) SettleDelivery(ctx context.Context, d endpoint.Delivery, r endpoint.Result) error {
	status, wait := endpoint.StatusPending, time.Duration(0)
	switch r.Verdict {
	case endpoint.VerdictDelivered:
		status = endpoint.StatusDelivered
	case endpoint.VerdictGone:
		status = endpoint.StatusFailed
	default:
		next, more := endpoint.Schedule{Steps: s.opts.WebhookSchedule}.NextAfter(d.Attempts+1, r.RetryAfter, jitter())
		if wait = next; !more {
			status = endpoint.StatusFailed
		}
	}
	id := strings.TrimPrefix(d.ID, endpoint.DeliveryIDPrefix)
	return s.inTx(ctx, func(tx bun.Tx) error {
		res, err := tx.NewRaw(`UPDATE webhook_deliveries SET attempts = attempts + 1, lease_until = NULL, last_code = ?0, last_error = ?1, status = ?2,
			next_attempt_at = CASE WHEN ?2 = 'pending' THEN now() + ?3 * interval '1 second' END,
			done_at = CASE WHEN ?2 <> 'pending' THEN now() END WHERE id = ?4 AND status = 'pending'`,
			r.Status, cleanText(r.Error), string(status), wait.Seconds(), id).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err // somebody else has settled it
		}
		_, err = tx.NewRaw(`INSERT INTO webhook_attempts (delivery_id, attempt, code, ms, error, answer)
			SELECT id, attempts, ?, ?, ?, ? FROM webhook_deliveries WHERE id = ? ON CONFLICT DO NOTHING`,
			r.Status, r.Duration.Milliseconds(), cleanText(r.Error), cleanText(r.BodyExcerpt), id).Exec(ctx)
		if err != nil {
			return err
		}
		return settleEndpoint(ctx, tx, d.EndpointID, r)
	})
}

// settleEndpoint moves an endpoint's breaker.
func settleEndpoint(ctx context.Context, tx bun.Tx, endpointID string, r endpoint.Result) error {
	if r.Verdict == endpoint.VerdictDelivered {
		// Most find nothing to change, and lock nothing.
		_, err := tx.NewRaw(`UPDATE webhook_endpoints SET failures = 0, failing_since = NULL, blocked_until = NULL WHERE id = ? AND failures > 0`, endpointID).Exec(ctx)
		return err
	}
	var row struct {
		endpointRow
		TxNow time.Time `bun:"tx_now"`
	}
	err := tx.NewRaw("SELECT w.*, now() AS tx_now FROM webhook_endpoints AS w WHERE w.id = ? FOR UPDATE", endpointID).Scan(ctx, &row)
	if err != nil || !row.DisabledAt.IsZero() {
		return err
	}
	row.Failures++
	if row.FailingSince.IsZero() {
		row.FailingSince = row.TxNow
	}
	wait := max(endpoint.Backoff(row.Failures), min(r.RetryAfter, endpoint.MaxRetryAfter))
	row.BlockedUntil = row.TxNow.Add(wait)
	switch {
	case r.Verdict == endpoint.VerdictGone:
		row.DisabledReason = endpoint.ReasonGone
	case row.TxNow.Sub(row.FailingSince) >= endpoint.DisableAfter:
		row.DisabledReason = endpoint.ReasonFailing
	}
	if row.DisabledReason != "" {
		row.DisabledAt = row.TxNow
	}
	_, err = tx.NewRaw(`UPDATE webhook_endpoints SET failures = ?, failing_since = ?, blocked_until = ?, disabled_at = ?, disabled_reason = ?, updated_at = now() WHERE id = ?`,
		row.Failures, row.FailingSince, row.BlockedUntil, orNull(row.DisabledAt), row.DisabledReason, endpointID).Exec(ctx)
	if err != nil || row.DisabledReason == "" {
		return err
	}
	if err := tellDisabled(ctx, tx, &row.endpointRow); err != nil {
		return err
	}
	return audit(ctx, tx, row.CustomerID, "webhook.disabled", endpointID, row.DisabledReason)
}

// tellDisabled tells those of a customer's endpoints that want to know.
func tellDisabled(ctx context.Context, tx bun.Tx, row *endpointRow) error {
	body, err := json.Marshal(map[string]any{"type": endpoint.TypeDisabled, "timestamp": row.DisabledAt.UTC(), "data": map[string]any{
		"endpoint_id": row.ID, "customer_id": row.CustomerID, "url": row.URL, "reason": row.DisabledReason, "failing_since": row.FailingSince.UTC()}})
	if err != nil {
		return err
	}
	_, err = tx.NewRaw(`INSERT INTO webhook_deliveries (id, endpoint_id, event_id, type, body, status, next_attempt_at, created_at)
		SELECT gen_random_uuid(), w.id, ?0, ?1, ?2, 'pending', now(), now() FROM webhook_endpoints AS w
		WHERE w.customer_id = ?3 AND w.disabled_at IS NULL AND w.id <> ?4 AND ?1 = ANY (w.events)`,
		newID(), endpoint.TypeDisabled, string(body), row.CustomerID, row.ID).Exec(ctx)
	return err
}

// EndpointBacklog says how many deliveries wait for an endpoint, and when the
// next is due. A disabled endpoint has none.
func (s *Store) EndpointBacklog(ctx context.Context, endpointID string) (waiting int, nextAt time.Time, err error) {
	err = s.db.NewRaw(`SELECT count(*), coalesce(min(greatest(d.next_attempt_at, d.lease_until, w.blocked_until)), now())
		FROM webhook_deliveries AS d JOIN webhook_endpoints AS w ON w.id = d.endpoint_id AND w.disabled_at IS NULL
		WHERE d.endpoint_id = ? AND d.status = 'pending'`, endpointID).Scan(ctx, &waiting, &nextAt)
	if waiting == 0 {
		nextAt = time.Time{}
	}
	return waiting, utc(nextAt), translate(err)
}
