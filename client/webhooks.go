package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// Webhook is an endpoint that events are posted to.
type Webhook struct {
	ID     string `json:"id"`
	Kind   string `json:"kind"`
	URL    string `json:"url"`
	Method string `json:"method"`
	Format string `json:"format"`
	// Events, Tags and Streams are what it is called for; no Tags or Streams is any.
	Events         []string `json:"events"`
	Tags           []string `json:"tags"`
	Streams        []string `json:"streams"`
	Disabled       bool     `json:"disabled"`
	DisabledReason string   `json:"disabled_reason"`
	// Failures in a row; the times are zero where there is none.
	Failures     int       `json:"failures"`
	FailingSince time.Time `json:"failing_since"`
	LastError    string    `json:"last_error"`
	BlockedUntil time.Time `json:"blocked_until"`
	DisablesAt   time.Time `json:"disables_at"`
	CreatedAt    time.Time `json:"created_at"`
	UpdatedAt    time.Time `json:"updated_at"`
	// Secret signs the calls. Only CreateWebhook and RotateWebhookSecret answer with it.
	Secret string `json:"secret"`
}

// WebhookUpdate makes an endpoint, or changes what is not nil of one.
type WebhookUpdate struct {
	URL     *string   `json:"url,omitempty"`
	Method  *string   `json:"method,omitempty"`
	Format  *string   `json:"format,omitempty"`
	Events  *[]string `json:"events,omitempty"`
	Tags    *[]string `json:"tags,omitempty"`
	Streams *[]string `json:"streams,omitempty"`
}

// Delivery is one event on its way to one endpoint.
type Delivery struct {
	ID         string `json:"id"`
	EndpointID string `json:"endpoint_id"`
	// EmailID is empty for a test.
	EmailID       string    `json:"email_id"`
	Type          string    `json:"type"`
	Status        string    `json:"status"`
	Attempts      int       `json:"attempts"`
	NextAttemptAt time.Time `json:"next_attempt_at"`
	CreatedAt     time.Time `json:"created_at"`
	Calls         []struct {
		Attempt int       `json:"attempt"`
		At      time.Time `json:"at"`
		// Code is HTTP's; 0 means that there was no answer, and Error says why.
		Code   int    `json:"code"`
		MS     int64  `json:"ms"`
		Error  string `json:"error"`
		Answer string `json:"answer"`
	} `json:"calls"`
}

// Webhooks reads all endpoints.
func (c *Client) Webhooks(ctx context.Context) ([]Webhook, error) {
	var out struct {
		Result []Webhook `json:"result"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"webhooks"}}, &out)
	return out.Result, err
}

func (c *Client) webhook(ctx context.Context, method string, body any, path ...string) (Webhook, error) {
	var out Webhook
	_, err := c.do(ctx, call{method: method, path: append([]string{"webhooks"}, path...), body: body}, &out)
	return out, err
}

// CreateWebhook makes an endpoint. Its Secret is shown this once.
func (c *Client) CreateWebhook(ctx context.Context, w WebhookUpdate) (Webhook, error) {
	return c.webhook(ctx, http.MethodPost, w)
}

// Webhook reads an endpoint.
func (c *Client) Webhook(ctx context.Context, id string) (Webhook, error) {
	return c.webhook(ctx, http.MethodGet, nil, id)
}

// UpdateWebhook changes an endpoint.
func (c *Client) UpdateWebhook(ctx context.Context, id string, w WebhookUpdate) (Webhook, error) {
	return c.webhook(ctx, http.MethodPut, w, id)
}

// DeleteWebhook deletes an endpoint.
func (c *Client) DeleteWebhook(ctx context.Context, id string) (Webhook, error) {
	return c.webhook(ctx, http.MethodDelete, nil, id)
}

// EnableWebhook has a disabled endpoint called again.
func (c *Client) EnableWebhook(ctx context.Context, id string) (Webhook, error) {
	return c.webhook(ctx, http.MethodPost, nil, id, "enable")
}

// RotateWebhookSecret gives an endpoint a new Secret, which is shown this once.
func (c *Client) RotateWebhookSecret(ctx context.Context, id string) (Webhook, error) {
	return c.webhook(ctx, http.MethodPost, nil, id, "rotate-secret")
}

// TestWebhook has a test event delivered.
func (c *Client) TestWebhook(ctx context.Context, id string) (Delivery, error) {
	var out Delivery
	_, err := c.do(ctx, call{method: http.MethodPost, path: []string{"webhooks", id, "test"}}, &out)
	return out, err
}

// ReplayWebhook has the events of a stretch of time delivered again, and tells how many.
// A zero until is now; no types are those that the endpoint wants.
func (c *Client) ReplayWebhook(ctx context.Context, id string, since, until time.Time, types ...string) (int, error) {
	body := struct {
		Since time.Time `json:"since"`
		Until time.Time `json:"until,omitzero"`
		Types []string  `json:"types,omitempty"`
	}{since, until, types}
	var out struct {
		Deliveries int `json:"deliveries"`
	}
	_, err := c.do(ctx, call{method: http.MethodPost, path: []string{"webhooks", id, "replay"}, body: body}, &out)
	return out.Deliveries, err
}

// Deliveries walks through what an endpoint was sent, newest first. An error is the last
// thing it yields.
func (c *Client) Deliveries(ctx context.Context, webhookID string, opts ...ListOption) iter.Seq2[Delivery, error] {
	return list[Delivery](ctx, c, url.Values{}, opts, "webhooks", webhookID, "deliveries")
}

// RetryDelivery has a delivery tried again at once.
func (c *Client) RetryDelivery(ctx context.Context, id string) (Delivery, error) {
	var out Delivery
	_, err := c.do(ctx, call{method: http.MethodPost, path: []string{"deliveries", id, "retry"}}, &out)
	return out, err
}
