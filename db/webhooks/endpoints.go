package webhooks

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/endpoint"
)

type endpointRow struct {
	bun.BaseModel `bun:"table:webhook_endpoints,alias:w"`

	ID             string          `bun:"id,pk,type:uuid"`
	CustomerID     string          `bun:"customer_id,type:uuid"`
	Kind           endpoint.Kind   `bun:"kind"`
	URL            string          `bun:"url"`
	Method         string          `bun:"method"`
	SecretSealed   []byte          `bun:"secret_sealed,nullzero"`
	Events         []string        `bun:"events,array"`
	Format         endpoint.Format `bun:"format"`
	Tags           []string        `bun:"tags,array"`
	Streams        []string        `bun:"streams,array"`
	DisabledAt     time.Time       `bun:"disabled_at,nullzero"`
	DisabledReason string          `bun:"disabled_reason"`
	Failures       int             `bun:"failures"`
	FailingSince   time.Time       `bun:"failing_since,nullzero"`
	BlockedUntil   time.Time       `bun:"blocked_until,nullzero"`
	WarnedAt       time.Time       `bun:"warned_at,nullzero"`
	LastError      string          `bun:"last_error"`
	RoundUntil     time.Time       `bun:"round_until,nullzero"`
	CreatedAt      time.Time       `bun:"created_at,nullzero,default:now()"`
	UpdatedAt      time.Time       `bun:"updated_at,nullzero,default:now()"`
	DeletedAt      time.Time       `bun:"deleted_at,nullzero"`
}

// endpoint is the row without its secrets.
func (r *endpointRow) endpoint() endpoint.Endpoint {
	return endpoint.Endpoint{
		ID: r.ID, CustomerID: r.CustomerID, Kind: r.Kind, URL: r.URL, Method: r.Method, Format: r.Format, Events: r.Events,
		Tags: r.Tags, Streams: r.Streams, Disabled: !r.DisabledAt.IsZero(), DisabledReason: r.DisabledReason,
		Failures: r.Failures, FailingSince: pg.UTC(r.FailingSince), BlockedUntil: pg.UTC(r.BlockedUntil), WarnedAt: pg.UTC(r.WarnedAt), LastError: r.LastError,
		CreatedAt: pg.UTC(r.CreatedAt), UpdatedAt: pg.UTC(r.UpdatedAt),
	}
}

// keptSecret is a secret as it is sealed.
type keptSecret struct {
	Secret string    `json:"secret"`
	Until  time.Time `json:"until,omitzero"`
}

// secretColumn holds the sealed secrets.
var secretColumn = pg.RegisterSealed("webhook_endpoints", "id", "secret_sealed")

// sealSecrets seals with the key that seals now, which stays so until the end of tx.
func (s *Store) sealSecrets(ctx context.Context, tx bun.Tx, endpointID string, secrets []endpoint.Secret) ([]byte, error) {
	plain, err := plainSecrets(secrets)
	if err != nil {
		return nil, err
	}
	return s.keys.Seal(ctx, tx, endpointID, plain)
}

// plainSecrets are secrets as they are sealed.
func plainSecrets(secrets []endpoint.Secret) ([]byte, error) {
	kept := make([]keptSecret, len(secrets))
	for i, sec := range secrets {
		kept[i] = keptSecret{Secret: sec.Reveal(), Until: sec.ValidUntil}
	}
	return json.Marshal(kept)
}

// openSecrets reads what sealSecrets made, or the one secret of an earlier version.
func (s *Store) openSecrets(endpointID string, sealed []byte) ([]endpoint.Secret, error) {
	plain, err := s.keys.Open(endpointID, sealed)
	if err != nil {
		return nil, err
	}
	kept := []keptSecret{{Secret: string(plain)}}
	if strings.HasPrefix(string(plain), "[") {
		kept = nil
		if err := json.Unmarshal(plain, &kept); err != nil {
			return nil, errors.New("the secrets of a webhook endpoint are not readable")
		}
	}
	out := make([]endpoint.Secret, len(kept))
	for i, k := range kept {
		if out[i], err = endpoint.ParseSecret(k.Secret); err != nil {
			return nil, err
		}
		out[i].ValidUntil = k.Until
	}
	return out, nil
}

// resetFailures makes an endpoint what it was before it failed.
func (r *endpointRow) resetFailures() {
	r.DisabledAt, r.DisabledReason = time.Time{}, ""
	r.Failures, r.FailingSince, r.BlockedUntil, r.WarnedAt, r.LastError = 0, time.Time{}, time.Time{}, time.Time{}, ""
}

// reasonNoURL disables a customer's endpoint while there is no address.
const reasonNoURL = "no address"

// CreateCustomerEndpoint makes a customer's own endpoint, without an address yet.
func (s *Store) CreateCustomerEndpoint(ctx context.Context, tx bun.Tx, customerID string) (secret string, err error) {
	fresh, err := endpoint.NewSecret()
	if err != nil {
		return "", err
	}
	row := endpointRow{ID: pg.NewID(), CustomerID: customerID, Kind: endpoint.KindCustomer, Method: "POST", DisabledAt: time.Now(), DisabledReason: reasonNoURL}
	row.Events = endpoint.DefaultEvents(endpoint.FormatStandard)
	row.Format, row.Tags, row.Streams = endpoint.FormatStandard, []string{}, []string{}
	if row.SecretSealed, err = s.sealSecrets(ctx, tx, row.ID, []endpoint.Secret{fresh}); err != nil {
		return "", err
	}
	if _, err := tx.NewInsert().Model(&row).Exec(ctx); err != nil {
		return "", fmt.Errorf("insert webhook endpoint: %w", err)
	}
	return fresh.Reveal(), nil
}

// SetCustomerEndpoint points a customer's endpoint to its address, in the format of the customer's
// profile. Another address ends a disabling; no address disables the endpoint. The secret is
// returned if this turned the webhook on.
func (s *Store) SetCustomerEndpoint(ctx context.Context, tx bun.Tx, c account.Customer) (secret string, err error) {
	var row endpointRow
	if err := tx.NewSelect().Model(&row).Where("w.customer_id = ?", c.ID).Where("w.kind = ?", endpoint.KindCustomer).
		For("NO KEY UPDATE").Scan(ctx); err != nil {
		return "", fmt.Errorf("read webhook endpoint: %w", err)
	}
	format := endpoint.FormatStandard
	if c.Profile == account.ProfileVoIPBIN {
		format = endpoint.FormatVoIPBIN
	}
	if c.WebhookURI == row.URL && c.WebhookMethod == row.Method && format == row.Format {
		return "", nil
	}
	if format != row.Format {
		row.Format, row.Events = format, endpoint.DefaultEvents(format)
	}
	turnedOn := row.URL == "" && c.WebhookURI != ""
	if c.WebhookURI != row.URL {
		row.resetFailures()
		if c.WebhookURI == "" {
			row.DisabledAt, row.DisabledReason = time.Now(), reasonNoURL
		}
	}
	row.URL, row.Method = c.WebhookURI, c.WebhookMethod
	if _, err := tx.NewUpdate().Model(&row).WherePK().Column("url", "method", "format", "events", "disabled_at", "disabled_reason", "failures", "failing_since", "blocked_until",
		"warned_at", "last_error").
		Set("updated_at = now()").Exec(ctx); err != nil {
		return "", fmt.Errorf("update webhook endpoint: %w", err)
	}
	if !turnedOn {
		return "", nil
	}
	return s.newest(row)
}

// newest reveals the secret that signs first.
func (s *Store) newest(row endpointRow) (string, error) {
	secrets, err := s.openSecrets(row.ID, row.SecretSealed)
	if err != nil {
		return "", err
	}
	return secrets[0].Reveal(), nil
}

// WebhookSecret reads the secret of a customer's own endpoint. A customer that does not exist is a
// CodeNotFound.
func (s *Store) WebhookSecret(ctx context.Context, customerID string) (string, error) {
	var row endpointRow
	err := s.db.NewSelect().Model(&row).Column("id", "secret_sealed").Where("w.customer_id = ?", customerID).Where("w.kind = ?", endpoint.KindCustomer).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return "", pg.NotFound("customer")
	}
	if err != nil {
		return "", pg.Translate(err)
	}
	return s.newest(row)
}

// MaxEndpoints is how many endpoints of its own a customer may have.
const MaxEndpoints = 50

// CreateEndpoint makes an endpoint. Its secret is returned this once. More than MaxEndpoints are a
// CodeConflict, also if several calls make them at once. A customer that does not exist is a
// CodeNotFound.
func (s *Store) CreateEndpoint(ctx context.Context, e endpoint.Endpoint) (out endpoint.Endpoint, secret string, err error) {
	fresh, err := endpoint.NewSecret()
	if err != nil {
		return endpoint.Endpoint{}, "", err
	}
	row := endpointRow{ID: pg.NewID(), CustomerID: e.CustomerID, Kind: endpoint.KindEndpoint}
	row.take(e)
	err = s.db.InTx(ctx, func(tx bun.Tx) error {
		if err := pg.LockCustomer(ctx, tx, e.CustomerID); err != nil {
			return err
		}
		err := pg.CheckRoom(ctx, tx, "webhook endpoints", MaxEndpoints, "delete one",
			"SELECT count(*) FROM webhook_endpoints WHERE customer_id = ? AND kind = 'endpoint' AND deleted_at IS NULL", e.CustomerID)
		if err != nil {
			return err
		}
		if row.SecretSealed, err = s.sealSecrets(ctx, tx, row.ID, []endpoint.Secret{fresh}); err != nil {
			return err
		}
		if _, err := tx.NewInsert().Model(&row).Returning("created_at, updated_at").Exec(ctx); err != nil {
			return err
		}
		return audit.Write(ctx, tx, row.CustomerID, "webhook.created", row.ID, row.URL)
	})
	return row.endpoint(), fresh.Reveal(), err
}

// take sets what a customer may choose.
func (r *endpointRow) take(e endpoint.Endpoint) {
	r.URL, r.Method, r.Format = e.URL, e.Method, e.Format
	r.Events, r.Tags, r.Streams = append([]string{}, e.Events...), append([]string{}, e.Tags...), append([]string{}, e.Streams...)
}

// Endpoints lists a customer's endpoints, oldest first: its own webhook_uri, those
// it made, and then callback URLs of its messages, 1000 in all.
func (s *Store) Endpoints(ctx context.Context, customerID string) ([]endpoint.Endpoint, error) {
	var rows []endpointRow
	err := s.db.NewSelect().Model(&rows).Where("w.customer_id = ?", customerID).Where("w.deleted_at IS NULL").Where("w.url <> ''").
		OrderExpr("w.kind = 'callback', w.created_at, w.id").Limit(1000).Scan(ctx)
	if err != nil {
		return nil, pg.Translate(err)
	}
	out := make([]endpoint.Endpoint, len(rows))
	for i := range rows {
		out[i] = rows[i].endpoint()
	}
	return out, nil
}

// Endpoint reads one endpoint of a customer. An endpoint that it does not have is a CodeNotFound.
func (s *Store) Endpoint(ctx context.Context, customerID, id string) (endpoint.Endpoint, error) {
	var row endpointRow
	err := s.db.NewSelect().Model(&row).Where("w.id = ?", id).Where("w.customer_id = ?", customerID).Where("w.deleted_at IS NULL").Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return endpoint.Endpoint{}, pg.NotFound("webhook endpoint")
	}
	return row.endpoint(), pg.Translate(err)
}

// changeEndpoint locks an endpoint, lets fn change it, and writes it back.
func (s *Store) changeEndpoint(ctx context.Context, customerID, id, action string, fn func(tx bun.Tx, row *endpointRow) error) (endpoint.Endpoint, error) {
	var row endpointRow
	err := s.db.InTx(ctx, func(tx bun.Tx) error {
		err := tx.NewSelect().Model(&row).Where("w.id = ?", id).Where("w.customer_id = ?", customerID).Where("w.deleted_at IS NULL").For("NO KEY UPDATE").Scan(ctx)
		if errors.Is(err, sql.ErrNoRows) {
			return pg.NotFound("webhook endpoint")
		}
		if err != nil {
			return err
		}
		if err := fn(tx, &row); err != nil {
			return err
		}
		_, err = tx.NewUpdate().Model(&row).WherePK().Column("url", "method", "format", "events", "tags", "streams", "secret_sealed", "disabled_at",
			"disabled_reason", "failures", "failing_since", "blocked_until", "warned_at", "last_error", "deleted_at").Set("updated_at = now()").Returning("updated_at").Exec(ctx)
		if err != nil {
			return err
		}
		return audit.Write(ctx, tx, customerID, action, id, row.URL)
	})
	return row.endpoint(), err
}

// UpdateEndpoint writes what a customer chose: URL, method, format, events, tags and streams. With
// another URL its failures are forgotten and it is enabled. An endpoint that the customer does not
// have is a CodeNotFound; one that it did not make is a CodeConflict.
func (s *Store) UpdateEndpoint(ctx context.Context, e endpoint.Endpoint) (endpoint.Endpoint, error) {
	return s.changeEndpoint(ctx, e.CustomerID, e.ID, "webhook.updated", func(_ bun.Tx, row *endpointRow) error {
		if row.Kind != endpoint.KindEndpoint {
			return email.Fail(email.CodeConflict, "this endpoint comes from elsewhere: change webhook_uri by PUT /v1.0/customer, callback_url with the message")
		}
		if e.URL != row.URL {
			row.resetFailures()
		}
		row.take(e)
		return nil
	})
}

// EnableEndpoint enables an endpoint. Deliveries that waited while it was disabled are due at once.
// An endpoint that the customer does not have is a CodeNotFound, one without an address a
// CodeConflict.
func (s *Store) EnableEndpoint(ctx context.Context, customerID, id string) (endpoint.Endpoint, error) {
	return s.changeEndpoint(ctx, customerID, id, "webhook.enabled", func(tx bun.Tx, row *endpointRow) error {
		if row.URL == "" {
			return email.Fail(email.CodeConflict, "this endpoint has no address: set webhook_uri by PUT /v1.0/customer")
		}
		row.resetFailures()
		_, err := tx.NewRaw("UPDATE webhook_deliveries SET next_attempt_at = now() WHERE endpoint_id = ? AND status = 'pending' AND next_attempt_at > now()", id).Exec(ctx)
		return err
	})
}

// DeleteEndpoint ends an endpoint that a customer made, and gives up its waiting deliveries. An
// endpoint that the customer does not have is a CodeNotFound; one that it did not make is a
// CodeConflict.
func (s *Store) DeleteEndpoint(ctx context.Context, customerID, id string) (endpoint.Endpoint, error) {
	return s.changeEndpoint(ctx, customerID, id, "webhook.deleted", func(tx bun.Tx, row *endpointRow) error {
		if row.Kind != endpoint.KindEndpoint {
			return email.Fail(email.CodeConflict, "this endpoint comes from elsewhere: clear webhook_uri by PUT /v1.0/customer; a callback ends with its e-mails")
		}
		now := time.Now()
		row.DisabledAt, row.DisabledReason, row.DeletedAt = now, endpoint.ReasonDeleted, now
		_, err := tx.NewRaw(`UPDATE webhook_deliveries SET status = 'failed', next_attempt_at = NULL, lease_until = NULL, done_at = now(), last_error = 'the endpoint was deleted'
			WHERE endpoint_id = ? AND status = 'pending'`, id).Exec(ctx)
		return err
	})
}

// maxSecrets is how many secrets may sign at once: a header has to hold their signatures.
const maxSecrets = 10

// RotateSecret gives an endpoint a new secret; both sign for endpoint.RotationOverlap. The new one
// is returned this once. An endpoint that the customer does not have is a CodeNotFound. A callback,
// and an endpoint with too many secrets, are a CodeConflict.
func (s *Store) RotateSecret(ctx context.Context, customerID, id string) (e endpoint.Endpoint, secret string, err error) {
	fresh, err := endpoint.NewSecret()
	if err != nil {
		return endpoint.Endpoint{}, "", err
	}
	e, err = s.changeEndpoint(ctx, customerID, id, "webhook.rotated", func(tx bun.Tx, row *endpointRow) error {
		if row.Kind == endpoint.KindCallback {
			return email.Fail(email.CodeConflict, "callbacks are signed with the secret of the customer's own endpoint: rotate that one")
		}
		secrets, err := s.openSecrets(row.ID, row.SecretSealed)
		if err != nil {
			return err
		}
		var now time.Time
		if err := tx.NewRaw("SELECT now()").Scan(ctx, &now); err != nil {
			return err
		}
		if secrets = endpoint.Rotate(secrets, fresh, now.UTC()); len(secrets) > maxSecrets {
			return email.Fail(email.CodeConflict, "%d secrets sign already, each for 24 hours after it was replaced: wait until the oldest has ended", maxSecrets)
		}
		row.SecretSealed, err = s.sealSecrets(ctx, tx, row.ID, secrets)
		return err
	})
	return e, fresh.Reveal(), err
}

// TestEndpoint writes a delivery of the type webhook.test, due before all others. An endpoint that
// the customer does not have is a CodeNotFound, one that is disabled a CodeConflict.
func (s *Store) TestEndpoint(ctx context.Context, customerID, id string) (endpoint.Delivery, error) {
	e, err := s.Endpoint(ctx, customerID, id)
	if err != nil {
		return endpoint.Delivery{}, err
	}
	if e.Disabled {
		return endpoint.Delivery{}, email.Fail(email.CodeConflict, "the endpoint is disabled (%s): enable it first", e.DisabledReason)
	}
	now := time.Now().UTC()
	body, err := json.Marshal(map[string]any{"type": endpoint.TypeTest, "timestamp": now, "data": map[string]string{"endpoint_id": id, "customer_id": customerID}})
	if err != nil {
		return endpoint.Delivery{}, err
	}
	row := deliveryRow{ID: pg.NewID(), EndpointID: id, EventID: pg.NewID(), Type: endpoint.TypeTest, Body: string(body), Status: endpoint.StatusPending, Asked: true, NextAttemptAt: now, CreatedAt: now}
	if _, err := s.db.NewInsert().Model(&row).Exec(ctx); err != nil {
		return endpoint.Delivery{}, pg.Translate(err)
	}
	return row.delivery(), nil
}

// ResetSecretKey is for a key that is lost: Options.SecretKey seals from now on,
// and webhook endpoints whose secret opens with neither key get a new one, which
// their customers have to be given. It returns these endpoints.
func (s *Store) ResetSecretKey(ctx context.Context) (changed []endpoint.Endpoint, err error) {
	err = s.keys.Reset(ctx, secretColumn, func(tx bun.Tx, id string, seal func(plain []byte) []byte) error {
		fresh, err := endpoint.NewSecret()
		if err != nil {
			return err
		}
		plain, err := plainSecrets([]endpoint.Secret{fresh})
		if err != nil {
			return err
		}
		row := endpointRow{ID: id, SecretSealed: seal(plain)}
		if err := tx.NewUpdate().Model(&row).WherePK().Column("secret_sealed").Set("updated_at = ?", time.Now()).Returning("*").Scan(ctx); err != nil {
			return err
		}
		if err := audit.Write(ctx, tx, row.CustomerID, "webhook.secret_lost", id, row.URL); err != nil {
			return err
		}
		changed = append(changed, row.endpoint())
		return nil
	})
	return changed, err
}

// CallbackEndpoint finds the endpoint of a message's callback_url, or makes it: one for
// each customer and URL, signed with the customer's secret.
func CallbackEndpoint(ctx context.Context, idb bun.IDB, customerID, url string) (id string, err error) {
	if url == "" {
		return "", nil
	}
	row := endpointRow{ID: pg.NewID(), CustomerID: customerID, Kind: endpoint.KindCallback, URL: url, Method: "POST", Format: endpoint.FormatStandard,
		Events: endpoint.Outcomes(), Tags: []string{}, Streams: []string{}}
	for range 2 {
		err = idb.NewRaw("SELECT id FROM webhook_endpoints WHERE customer_id = ? AND url = ? AND kind = 'callback'", customerID, url).Scan(ctx, &id)
		if !errors.Is(err, sql.ErrNoRows) {
			return id, err
		}
		if _, err = idb.NewInsert().Model(&row).On("CONFLICT (customer_id, url) WHERE kind = 'callback' DO NOTHING").Exec(ctx); err != nil {
			return "", fmt.Errorf("insert callback: %w", err)
		}
	}
	return id, err
}

// CallbackURLs reads the URLs of callback endpoints, by id.
func CallbackURLs(ctx context.Context, idb bun.IDB, ids []string) (map[string]string, error) {
	out := map[string]string{}
	if len(ids) == 0 {
		return out, nil
	}
	var es []*endpointRow
	if err := idb.NewSelect().Model(&es).Column("id", "url").Where("w.id IN (?)", bun.List(ids)).Scan(ctx); err != nil {
		return nil, pg.Translate(err)
	}
	for _, e := range es {
		out[e.ID] = e.URL
	}
	return out, nil
}
