package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/senderdomain"
)

// Domains stores the sender domains of customers, for operators.
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

// SenderDomains stores the sender domains of a customer with their verification.
type SenderDomains interface {
	// CountDomainRequest refuses with CodeTooMany if the customer has made too many of the requests
	// that make keys or ask the DNS. CountOperatorDomainRequest counts those of an operator's customer
	// for others.
	CountDomainRequest(ctx context.Context, customerID string) error
	CountOperatorDomainRequest(ctx context.Context, operatorID string) error
	// CreateDomain returns the domain that the customer has already, if it has it.
	CreateDomain(ctx context.Context, customerID, name string) (d senderdomain.Domain, created bool, err error)
	// ListDomains leaves out records and keys.
	ListDomains(ctx context.Context, customerID string, after email.Cursor, limit int) ([]senderdomain.Domain, *email.Cursor, error)
	DomainByID(ctx context.Context, customerID, id string) (senderdomain.Domain, error)
	CheckDomainNow(ctx context.Context, customerID, id string) (senderdomain.Domain, error)
	RotateDKIM(ctx context.Context, customerID, id string) (senderdomain.Domain, error)
	// DeleteOwnDomain is the customer's, TakeDomain the operator's: no customer sends from the domain then
	// until an operator verifies it.
	DeleteOwnDomain(ctx context.Context, customerID, id string) (senderdomain.Domain, error)
	TakeDomain(ctx context.Context, customerID, id string) (senderdomain.Domain, error)
}

// DomainWaker wakes the workflow of a sender domain. If that fails, a sweep does it later.
type DomainWaker interface {
	WakeDomain(ctx context.Context, domainID string) error
}

// senderDomainHandlers answers /v1.0/domains.
type senderDomainHandlers struct {
	store SenderDomains
	waker DomainWaker
	log   *slog.Logger
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

// domainParameters refuses unknown query parameters: with a misspelt customer_id, a request would act for
// the operator's own customer.
func domainParameters(c *gin.Context, known ...string) error {
	hint := "an operator acts for another customer with customer_id"
	if len(known) > 0 {
		hint = "there are " + strings.Join(known, ", ") + ", and customer_id for operators"
	}
	return parameters(c, hint, append(known, "customer_id")...)
}

// count counts a request that makes keys or asks the DNS. Those of an operator do not use up the
// customer's.
func (h *senderDomainHandlers) count(c *gin.Context) error {
	count, customerID := h.store.CountDomainRequest, customerOf(c).ID
	if operatorID, ok := actsForAnother(c); ok {
		count, customerID = h.store.CountOperatorDomainRequest, operatorID
	}
	err := count(c.Request.Context(), customerID)
	if email.FailureCode(err) == email.CodeTooMany {
		c.Header("Retry-After", "60")
	}
	return err
}

// wake wakes the workflow of a domain. If that fails, a sweep does it later.
func (h *senderDomainHandlers) wake(ctx context.Context, id string) {
	if err := h.waker.WakeDomain(context.WithoutCancel(ctx), id); err != nil {
		h.log.WarnContext(ctx, "domain.wake", "domain_id", id, "error", err)
	}
}

func (h *senderDomainHandlers) post(c *gin.Context) (int, any, error) {
	if err := domainParameters(c); err != nil {
		return 0, nil, err
	}
	var in struct {
		Name string `json:"name"`
	}
	if err := decode(c, &in); err != nil {
		return 0, nil, err
	}
	name, err := senderdomain.Parse(in.Name)
	if wrong, ok := errors.AsType[*senderdomain.NameError](err); ok {
		return 0, nil, invalid("/name", string(wrong.Problem), wrong.Text)
	}
	if err != nil {
		return 0, nil, err
	}
	if !grantOf(c).MaySendFrom(name) {
		return 0, nil, foreignSender(name, "/name")
	}
	if err := h.count(c); err != nil {
		return 0, nil, err
	}
	d, created, err := h.store.CreateDomain(c.Request.Context(), customerOf(c).ID, name)
	if err != nil {
		return 0, nil, err
	}
	h.wake(c.Request.Context(), d.ID)
	if !created {
		return http.StatusOK, newSenderDomainAnswer(d), nil
	}
	return http.StatusCreated, newSenderDomainAnswer(d), nil
}

func (h *senderDomainHandlers) list(c *gin.Context) (int, any, error) {
	if err := domainParameters(c, "page_size", "page_token"); err != nil {
		return 0, nil, err
	}
	return listPage(c, customerOf(c).ID, h.store.ListDomains, newSenderDomainEntry)
}

// id is that of the domain in the path.
func (h *senderDomainHandlers) id(c *gin.Context) (string, error) {
	if err := domainParameters(c); err != nil {
		return "", err
	}
	return pathID(c, "id", "domain")
}

func (h *senderDomainHandlers) get(c *gin.Context) (int, any, error) {
	id, err := h.id(c)
	if err != nil {
		return 0, nil, err
	}
	d, err := h.store.DomainByID(c.Request.Context(), customerOf(c).ID, id)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, newSenderDomainAnswer(d), nil
}

// change returns a handler that changes the domain that the path names, and wakes its workflow.
// counted says that the change makes keys or asks the DNS.
func (h *senderDomainHandlers) change(counted bool, do func(c *gin.Context, customerID, id string) (senderdomain.Domain, error)) handler {
	return reservingChange(func(c *gin.Context) (int, any, error) {
		id, err := h.id(c)
		if err != nil {
			return 0, nil, err
		}
		ctx, customerID := c.Request.Context(), customerOf(c).ID
		d, err := h.store.DomainByID(ctx, customerID, id)
		if err != nil {
			return 0, nil, err
		}
		if !grantOf(c).MaySendFrom(d.Name) {
			return 0, nil, foreignDomain(d.Name)
		}
		if counted {
			if err := h.count(c); err != nil {
				return 0, nil, err
			}
		}
		if d, err = do(c, customerID, id); err != nil {
			return 0, nil, err
		}
		h.wake(ctx, id)
		return http.StatusOK, newSenderDomainAnswer(d), nil
	})
}

func (h *senderDomainHandlers) verify(c *gin.Context, customerID, id string) (senderdomain.Domain, error) {
	return h.store.CheckDomainNow(c.Request.Context(), customerID, id)
}

func (h *senderDomainHandlers) rotate(c *gin.Context, customerID, id string) (senderdomain.Domain, error) {
	return h.store.RotateDKIM(c.Request.Context(), customerID, id)
}

// delete deletes a domain. A request for another customer takes it back, because it is an operator's.
func (h *senderDomainHandlers) delete(c *gin.Context, customerID, id string) (senderdomain.Domain, error) {
	if _, ok := actsForAnother(c); ok {
		return h.store.TakeDomain(c.Request.Context(), customerID, id)
	}
	return h.store.DeleteOwnDomain(c.Request.Context(), customerID, id)
}
