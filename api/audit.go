package api

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// Audit reads the audit log.
type Audit interface {
	// Audit lists the entries of a customer, those of all customers for an empty id.
	Audit(ctx context.Context, customerID string, after email.Cursor, limit int) ([]account.Audited, *email.Cursor, error)
}

// auditHandlers answers /v1.0/audit.
type auditHandlers struct{ store Audit }

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

// list returns the audit entries of the credential's customer, or those of all customers with
// ?all=true, which takes the scope admin.
func (h *auditHandlers) list(c *gin.Context) (int, any, error) {
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
	as, next, err := h.store.Audit(c.Request.Context(), customerID, after, size)
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
