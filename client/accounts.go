package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// AccessKey is a credential of the customer's programs.
type AccessKey struct {
	ID         string `json:"id"`
	CustomerID string `json:"customer_id"`
	Name       string `json:"name"`
	Detail     string `json:"detail"`
	// Token is the credential itself: only CreateAccessKey answers with it.
	Token       string `json:"token"`
	TokenPrefix string `json:"token_prefix"`
	// Scopes are what the key may do; none is all of the customer's own affairs.
	Scopes []string `json:"scopes"`
	// SenderDomains and Networks restrict it; none is no restriction.
	SenderDomains []string `json:"sender_domains"`
	Networks      []string `json:"networks"`
	// LastUsedAt is zero for a key that was never used.
	LastUsedAt time.Time `json:"last_used_at"`
	TmExpire   Time      `json:"tm_expire"`
	TmCreate   Time      `json:"tm_create"`
	TmUpdate   Time      `json:"tm_update"`
	TmDelete   Time      `json:"tm_delete"`
}

// NewAccessKey is an access key to be made.
type NewAccessKey struct {
	Name   string
	Detail string
	// Life is in whole seconds, rounded up; 0 means that it does not expire.
	Life time.Duration
	// Scopes, SenderDomains and Networks are as in AccessKey.
	Scopes        []string
	SenderDomains []string
	Networks      []string
}

// request is what the API takes.
func (k NewAccessKey) request() any {
	return struct {
		Name          string   `json:"name,omitempty"`
		Detail        string   `json:"detail,omitempty"`
		Expire        int64    `json:"expire,omitempty"`
		Scopes        []string `json:"scopes,omitempty"`
		SenderDomains []string `json:"sender_domains,omitempty"`
		Networks      []string `json:"networks,omitempty"`
	}{k.Name, k.Detail, int64((k.Life + time.Second - 1) / time.Second), k.Scopes, k.SenderDomains, k.Networks}
}

// CreateAccessKey makes an access key. Its Token is shown this once.
func (c *Client) CreateAccessKey(ctx context.Context, k NewAccessKey) (AccessKey, error) {
	var out AccessKey
	_, err := c.do(ctx, call{method: http.MethodPost, path: []string{"accesskeys"}, body: k.request()}, &out)
	return out, err
}

// AccessKeys walks through the customer's keys, newest first. An error is the last
// pair.
func (c *Client) AccessKeys(ctx context.Context, opts ...ListOption) iter.Seq2[AccessKey, error] {
	return list[AccessKey](ctx, c, url.Values{}, opts, "accesskeys")
}

// AccessKey reads one.
func (c *Client) AccessKey(ctx context.Context, id string) (AccessKey, error) {
	var out AccessKey
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"accesskeys", id}}, &out)
	return out, err
}

// DeleteAccessKey makes a key worthless.
func (c *Client) DeleteAccessKey(ctx context.Context, id string) (AccessKey, error) {
	var out AccessKey
	_, err := c.do(ctx, call{method: http.MethodDelete, path: []string{"accesskeys", id}}, &out)
	return out, err
}

// Customer is the customer that the access key belongs to.
type Customer struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	Detail        string `json:"detail"`
	Email         string `json:"email"`
	WebhookMethod string `json:"webhook_method"`
	WebhookURI    string `json:"webhook_uri"`
	// WebhookSecret is shown by the UpdateCustomer that turns webhooks on; empty
	// otherwise.
	WebhookSecret string `json:"webhook_secret"`
	// DefaultSource is the sender of messages without one; nil if there is none.
	DefaultSource *Address `json:"default_source"`
	// Profile is voipbin for answers as VoIPBIN gives them; empty otherwise.
	Profile string `json:"profile"`
	// Credits are the recipients that may still be sent to; nil is without limit.
	Credits  *int64 `json:"credits"`
	Status   string `json:"status"`
	TmCreate Time   `json:"tm_create"`
	TmUpdate Time   `json:"tm_update"`
	TmDelete Time   `json:"tm_delete"`
}

// CustomerUpdate changes what is not nil. An empty WebhookURI turns webhooks off,
// an empty Address takes the default source away.
type CustomerUpdate struct {
	Name          *string  `json:"name,omitempty"`
	Detail        *string  `json:"detail,omitempty"`
	Email         *string  `json:"email,omitempty"`
	WebhookMethod *string  `json:"webhook_method,omitempty"`
	WebhookURI    *string  `json:"webhook_uri,omitempty"`
	DefaultSource *Address `json:"default_source,omitempty"`
	Profile       *string  `json:"profile,omitempty"`
}

// Customer reads the customer's own record.
func (c *Client) Customer(ctx context.Context) (Customer, error) {
	var out Customer
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"customer"}}, &out)
	return out, err
}

// UpdateCustomer changes it. Calling again with the same is harmless.
func (c *Client) UpdateCustomer(ctx context.Context, u CustomerUpdate) (Customer, error) {
	var out Customer
	_, err := c.do(ctx, call{method: http.MethodPut, path: []string{"customer"}, body: u}, &out)
	return out, err
}
