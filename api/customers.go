package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// Customers are the operator's side of customers, and what is on record of them.
type Customers interface {
	CreateCustomer(ctx context.Context, name, detail, mail string) (c account.Customer, webhookSecret string, err error)
	Customer(ctx context.Context, id string) (account.Customer, error)
	Customers(ctx context.Context, after email.Cursor, limit int) ([]account.Customer, *email.Cursor, error)
	// GovernCustomer sets status and credits; nil credits are without limit.
	GovernCustomer(ctx context.Context, id string, status account.Status, credits *int64) (account.Customer, error)
	// DeleteCustomer ends a customer without mail, and what it has.
	DeleteCustomer(ctx context.Context, id string) error
	Usage(ctx context.Context, customerID string, months int) ([]account.Usage, error)
	// Audit lists what was done to a customer's things; to everybody's for "".
	Audit(ctx context.Context, customerID string, after email.Cursor, limit int) ([]account.Audited, *email.Cursor, error)
}

type newCustomerRequest struct {
	Name   string `json:"name"`
	Detail string `json:"detail"`
	Email  string `json:"email"`
}

func (s *Server) postCustomer(c *gin.Context) (int, any, error) {
	var in newCustomerRequest
	err := decode(c, &in)
	if err == nil {
		err = checkTexts(map[string]string{"/name": in.Name, "/detail": in.Detail, "/email": in.Email})
	}
	if err == nil {
		in.Email, err = customerEmail(in.Email)
	}
	if err == nil && strings.TrimSpace(in.Name) == "" {
		err = invalid("/name", "missing", "a customer needs a name")
	}
	if err != nil {
		return 0, nil, err
	}
	k, secret, err := s.deps.Customers.CreateCustomer(c.Request.Context(), in.Name, in.Detail, in.Email)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, customerResource(k, secret), nil
}

// named reads the customer that a path names.
func (s *Server) named(c *gin.Context) (account.Customer, error) {
	id, err := pathID(c, "id", "customer")
	if err != nil {
		return account.Customer{}, err
	}
	return s.deps.Customers.Customer(c.Request.Context(), id)
}

func (s *Server) getCustomerByID(c *gin.Context) (int, any, error) {
	k, err := s.named(c)
	return http.StatusOK, customerResource(k, ""), err
}

// governRequest changes what it names. Credits is a number, or null for no limit.
type governRequest struct {
	Status  *account.Status `json:"status"`
	Credits optionalNumber  `json:"credits"`
}

// optionalNumber tells null from a member that is not there.
type optionalNumber struct {
	set   bool
	value *int64
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *optionalNumber) UnmarshalJSON(data []byte) error {
	n.set = true
	if string(data) == "null" {
		n.value = nil
		return nil
	}
	return json.Unmarshal(data, &n.value)
}

func (s *Server) governCustomer(c *gin.Context) (int, any, error) {
	k, err := s.named(c)
	if err != nil {
		return 0, nil, err
	}
	var in governRequest
	if err := decode(c, &in); err != nil {
		return 0, nil, err
	}
	if in.Status != nil {
		k.Status = *in.Status
	}
	if in.Credits.set {
		k.Credits = in.Credits.value
	}
	switch {
	case k.ID == customerOf(c).ID && k.Status == account.StatusSuspended:
		return 0, nil, invalid("/status", "forbidden", "that is the customer you act for: nobody could take it back")
	case !slices.Contains([]account.Status{account.StatusActive, account.StatusSuspended}, k.Status):
		return 0, nil, invalid("/status", "invalid", "give active or suspended")
	case k.Credits != nil && *k.Credits < 0:
		return 0, nil, invalid("/credits", "invalid", "give the recipients that may still be sent to, or null for no limit")
	}
	if k, err = s.deps.Customers.GovernCustomer(c.Request.Context(), k.ID, k.Status, k.Credits); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, customerResource(k, ""), nil
}

// deleteCustomer ends a customer, and with it keys and users: it takes a credential that
// may do as much as each of them.
func (s *Server) deleteCustomer(c *gin.Context) (int, any, error) {
	k, err := s.named(c)
	if err != nil {
		return 0, nil, err
	}
	if k.ID == customerOf(c).ID {
		return 0, nil, email.Fail(email.CodeForbidden, "that is the customer you act for: nobody could take it back")
	}
	if member, why := grantOf(c).Exceeded(account.AccessKey{Scopes: []account.Scope{account.ScopeAdmin}}); member != "" {
		return 0, nil, email.Fail(email.CodeForbidden, "the customer's keys may have more rights than this credential: %s", why)
	}
	if err := s.deps.Customers.DeleteCustomer(c.Request.Context(), k.ID); err != nil {
		return 0, nil, err
	}
	if k, err = s.deps.Customers.Customer(c.Request.Context(), k.ID); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, customerResource(k, ""), nil
}

func (s *Server) postCustomerKey(c *gin.Context) (int, any, error) {
	k, err := s.named(c)
	if err != nil {
		return 0, nil, err
	}
	return s.makeKey(c, k.ID)
}

type warmupRequest struct {
	Plan []int  `json:"plan"`
	From string `json:"from"`
}

type warmupAnswer struct {
	Name string `json:"name"`
	Plan []int  `json:"plan"`
	// From is a day in UTC; null without a plan, as is Limit on a day without a limit.
	From            *string `json:"from"`
	Day             int     `json:"day"`
	Limit           *int    `json:"limit"`
	Used            int     `json:"used"`
	UsedByBroadcast int     `json:"used_by_broadcast"`
	Waiting         int     `json:"waiting"`
}

func newWarmupAnswer(d account.Domain) warmupAnswer {
	w := d.Warmup
	out := warmupAnswer{Name: d.Name, Plan: w.Plan, Day: w.Day, Used: w.Used, UsedByBroadcast: w.UsedByBroadcast, Waiting: w.Waiting}
	if len(w.Plan) == 0 {
		out.Plan = []int{}
		return out
	}
	from := w.From.Format(time.DateOnly)
	out.From = &from
	if w.Day >= 1 && w.Day <= len(w.Plan) {
		out.Limit = &w.Plan[w.Day-1]
	}
	return out
}

// warmup answers for the domain that a path names, after a change if there is one.
func (s *Server) warmup(change func(c *gin.Context, customerID, name string) (account.Domain, error)) handler {
	return func(c *gin.Context) (int, any, error) {
		k, name, err := s.namedDomain(c)
		if err != nil {
			return 0, nil, err
		}
		d, err := change(c, k.ID, name)
		return http.StatusOK, newWarmupAnswer(d), err
	}
}

func (s *Server) putWarmup(c *gin.Context, customerID, name string) (account.Domain, error) {
	var in warmupRequest
	if err := decode(c, &in); err != nil {
		return account.Domain{}, err
	}
	w := account.Warmup{Plan: in.Plan}
	if err := w.Check(); err != nil {
		return account.Domain{}, invalid("/plan", "invalid", err.Error())
	}
	var err error
	if w.From, err = w.Beginning(in.From, s.opts.Now()); err != nil {
		return account.Domain{}, invalid("/from", "invalid", err.Error())
	}
	return s.deps.Domains.SetWarmup(c.Request.Context(), customerID, name, w)
}

func (s *Server) deleteWarmup(c *gin.Context, customerID, name string) (account.Domain, error) {
	return s.deps.Domains.SetWarmup(c.Request.Context(), customerID, name, account.Warmup{})
}

// usageMonths is how far usage looks back.
const usageMonths = 24

type usageJSON struct {
	Month      string `json:"month"`
	Emails     int64  `json:"emails"`
	Recipients int64  `json:"recipients"`
}

// usage counts what was accepted, by month in UTC.
func (s *Server) usage(c *gin.Context) (int, any, error) {
	us, err := s.deps.Customers.Usage(c.Request.Context(), customerOf(c).ID, usageMonths)
	if err != nil {
		return 0, nil, err
	}
	out := make([]usageJSON, len(us))
	for i, u := range us {
		out[i] = usageJSON{Month: u.Month.Format("2006-01"), Emails: u.Emails, Recipients: u.Recipients}
	}
	return http.StatusOK, gin.H{"result": out, "credits": customerOf(c).Credits}, nil
}

type auditJSON struct {
	ID         string  `json:"id"`
	At         *string `json:"at"`
	CustomerID string  `json:"customer_id,omitempty"`
	Actor      string  `json:"actor"`
	RemoteAddr string  `json:"remote_addr,omitempty"`
	RequestID  string  `json:"request_id,omitempty"`
	Action     string  `json:"action"`
	Target     string  `json:"target,omitempty"`
	Detail     string  `json:"detail,omitempty"`
}

// listAudit shows a customer what was done to its things, the operator all with
// ?all=true.
func (s *Server) listAudit(c *gin.Context) (int, any, error) {
	after, size, err := pageOf(c)
	if err != nil {
		return 0, nil, err
	}
	customerID := customerOf(c).ID
	if c.Query("all") == "true" {
		if !grantOf(c).Admin() {
			return 0, nil, errNotAdmin
		}
		customerID = ""
	}
	as, next, err := s.deps.Customers.Audit(c.Request.Context(), customerID, after, size)
	if err != nil {
		return 0, nil, err
	}
	out := listAnswer[auditJSON]{Result: make([]auditJSON, len(as)), NextPageToken: pageToken(next)}
	for i, a := range as {
		out.Result[i] = auditJSON{ID: a.ID, At: moment(a.At), CustomerID: a.CustomerID, Actor: a.Actor.Name, RemoteAddr: a.Actor.RemoteAddr,
			RequestID: a.Actor.RequestID, Action: a.Action, Target: a.Target, Detail: a.Detail}
	}
	return http.StatusOK, out, nil
}
