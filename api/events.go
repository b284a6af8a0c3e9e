package api

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
)

// Events keeps what happened. Every call is bounded by a customer.
type Events interface {
	// EmailEvents and Attempts read on after a number, and tell the one to go on after, 0
	// at the end.
	EmailEvents(ctx context.Context, customerID, emailID string, after int64) (es []email.Event, next int64, err error)
	Attempts(ctx context.Context, customerID, emailID string, after int) (as []email.Attempt, next int, err error)
	// Feed reads on from a place, which may be empty, and says where it got to.
	Feed(ctx context.Context, customerID, after string, limit int) (es []email.Event, next string, err error)
}

// eventHandlers answer /v1.0/events and the events and attempts of an e-mail.
type eventHandlers struct{ store Events }

type eventJSON struct {
	ID           string          `json:"id"`
	EmailID      string          `json:"email_id"`
	Sequence     int64           `json:"sequence"`
	Type         email.EventType `json:"type"`
	RecipientID  string          `json:"recipient_id,omitempty"`
	Attempt      int             `json:"attempt,omitempty"`
	SMTPCode     int             `json:"smtp_code,omitempty"`
	EnhancedCode string          `json:"enhanced_code,omitempty"`
	Text         string          `json:"text,omitempty"`
	Reason       email.Detail    `json:"reason,omitempty"`
	Holder       email.Holder    `json:"holder,omitempty"`
	At           *string         `json:"at"`
}

func eventsJSON(es []email.Event) []eventJSON {
	out := make([]eventJSON, len(es))
	for i, e := range es {
		out[i] = eventJSON{
			ID: e.ID, EmailID: e.EmailID, Sequence: e.Sequence, Type: e.Type, RecipientID: e.RecipientID, Attempt: e.Attempt,
			SMTPCode: e.Code, EnhancedCode: e.Enhanced, Text: e.Text, Reason: e.Reason, Holder: e.Holder, At: moment(e.At),
		}
	}
	return out
}

func (h *eventHandlers) ofEmail(c *gin.Context) (int, any, error) {
	id, err := pathID(c, "id", "e-mail")
	if err != nil {
		return 0, nil, err
	}
	after, err := numberToken(c)
	if err != nil {
		return 0, nil, err
	}
	if err := holdPage(c); err != nil {
		return 0, nil, err
	}
	es, next, err := h.store.EmailEvents(c.Request.Context(), customerOf(c).ID, id, after)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, numberedAnswer[eventJSON]{Result: eventsJSON(es), NextPageToken: tokenOf(next)}, nil
}

func (h *eventHandlers) feed(c *gin.Context) (int, any, error) {
	size, err := pageSize(c)
	if err != nil {
		return 0, nil, err
	}
	if err := holdPage(c); err != nil {
		return 0, nil, err
	}
	es, next, err := h.store.Feed(c.Request.Context(), customerOf(c).ID, c.Query("after"), size)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, gin.H{"result": eventsJSON(es), "next": next}, nil
}
