package api

import (
	"context"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/intake"
)

// Domains stores the sender domains of customers.
type Domains interface {
	AddDomain(ctx context.Context, customerID, name string, verified bool) (account.Domain, error)
	Domains(ctx context.Context, customerID string, after email.Cursor, limit int) ([]account.Domain, *email.Cursor, error)
	Domain(ctx context.Context, customerID, name string) (account.Domain, error)
	// VerifyDomain sets whether a domain is verified. If it or DeleteDomain takes a verification
	// back, no customer may send from the domain until it is verified again.
	VerifyDomain(ctx context.Context, customerID, name string, verified bool) (account.Domain, error)
	DeleteDomain(ctx context.Context, customerID, name string) (account.Domain, error)
	// SetWarmup replaces the warm-up plan of a domain; an empty plan removes it.
	SetWarmup(ctx context.Context, customerID, name string, w account.Warmup) (account.Domain, error)
}

// domainHandlers answers /v1.0/customers/:id/domains and the warm-up plans below it (warmup.go).
type domainHandlers struct {
	customer pathCustomer
	store    Domains
	now      func() time.Time
}

type domainRequest struct {
	Name     string `json:"name"`
	Verified *bool  `json:"verified"`
}

type domainAnswer struct {
	Name       string  `json:"name"`
	VerifiedAt *string `json:"verified_at"`
}

func newDomainAnswer(d account.Domain) domainAnswer {
	return domainAnswer{Name: d.Name, VerifiedAt: moment(d.VerifiedAt)}
}

func (h *domainHandlers) post(c *gin.Context) (int, any, error) {
	k, err := h.customer.read(c)
	if err != nil {
		return 0, nil, err
	}
	var in domainRequest
	if err := decode(c, &in); err != nil {
		return 0, nil, err
	}
	name, err := intake.Domain(in.Name)
	if err != nil {
		return 0, nil, invalid("/name", "invalid", "give a domain, as example.com")
	}
	if !grantOf(c).MaySendFrom(name) {
		return 0, nil, foreignSender(name, "/name")
	}
	d, err := h.store.AddDomain(c.Request.Context(), k.ID, name, in.Verified != nil && *in.Verified)
	if err != nil {
		return 0, nil, err
	}
	if in.Verified != nil && !*in.Verified && !d.VerifiedAt.IsZero() {
		return 0, nil, email.Fail(email.CodeConflict, `the domain is verified, and adding it again does not change that: PUT {"verified":false} to /v1.0/customers/%s/domains/%s, or DELETE that`, k.ID, name)
	}
	return http.StatusOK, newDomainAnswer(d), nil
}

func (h *domainHandlers) list(c *gin.Context) (int, any, error) {
	k, err := h.customer.read(c)
	if err != nil {
		return 0, nil, err
	}
	return listPage(c, k.ID, h.store.Domains, newDomainAnswer)
}

// one returns a handler for the domain that the path names. It calls do and answers with the
// domain.
func (h *domainHandlers) one(do func(c *gin.Context, customerID, name string) (account.Domain, error)) handler {
	return func(c *gin.Context) (int, any, error) {
		k, name, err := h.named(c)
		if err != nil {
			return 0, nil, err
		}
		d, err := do(c, k.ID, name)
		if err != nil {
			return 0, nil, err
		}
		return http.StatusOK, newDomainAnswer(d), nil
	}
}

// named returns the customer and the name of the domain in the path.
func (h *domainHandlers) named(c *gin.Context) (account.Customer, string, error) {
	k, err := h.customer.read(c)
	if err != nil {
		return k, "", err
	}
	name, err := intake.Domain(c.Param("domain"))
	if err != nil {
		return k, "", email.Fail(email.CodeNotFound, "there is no such domain")
	}
	return k, name, nil
}

func (h *domainHandlers) get(c *gin.Context, customerID, name string) (account.Domain, error) {
	return h.store.Domain(c.Request.Context(), customerID, name)
}

type verifyRequest struct {
	Verified *bool `json:"verified"`
}

func (h *domainHandlers) put(c *gin.Context, customerID, name string) (account.Domain, error) {
	var in verifyRequest
	if err := decode(c, &in); err != nil {
		return account.Domain{}, err
	}
	if in.Verified == nil {
		return account.Domain{}, invalid("/verified", "missing", "give true to verify the domain, false to take the verification back")
	}
	if !grantOf(c).MaySendFrom(name) {
		return account.Domain{}, foreignDomain(name)
	}
	return h.store.VerifyDomain(c.Request.Context(), customerID, name, *in.Verified)
}

func (h *domainHandlers) delete(c *gin.Context, customerID, name string) (account.Domain, error) {
	if !grantOf(c).MaySendFrom(name) {
		return account.Domain{}, foreignDomain(name)
	}
	return h.store.DeleteDomain(c.Request.Context(), customerID, name)
}

// foreignDomain refuses to change a domain that is not among those of the credential.
func foreignDomain(name string) error {
	return email.Fail(email.CodeForbidden, "this access key may not send from %s, so it may not change that domain", name)
}
