package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// Login gives the token of a user's password, which New takes as a key.
func (c *Client) Login(ctx context.Context, username, password string) (token string, err error) {
	body := struct {
		Username string `json:"username"`
		Password string `json:"password"`
	}{username, password}
	var out struct {
		Token string `json:"token"`
	}
	_, err = c.do(ctx, call{method: http.MethodPost, path: []string{"auth", "login"}, body: body}, &out)
	return out.Token, err
}

// ChangePassword gives the user of a login another password, and a token in place of all
// of the user's, which end. It takes a token of Login.
func (c *Client) ChangePassword(ctx context.Context, password, newPassword string) (token string, err error) {
	body := map[string]string{"password": password, "new_password": newPassword}
	var out struct {
		Token string `json:"token"`
	}
	_, err = c.do(ctx, call{method: http.MethodPost, path: []string{"auth", "password"}, body: body}, &out)
	return out.Token, err
}

// RevokeLogins ends all tokens of the user of a login, the client's too. It takes a token
// of Login.
func (c *Client) RevokeLogins(ctx context.Context) error {
	var out User
	_, err := c.do(ctx, call{method: http.MethodPost, path: []string{"auth", "revoke"}}, &out)
	return err
}

// RotateAccessKey makes a key with the rights of another, which goes on for the overlap,
// in whole seconds. The Token is shown this once.
func (c *Client) RotateAccessKey(ctx context.Context, id string, overlap time.Duration) (AccessKey, error) {
	body := map[string]int64{"overlap": int64(overlap / time.Second)}
	var out AccessKey
	_, err := c.do(ctx, call{method: http.MethodPost, path: []string{"accesskeys", id, "rotate"}, body: body}, &out)
	return out, err
}

// Month is what was sent in a calendar month, in UTC.
type Month struct {
	Month      string `json:"month"`
	Emails     int64  `json:"emails"`
	Recipients int64  `json:"recipients"`
}

// Usage is what was sent, month by month. Credits are the recipients that may still be
// sent to; nil is without limit.
type Usage struct {
	Result  []Month `json:"result"`
	Credits *int64  `json:"credits"`
}

// Usage reads what the customer has sent.
func (c *Client) Usage(ctx context.Context) (Usage, error) {
	var out Usage
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"usage"}}, &out)
	return out, err
}

// Audited is a change in the audit list, with its actor.
type Audited struct {
	ID         string    `json:"id"`
	At         time.Time `json:"at"`
	CustomerID string    `json:"customer_id"`
	Actor      string    `json:"actor"`
	RemoteAddr string    `json:"remote_addr"`
	RequestID  string    `json:"request_id"`
	Action     string    `json:"action"`
	Target     string    `json:"target"`
	Detail     string    `json:"detail"`
}

// Audit walks through the changes, newest first. An error is the last thing it yields.
func (c *Client) Audit(ctx context.Context, opts ...ListOption) iter.Seq2[Audited, error] {
	return list[Audited](ctx, c, url.Values{}, opts, "audit")
}

// Customers walks through the customers: with an admin key all of them, newest first, else
// the key's own. An error is the last thing it yields.
func (c *Client) Customers(ctx context.Context, opts ...ListOption) iter.Seq2[Customer, error] {
	return list[Customer](ctx, c, url.Values{}, opts, "customers")
}

func (c *Client) customer(ctx context.Context, method string, body any, path ...string) (Customer, error) {
	var out Customer
	_, err := c.do(ctx, call{method: method, path: append([]string{"customers"}, path...), body: body}, &out)
	return out, err
}

// CreateCustomer makes a customer. This and the methods below take an admin key. The
// WebhookSecret is shown this once.
func (c *Client) CreateCustomer(ctx context.Context, name, detail, email string) (Customer, error) {
	return c.customer(ctx, http.MethodPost, map[string]string{"name": name, "detail": detail, "email": email})
}

// CustomerByID reads any customer.
func (c *Client) CustomerByID(ctx context.Context, id string) (Customer, error) {
	return c.customer(ctx, http.MethodGet, nil, id)
}

// SetCustomerStatus makes a customer active or suspended.
func (c *Client) SetCustomerStatus(ctx context.Context, id, status string) (Customer, error) {
	return c.customer(ctx, http.MethodPut, map[string]string{"status": status}, id)
}

// SetCredits sets the recipients that a customer may still send to; nil is without limit.
func (c *Client) SetCredits(ctx context.Context, id string, credits *int64) (Customer, error) {
	return c.customer(ctx, http.MethodPut, map[string]*int64{"credits": credits}, id)
}

// CreateCustomerKey makes an access key of any customer. Its Token is shown this once.
func (c *Client) CreateCustomerKey(ctx context.Context, customerID string, k NewAccessKey) (AccessKey, error) {
	var out AccessKey
	_, err := c.do(ctx, call{method: http.MethodPost, path: []string{"customers", customerID, "accesskeys"}, body: k.request()}, &out)
	return out, err
}

// DeleteCustomer ends a customer that never had mail, with its users, keys, domains and
// webhooks.
func (c *Client) DeleteCustomer(ctx context.Context, id string) (Customer, error) {
	return c.customer(ctx, http.MethodDelete, nil, id)
}

// CustomerKeys walks through the access keys of any customer, newest first. An error is the
// last thing it yields.
func (c *Client) CustomerKeys(ctx context.Context, customerID string, opts ...ListOption) iter.Seq2[AccessKey, error] {
	return list[AccessKey](ctx, c, url.Values{}, opts, "customers", customerID, "accesskeys")
}

func (c *Client) customerKey(ctx context.Context, method, customerID, id string) (AccessKey, error) {
	var out AccessKey
	_, err := c.do(ctx, call{method: method, path: []string{"customers", customerID, "accesskeys", id}}, &out)
	return out, err
}

// CustomerKey reads an access key of any customer.
func (c *Client) CustomerKey(ctx context.Context, customerID, id string) (AccessKey, error) {
	return c.customerKey(ctx, http.MethodGet, customerID, id)
}

// DeleteCustomerKey makes an access key of any customer worthless.
func (c *Client) DeleteCustomerKey(ctx context.Context, customerID, id string) (AccessKey, error) {
	return c.customerKey(ctx, http.MethodDelete, customerID, id)
}

// User logs in with a password. An Admin acts for the whole installation.
type User struct {
	ID         string    `json:"id"`
	CustomerID string    `json:"customer_id"`
	Username   string    `json:"username"`
	Admin      bool      `json:"admin"`
	CreatedAt  time.Time `json:"created_at"`
}

// Users walks through a customer's users, newest first. An error is the last thing it
// yields.
func (c *Client) Users(ctx context.Context, customerID string, opts ...ListOption) iter.Seq2[User, error] {
	return list[User](ctx, c, url.Values{}, opts, "customers", customerID, "users")
}

func (c *Client) user(ctx context.Context, method string, body any, customerID string, path ...string) (User, error) {
	var out User
	_, err := c.do(ctx, call{method: method, path: append([]string{"customers", customerID, "users"}, path...), body: body}, &out)
	return out, err
}

// User reads a customer's user.
func (c *Client) User(ctx context.Context, customerID, id string) (User, error) {
	return c.user(ctx, http.MethodGet, nil, customerID, id)
}

// DeleteUser ends a customer's user. The tokens of its logins end with it.
func (c *Client) DeleteUser(ctx context.Context, customerID, id string) (User, error) {
	return c.user(ctx, http.MethodDelete, nil, customerID, id)
}

// SetUserPassword gives a customer's user another password. All tokens of its logins end.
func (c *Client) SetUserPassword(ctx context.Context, customerID, id, password string) (User, error) {
	return c.user(ctx, http.MethodPut, map[string]string{"password": password}, customerID, id, "password")
}

// RevokeUser ends all tokens of a user's logins. The password stays.
func (c *Client) RevokeUser(ctx context.Context, customerID, id string) (User, error) {
	return c.user(ctx, http.MethodPost, nil, customerID, id, "revoke")
}

// Domain is a sender domain; VerifiedAt is zero for one that is not verified.
type Domain struct {
	Name       string    `json:"name"`
	VerifiedAt time.Time `json:"verified_at"`
}

func (c *Client) domain(ctx context.Context, method string, body any, customerID string, path ...string) (Domain, error) {
	var out Domain
	_, err := c.do(ctx, call{method: method, path: append([]string{"customers", customerID, "domains"}, path...), body: body}, &out)
	return out, err
}

// AddDomain gives a customer a sender domain. A domain that is verified stays so:
// VerifyDomain takes that back.
func (c *Client) AddDomain(ctx context.Context, customerID, name string, verified bool) (Domain, error) {
	body := map[string]any{"name": name}
	if verified {
		body["verified"] = true
	}
	return c.domain(ctx, http.MethodPost, body, customerID)
}

// Domains walks through a customer's sender domains, newest first. An error is the last
// thing it yields.
func (c *Client) Domains(ctx context.Context, customerID string, opts ...ListOption) iter.Seq2[Domain, error] {
	return list[Domain](ctx, c, url.Values{}, opts, "customers", customerID, "domains")
}

// Domain reads a customer's sender domain.
func (c *Client) Domain(ctx context.Context, customerID, name string) (Domain, error) {
	return c.domain(ctx, http.MethodGet, nil, customerID, name)
}

// VerifyDomain verifies a customer's sender domain, or takes that back. After that no
// customer may send from the domain until it is verified for one.
func (c *Client) VerifyDomain(ctx context.Context, customerID, name string, verified bool) (Domain, error) {
	return c.domain(ctx, http.MethodPut, map[string]bool{"verified": verified}, customerID, name)
}

// DeleteDomain takes a sender domain from a customer. If it was verified, no customer may
// send from it until it is verified for one.
func (c *Client) DeleteDomain(ctx context.Context, customerID, name string) (Domain, error) {
	return c.domain(ctx, http.MethodDelete, nil, customerID, name)
}

// Warmup is how far the plan of a new domain is. From is a day, as 2026-01-02, empty
// without a plan; Limit is nil on a day without a limit.
type Warmup struct {
	Name            string `json:"name"`
	Plan            []int  `json:"plan"`
	From            string `json:"from"`
	Day             int    `json:"day"`
	Limit           *int   `json:"limit"`
	Used            int    `json:"used"`
	UsedByBroadcast int    `json:"used_by_broadcast"`
	Waiting         int    `json:"waiting"`
}

func (c *Client) warmup(ctx context.Context, method, customerID, domain string, body any) (Warmup, error) {
	var out Warmup
	_, err := c.do(ctx, call{method: method, path: []string{"customers", customerID, "domains", domain, "warmup"}, body: body}, &out)
	return out, err
}

// Warmup reads a domain's plan.
func (c *Client) Warmup(ctx context.Context, customerID, domain string) (Warmup, error) {
	return c.warmup(ctx, http.MethodGet, customerID, domain, nil)
}

// SetWarmup sets a domain's plan: the recipients of the first, second, … day. An empty
// from is today.
func (c *Client) SetWarmup(ctx context.Context, customerID, domain string, plan []int, from string) (Warmup, error) {
	body := map[string]any{"plan": plan}
	if from != "" {
		body["from"] = from
	}
	return c.warmup(ctx, http.MethodPut, customerID, domain, body)
}

// EndWarmup ends a domain's plan.
func (c *Client) EndWarmup(ctx context.Context, customerID, domain string) (Warmup, error) {
	return c.warmup(ctx, http.MethodDelete, customerID, domain, nil)
}
