package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/postrider/postrider/email"
)

// Pause stops the mail of a scope. It takes an access key with the scope admin.
type Pause struct {
	Scope email.PauseScope `json:"scope"`
	// Key is a customer's id, a stream, a relay's name or an email.DomainStreamKey; empty for the
	// installation.
	Key    string `json:"key,omitempty"`
	Reason string `json:"reason,omitempty"`
	// SetBy and CreatedAt are the service's to say. SetBy is the actor of the audit log; "reputation" is
	// the service itself.
	SetBy     string    `json:"set_by,omitempty"`
	CreatedAt time.Time `json:"created_at,omitzero"`
}

// Pauses is what is paused, oldest first.
type Pauses struct {
	Pauses []Pause `json:"result"`
	// Waiting counts the e-mails that wait for that.
	Waiting int `json:"waiting"`
}

// Pauses lists what is paused.
func (c *Client) Pauses(ctx context.Context) (Pauses, error) {
	var out Pauses
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"pauses"}}, &out)
	return out, err
}

// Pause stops mail at once. Calling again with the same is harmless.
func (c *Client) Pause(ctx context.Context, p Pause) (Pause, error) {
	p.SetBy, p.CreatedAt = "", time.Time{}
	var out Pause
	_, err := c.do(ctx, call{method: http.MethodPut, path: []string{"pauses"}, body: p}, &out)
	return out, err
}

// Unpause lets mail go on and returns the pauses that are left. For a scope that is not
// paused it returns an *Error with the code not_found.
func (c *Client) Unpause(ctx context.Context, scope email.PauseScope, key string) (Pauses, error) {
	query := url.Values{"scope": {string(scope)}}
	if key != "" {
		query.Set("key", key)
	}
	var out Pauses
	_, err := c.do(ctx, call{method: http.MethodDelete, path: []string{"pauses"}, query: query}, &out)
	return out, err
}
