package webhooks

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/endpoint"
)

// Body is an event on its way to every endpoint that wants it.
type Body struct {
	EventID    string          `json:"event_id" sql:"uuid"`
	EmailID    string          `json:"email_id" sql:"uuid"`
	CustomerID string          `json:"customer_id" sql:"uuid"`
	CallbackID *string         `json:"callback_id" sql:"uuid"`
	Tags       []string        `json:"tags" sql:"text[]"`
	Stream     email.Stream    `json:"stream"`
	Format     endpoint.Format `json:"format"`
	Type       string          `json:"type"`
	Body       string          `json:"body"`
}

// Enqueue writes deliveries of events to all endpoints that want them.
func Enqueue(ctx context.Context, idb bun.IDB, bodies []Body) error {
	if len(bodies) == 0 {
		return nil
	}
	text, err := json.Marshal(bodies)
	if err != nil {
		return fmt.Errorf("encode deliveries: %w", err)
	}
	_, err = writeDeliveries.Query(idb, string(text)).Exec(ctx)
	return err
}

// writeDeliveries makes ids that begin with the time of their event's, as all others
// do: random ones would be scattered over their index.
var writeDeliveries = pg.Prepare("write_deliveries(jsonb)", `INSERT INTO webhook_deliveries (id, endpoint_id, email_id, event_id, type, body, status, next_attempt_at, created_at)
	SELECT overlay(gen_random_uuid()::text PLACING left(v.event_id::text, 18) FROM 1)::uuid, w.id, v.email_id, v.event_id, v.type, v.body, 'pending', now(), now()
	FROM `+pg.Recordset[Body]()+`
	JOIN webhook_endpoints AS w ON w.customer_id = v.customer_id AND w.disabled_at IS NULL AND w.format = v.format AND v.type = ANY (w.events)
		AND (w.kind <> 'callback' OR w.id = v.callback_id) AND (w.tags = '{}' OR w.tags && v.tags) AND (w.streams = '{}' OR v.stream = ANY (w.streams))`)

// EnqueueOfCustomer writes deliveries of an event that is of no e-mail, as domain.verified, to those
// of a customer's endpoints that want it. data becomes the member data of the body.
func EnqueueOfCustomer(ctx context.Context, tx bun.Tx, customerID, eventType string, at time.Time, data any) error {
	return enqueueOfCustomer(ctx, tx, customerID, eventType, at, data, "")
}

// enqueueOfCustomer leaves out one endpoint, if it is named.
func enqueueOfCustomer(ctx context.Context, tx bun.Tx, customerID, eventType string, at time.Time, data any, but string) error {
	body, err := json.Marshal(map[string]any{"type": eventType, "timestamp": at.UTC(), "data": data})
	if err != nil {
		return fmt.Errorf("encode the webhook body of %s: %w", eventType, err)
	}
	_, err = tx.NewRaw(`INSERT INTO webhook_deliveries (id, endpoint_id, event_id, type, body, status, next_attempt_at, created_at)
		SELECT gen_random_uuid(), w.id, ?0, ?1, ?2, 'pending', now(), now() FROM webhook_endpoints AS w
		WHERE w.customer_id = ?3 AND w.disabled_at IS NULL AND w.kind <> 'callback' AND w.id::text <> ?4 AND ?1 = ANY (w.events)`,
		pg.NewID(), eventType, string(body), customerID, but).Exec(ctx)
	return err
}

// Subscriptions are formats and types, as "standard email.delivered". An event of another type
// costs no body and no statement.
type Subscriptions []string

// SubscriptionsTo are subscriptions to types in one format.
func SubscriptionsTo(f endpoint.Format, types []string) Subscriptions {
	out := make(Subscriptions, len(types))
	for i, t := range types {
		out[i] = string(f) + " " + t
	}
	return out
}

// Any reports whether an event may be wanted in a format.
func (w Subscriptions) Any(f endpoint.Format, eventType string) bool {
	if f == endpoint.FormatStandard {
		return slices.Contains(w, string(f)+" "+eventType)
	}
	return slices.ContainsFunc(w, func(s string) bool {
		of, kind, _ := strings.Cut(s, " ")
		return of == string(f) && slices.Contains(endpoint.EmailEvents(f, []string{kind}), eventType)
	})
}
