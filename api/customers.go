package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// CustomerByID reads a customer for the operator.
type CustomerByID interface {
	Customer(ctx context.Context, id string) (account.Customer, error)
}

// Customers manages all customers, for the operator.
type Customers interface {
	CreateCustomer(ctx context.Context, name, detail, mail string) (c account.Customer, webhookSecret string, err error)
	CustomerByID
	Customers(ctx context.Context, after email.Cursor, limit int) ([]account.Customer, *email.Cursor, error)
	// UpdateCustomerAsOperator sets the status and the credits of a customer; nil credits are no limit.
	UpdateCustomerAsOperator(ctx context.Context, id string, status account.Status, credits *int64) (account.Customer, error)
	// DeleteCustomer deletes a customer with its users, keys, domains and webhooks. A customer
	// that has sent or received mail is CodeConflict.
	DeleteCustomer(ctx context.Context, id string) error
}

// customerHandlers answers /v1.0/customers and /v1.0/customers/:id. Keys, users and domains of a
// customer have handlers of their own.
type customerHandlers struct {
	store    Customers
	customer pathCustomer
}

// pathCustomer reads the customer that the path of an operator's route names.
type pathCustomer struct{ store CustomerByID }

type newCustomerRequest struct {
	Name   string `json:"name"`
	Detail string `json:"detail"`
	Email  string `json:"email"`
}

func (h *customerHandlers) post(c *gin.Context) (int, any, error) {
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
	k, secret, err := h.store.CreateCustomer(c.Request.Context(), in.Name, in.Detail, in.Email)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, customerResource(k, secret), nil
}

func (p pathCustomer) read(c *gin.Context) (account.Customer, error) {
	id, err := pathID(c, "id", "customer")
	if err != nil {
		return account.Customer{}, err
	}
	return p.store.Customer(c.Request.Context(), id)
}

func (h *customerHandlers) get(c *gin.Context) (int, any, error) {
	k, err := h.customer.read(c)
	return http.StatusOK, customerResource(k, ""), err
}

// operatorCustomerRequest updates the members that it has. Credits is a number, or null for no
// limit.
type operatorCustomerRequest struct {
	Status  *account.Status `json:"status"`
	Credits optionalNumber  `json:"credits"`
}

// optionalNumber is a member that may be absent, null or a number. set is false if it is absent.
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

func (h *customerHandlers) put(c *gin.Context) (int, any, error) {
	k, err := h.customer.read(c)
	if err != nil {
		return 0, nil, err
	}
	var in operatorCustomerRequest
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
		return 0, nil, invalid("/status", "forbidden", "this is the customer of your own credential, which could not undo this")
	case !slices.Contains([]account.Status{account.StatusActive, account.StatusSuspended}, k.Status):
		return 0, nil, invalid("/status", "invalid", "give active or suspended")
	case k.Credits != nil && *k.Credits < 0:
		return 0, nil, invalid("/credits", "invalid", "give the number of recipients that the customer may still send to, or null for no limit")
	}
	if k, err = h.store.UpdateCustomerAsOperator(c.Request.Context(), k.ID, k.Status, k.Credits); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, customerResource(k, ""), nil
}

// delete deletes a customer with its keys and users. The credential must have all the rights that
// any of them may have.
func (h *customerHandlers) delete(c *gin.Context) (int, any, error) {
	k, err := h.customer.read(c)
	if err != nil {
		return 0, nil, err
	}
	if k.ID == customerOf(c).ID {
		return 0, nil, email.Fail(email.CodeForbidden, "this is the customer of your own credential, which could not undo this")
	}
	if member, why := grantOf(c).Exceeded(account.AccessKey{Scopes: []account.Scope{account.ScopeAdmin}}); member != "" {
		return 0, nil, email.Fail(email.CodeForbidden, "the customer's keys may have more rights than this credential: %s", why)
	}
	if err := h.store.DeleteCustomer(c.Request.Context(), k.ID); err != nil {
		return 0, nil, err
	}
	if k, err = h.store.Customer(c.Request.Context(), k.ID); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, customerResource(k, ""), nil
}

// list returns all customers to the operator. Any other credential receives a list with its own
// customer.
func (h *customerHandlers) list(c *gin.Context) (int, any, error) {
	if !grantOf(c).Admin() {
		return http.StatusOK, listAnswer[customerJSON]{Result: []customerJSON{customerResource(customerOf(c), "")}}, nil
	}
	after, size, err := pageOf(c)
	if err != nil {
		return 0, nil, err
	}
	ks, next, err := h.store.Customers(c.Request.Context(), after, size)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, listed(ks, next, func(k account.Customer) customerJSON { return customerResource(k, "") }), nil
}
