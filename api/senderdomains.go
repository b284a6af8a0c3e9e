package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/senderdomain"
)

// SenderDomains stores the sender domains of a customer with their verification.
type SenderDomains interface {
	// CountDomainRequest refuses with CodeTooMany if the customer has made too many of the requests
	// that make keys or ask the DNS.
	CountDomainRequest(ctx context.Context, customerID string) error
	// CreateDomain returns the domain that the customer has already, if it has it.
	CreateDomain(ctx context.Context, customerID, name string) (d senderdomain.Domain, created bool, err error)
	// ListDomains leaves out records and keys.
	ListDomains(ctx context.Context, customerID string, after email.Cursor, limit int) ([]senderdomain.Domain, *email.Cursor, error)
	DomainByID(ctx context.Context, customerID, id string) (senderdomain.Domain, error)
	CheckDomainNow(ctx context.Context, customerID, id string) (senderdomain.Domain, error)
	RotateDKIM(ctx context.Context, customerID, id string) (senderdomain.Domain, error)
	DeleteOwnDomain(ctx context.Context, customerID, id string) (senderdomain.Domain, error)
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

// senderDomainEntry is a domain in a list.
type senderDomainEntry struct {
	ID          string                    `json:"id"`
	Name        string                    `json:"name"`
	Status      senderdomain.DomainStatus `json:"status"`
	StatusSince *string                   `json:"status_since"`
	// VerifiedAt and VerifiedBy are null while the customer may not send from the domain.
	VerifiedAt *string                `json:"verified_at"`
	VerifiedBy *senderdomain.Verifier `json:"verified_by"`
	// BlockedBy says why the domain is not verified although its records are right.
	BlockedBy   *senderdomain.Blocker `json:"blocked_by"`
	CheckedAt   *string               `json:"checked_at"`
	NextCheckAt *string               `json:"next_check_at"`
	CreatedAt   *string               `json:"created_at"`
}

type senderDomainAnswer struct {
	senderDomainEntry
	Records []dnsRecordJSON `json:"records"`
	Keys    []dkimKeyJSON   `json:"keys"`
}

// dnsRecordJSON has the member names of other services, so that their users know them.
type dnsRecordJSON struct {
	Record   senderdomain.Kind `json:"record"`
	Required bool              `json:"required"`
	Type     string            `json:"type"`
	// Name is relative to the domain. FQDN is the whole name.
	Name string `json:"name"`
	FQDN string `json:"fqdn"`
	// Value is on one line. ZoneFile is the record as a line of a zone file.
	Value    string              `json:"value"`
	ZoneFile string              `json:"zone_file"`
	TTL      string              `json:"ttl"`
	Priority *int                `json:"priority"`
	Status   senderdomain.Status `json:"status"`
	Found    []string            `json:"found"`
	// Problem and Remedy are null if the record is verified, or not checked yet.
	Problem *senderdomain.Problem `json:"problem"`
	Remedy  *string               `json:"remedy"`
}

type dkimKeyJSON struct {
	Selector     string                `json:"selector"`
	Algorithm    string                `json:"algorithm"`
	State        senderdomain.KeyState `json:"state"`
	Since        *string               `json:"since"`
	SafeToRemove bool                  `json:"safe_to_remove"`
}

// orNull is a text as a member that is null if the text is empty.
func orNull[T ~string](text T) *T {
	if text == "" {
		return nil
	}
	return &text
}

func newSenderDomainEntry(d senderdomain.Domain) senderDomainEntry {
	return senderDomainEntry{
		ID: d.ID, Name: d.Name, Status: d.Status, StatusSince: moment(d.Since), VerifiedAt: moment(d.VerifiedAt), VerifiedBy: orNull(d.VerifiedBy),
		BlockedBy: orNull(d.BlockedBy), CheckedAt: moment(d.CheckedAt), NextCheckAt: moment(d.NextCheckAt), CreatedAt: moment(d.CreatedAt),
	}
}

func newSenderDomainAnswer(d senderdomain.Domain) senderDomainAnswer {
	out := senderDomainAnswer{senderDomainEntry: newSenderDomainEntry(d), Records: []dnsRecordJSON{}, Keys: []dkimKeyJSON{}}
	for _, r := range d.Records {
		out.Records = append(out.Records, dnsRecordJSON{
			Record: r.Kind, Required: r.Required, Type: string(r.Type), Name: r.Name, FQDN: r.FQDN, Value: r.Value, ZoneFile: r.ZoneFile, TTL: r.TTL, Priority: r.Priority,
			Status: r.Status, Found: append([]string{}, r.Found...), Problem: orNull(r.Problem), Remedy: orNull(r.Remedy),
		})
	}
	for _, k := range d.Keys {
		out.Keys = append(out.Keys, dkimKeyJSON{k.Selector, k.Algorithm, k.State, moment(k.Since), k.SafeToRemove()})
	}
	return out
}

// count counts a request that makes keys or asks the DNS.
func (h *senderDomainHandlers) count(c *gin.Context) error {
	err := h.store.CountDomainRequest(c.Request.Context(), customerOf(c).ID)
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
	return listPage(c, customerOf(c).ID, h.store.ListDomains, newSenderDomainEntry)
}

func (h *senderDomainHandlers) get(c *gin.Context) (int, any, error) {
	id, err := pathID(c, "id", "domain")
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
func (h *senderDomainHandlers) change(counted bool, do func(ctx context.Context, customerID, id string) (senderdomain.Domain, error)) handler {
	return reservingChange(func(c *gin.Context) (int, any, error) {
		id, err := pathID(c, "id", "domain")
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
		if d, err = do(ctx, customerID, id); err != nil {
			return 0, nil, err
		}
		h.wake(ctx, id)
		return http.StatusOK, newSenderDomainAnswer(d), nil
	})
}
