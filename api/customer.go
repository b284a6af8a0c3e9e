package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/intake"
)

// OwnCustomer updates the customer of a credential.
type OwnCustomer interface {
	// UpdateCustomer returns the secret of the customer's webhook endpoint if it created that.
	UpdateCustomer(ctx context.Context, c account.Customer) (out account.Customer, webhookSecret string, err error)
}

// ownCustomerHandlers answers /v1.0/customer.
type ownCustomerHandlers struct {
	store    OwnCustomer
	checkURL func(string) error
}

// customerJSON is VoIPBIN's Customer, with members of our own. WebhookSecret is only in the answer
// to the request that created the endpoint.
type customerJSON struct {
	ID            string          `json:"id"`
	Name          string          `json:"name"`
	Detail        string          `json:"detail"`
	Email         string          `json:"email"`
	WebhookMethod string          `json:"webhook_method"`
	WebhookURI    string          `json:"webhook_uri"`
	WebhookSecret string          `json:"webhook_secret,omitempty"`
	DefaultSource *account.Source `json:"default_source"`
	Profile       account.Profile `json:"profile"`
	// Credits is the number of recipients that the customer may still send to; null is no limit.
	Credits  *int64         `json:"credits"`
	Status   account.Status `json:"status"`
	TmCreate string         `json:"tm_create"`
	TmUpdate string         `json:"tm_update"`
	TmDelete string         `json:"tm_delete"`
}

func customerResource(k account.Customer, secret string) customerJSON {
	return customerJSON{
		ID: k.ID, Name: k.Name, Detail: k.Detail, Email: k.Email, WebhookMethod: k.WebhookMethod, WebhookURI: k.WebhookURI,
		WebhookSecret: secret, DefaultSource: k.DefaultSource, Profile: k.Profile, Credits: k.Credits, Status: k.Status,
		TmCreate: stamp(k.CreatedAt), TmUpdate: stamp(k.UpdatedAt), TmDelete: stamp(k.DeletedAt),
	}
}

func (h *ownCustomerHandlers) get(c *gin.Context) (int, any, error) {
	return http.StatusOK, customerResource(customerOf(c), ""), nil
}

// customerRequest updates the members that it has.
type customerRequest struct {
	Name          *string         `json:"name"`
	Detail        *string         `json:"detail"`
	Email         *string         `json:"email"`
	WebhookMethod *string         `json:"webhook_method"`
	WebhookURI    *string         `json:"webhook_uri"`
	DefaultSource *account.Source `json:"default_source"`
	// Profile is "" or "voipbin".
	Profile *account.Profile `json:"profile"`
}

func (h *ownCustomerHandlers) put(c *gin.Context) (int, any, error) {
	var in customerRequest
	err := decode(c, &in)
	cust := customerOf(c)
	if err == nil {
		err = h.apply(&cust, in)
	}
	if err != nil {
		return 0, nil, err
	}
	updated, secret, err := h.store.UpdateCustomer(c.Request.Context(), cust)
	if err != nil {
		return 0, nil, atSender(err, "/default_source")
	}
	return http.StatusOK, customerResource(updated, secret), nil
}

// apply sets the members that a request has, and checks them.
func (h *ownCustomerHandlers) apply(cust *account.Customer, in customerRequest) error {
	for _, set := range []struct{ from, to *string }{
		{in.Name, &cust.Name}, {in.Detail, &cust.Detail}, {in.Email, &cust.Email},
		{in.WebhookMethod, &cust.WebhookMethod}, {in.WebhookURI, &cust.WebhookURI},
	} {
		if set.from != nil {
			*set.to = *set.from
		}
	}
	if err := checkTexts(map[string]string{"/name": cust.Name, "/detail": cust.Detail, "/email": cust.Email, "/webhook_uri": cust.WebhookURI}); err != nil {
		return err
	}
	if in.Email != nil {
		var err error
		if cust.Email, err = customerEmail(cust.Email); err != nil {
			return err
		}
	}
	if cust.Name == "" {
		return invalid("/name", "missing", "a customer needs a name")
	}
	if !slices.Contains([]string{"POST", "GET", "PUT", "DELETE"}, cust.WebhookMethod) {
		return invalid("/webhook_method", "invalid", "give POST, GET, PUT or DELETE")
	}
	if in.WebhookURI != nil && cust.WebhookURI != "" {
		if err := h.checkURL(cust.WebhookURI); err != nil {
			return invalid("/webhook_uri", "invalid", err.Error())
		}
	}
	if in.Profile != nil {
		if cust.Profile = *in.Profile; cust.Profile != account.ProfileDefault && cust.Profile != account.ProfileVoIPBIN {
			return invalid("/profile", "invalid", "give voipbin, or an empty string for none")
		}
	}
	if in.DefaultSource == nil {
		return nil
	}
	if *in.DefaultSource == (account.Source{}) {
		cust.DefaultSource = nil
		return nil
	}
	a, err := intake.Address(in.DefaultSource.Email, in.DefaultSource.Name)
	if err != nil {
		return invalid("/default_source", "invalid", err.Error())
	}
	cust.DefaultSource = &account.Source{Email: a.Email, Name: a.Name}
	return nil
}

// customerEmail checks and normalizes the contact address of a customer; empty is none.
func customerEmail(addr string) (string, error) {
	if addr == "" {
		return "", nil
	}
	a, err := intake.Address(addr, "")
	if err != nil {
		return "", invalid("/email", "invalid", err.Error())
	}
	return a.Email, nil
}
