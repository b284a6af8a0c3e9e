package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/endpoint"
)

type endpointRow struct {
	bun.BaseModel `bun:"table:webhook_endpoints,alias:w"`

	ID             string        `bun:"id,pk,type:uuid"`
	CustomerID     string        `bun:"customer_id,type:uuid"`
	Kind           endpoint.Kind `bun:"kind"`
	URL            string        `bun:"url"`
	Method         string        `bun:"method"`
	SecretSealed   []byte        `bun:"secret_sealed,nullzero"`
	Events         []string      `bun:"events,array"`
	DisabledAt     time.Time     `bun:"disabled_at,nullzero"`
	DisabledReason string        `bun:"disabled_reason"`
}

// reasonNoURL disables a customer's endpoint while there is no address.
const reasonNoURL = "no address"

// createCustomerEndpoint makes a customer's own endpoint, without an address yet.
func (s *Store) createCustomerEndpoint(ctx context.Context, tx bun.Tx, customerID string) (secret string, err error) {
	fresh, err := endpoint.NewSecret()
	if err != nil {
		return "", err
	}
	row := endpointRow{ID: newID(), CustomerID: customerID, Kind: endpoint.KindCustomer, Method: "POST", DisabledAt: time.Now(), DisabledReason: reasonNoURL}
	row.Events = defaultEvents()
	row.SecretSealed = s.seal.sealFor(row.ID, []byte(fresh.Reveal()))
	if _, err := tx.NewInsert().Model(&row).Exec(ctx); err != nil {
		return "", fmt.Errorf("insert webhook endpoint: %w", err)
	}
	return fresh.Reveal(), nil
}

// setCustomerEndpoint points a customer's endpoint to its address. Another
// address, or none, makes a disabled one what it is to be. The secret is
// returned where this turned the webhook on.
func (s *Store) setCustomerEndpoint(ctx context.Context, tx bun.Tx, c account.Customer) (secret string, err error) {
	var row endpointRow
	if err := tx.NewSelect().Model(&row).Where("w.customer_id = ?", c.ID).Where("w.kind = ?", endpoint.KindCustomer).
		For("UPDATE").Scan(ctx); err != nil {
		return "", fmt.Errorf("read webhook endpoint: %w", err)
	}
	if c.WebhookURI == row.URL && c.WebhookMethod == row.Method {
		return "", nil
	}
	turnedOn := row.URL == "" && c.WebhookURI != ""
	if c.WebhookURI != row.URL {
		row.DisabledAt, row.DisabledReason = time.Time{}, ""
		if c.WebhookURI == "" {
			row.DisabledAt, row.DisabledReason = time.Now(), reasonNoURL
		}
	}
	row.URL, row.Method = c.WebhookURI, c.WebhookMethod
	if _, err := tx.NewUpdate().Model(&row).WherePK().Column("url", "method", "disabled_at", "disabled_reason").
		Set("updated_at = now()").Exec(ctx); err != nil {
		return "", fmt.Errorf("update webhook endpoint: %w", err)
	}
	if !turnedOn {
		return "", nil
	}
	plain, err := s.seal.openFor(row.ID, row.SecretSealed)
	return string(plain), err
}

// WebhookSecret reads the secret of a customer's own endpoint.
func (s *Store) WebhookSecret(ctx context.Context, customerID string) (string, error) {
	var row endpointRow
	err := s.db.NewSelect().Model(&row).Column("id", "secret_sealed").Where("w.customer_id = ?", customerID).Where("w.kind = ?", endpoint.KindCustomer).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return "", notFound("customer")
	}
	if err != nil {
		return "", translate(err)
	}
	plain, err := s.seal.openFor(row.ID, row.SecretSealed)
	return string(plain), err
}

// callback finds the endpoint of a message's callback_url, or makes it: one for
// each customer and URL, signed with the customer's secret.
func (c *change) callback(customerID, url string) (id string, err error) {
	if url == "" {
		return "", nil
	}
	row := endpointRow{ID: newID(), CustomerID: customerID, Kind: endpoint.KindCallback, URL: url, Method: "POST", Events: defaultEvents()}
	for range 2 {
		err = c.tx.NewRaw("SELECT id FROM webhook_endpoints WHERE customer_id = ? AND url = ? AND kind = 'callback'", customerID, url).Scan(c.ctx, &id)
		if !errors.Is(err, sql.ErrNoRows) {
			return id, err
		}
		if _, err = c.tx.NewInsert().Model(&row).On("CONFLICT (customer_id, url) WHERE kind = 'callback' DO NOTHING").Exec(c.ctx); err != nil {
			return "", fmt.Errorf("insert callback: %w", err)
		}
	}
	return id, err
}

func defaultEvents() []string {
	var out []string
	for _, t := range email.DefaultWebhookEvents() {
		out = append(out, string(t))
	}
	return out
}

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
			SELECT d.id FROM webhook_deliveries AS d JOIN webhook_endpoints AS w ON w.id = d.endpoint_id AND w.disabled_at IS NULL
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

// ClaimForEndpoint leases up to limit due deliveries of one endpoint.
func (s *Store) ClaimForEndpoint(ctx context.Context, endpointID string, limit int) ([]endpoint.Due, error) {
	var rows []dueRow
	err := s.db.NewRaw(`WITH due AS (
			SELECT d.id FROM webhook_deliveries AS d JOIN webhook_endpoints AS w ON w.id = d.endpoint_id AND w.disabled_at IS NULL
			WHERE d.endpoint_id = ?0 AND `+free+` ORDER BY d.next_attempt_at, d.event_id LIMIT ?2 FOR UPDATE OF d SKIP LOCKED),
		claimed AS (`+strings.Replace(claimed, "?", "?1", 1), endpointID, deliveryLease.Seconds(), limit).Scan(ctx, &rows)
	if err != nil {
		return nil, translate(err)
	}
	return s.due(rows)
}

func (s *Store) due(rows []dueRow) ([]endpoint.Due, error) {
	out := make([]endpoint.Due, len(rows))
	for i, r := range rows {
		plain, err := s.seal.openFor(r.SecretOf, r.SecretSealed)
		if err != nil {
			return nil, err
		}
		secret, err := endpoint.ParseSecret(string(plain))
		if err != nil {
			return nil, err
		}
		out[i] = endpoint.Due{
			Endpoint: endpoint.Endpoint{ID: r.EndpointID, CustomerID: r.CustomerID, Kind: r.Kind, URL: r.URL, Method: r.Method, Secrets: []endpoint.Secret{secret}},
			Delivery: endpoint.Delivery{
				ID: endpoint.DeliveryIDPrefix + r.ID, EndpointID: r.EndpointID, EmailID: r.EmailID, Type: r.Type, Body: []byte(r.Body),
				Attempts: r.Attempts, Status: endpoint.StatusPending, CreatedAt: utc(r.CreatedAt),
			},
		}
	}
	return out, nil
}

// SettleDelivery writes what an attempt came to: done, to be tried again on the
// schedule, or given up. An endpoint that answered 410 is disabled.
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
		_, err := tx.NewRaw(`UPDATE webhook_deliveries SET attempts = attempts + 1, lease_until = NULL, last_code = ?0, last_error = ?1, status = ?2,
			next_attempt_at = CASE WHEN ?2 = 'pending' THEN now() + ?3 * interval '1 second' END,
			done_at = CASE WHEN ?2 <> 'pending' THEN now() END WHERE id = ?4 AND status = 'pending'`,
			r.Status, cleanText(r.Error), string(status), wait.Seconds(), id).Exec(ctx)
		if err != nil || r.Verdict != endpoint.VerdictGone {
			return err
		}
		_, err = tx.NewRaw("UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = ?, updated_at = now() WHERE id = ? AND disabled_at IS NULL",
			endpoint.ReasonGone, d.EndpointID).Exec(ctx)
		return err
	})
}

// EndpointBacklog says how many deliveries wait for an endpoint, and when the
// next is due. A disabled endpoint has none.
func (s *Store) EndpointBacklog(ctx context.Context, endpointID string) (waiting int, nextAt time.Time, err error) {
	err = s.db.NewRaw(`SELECT count(*), coalesce(min(greatest(d.next_attempt_at, d.lease_until)), now())
		FROM webhook_deliveries AS d JOIN webhook_endpoints AS w ON w.id = d.endpoint_id AND w.disabled_at IS NULL
		WHERE d.endpoint_id = ? AND d.status = 'pending'`, endpointID).Scan(ctx, &waiting, &nextAt)
	if waiting == 0 {
		nextAt = time.Time{}
	}
	return waiting, utc(nextAt), translate(err)
}
