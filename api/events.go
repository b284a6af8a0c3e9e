package api

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
)

// Events reads events and attempts. Each call sees those of one customer only.
type Events interface {
	// EmailEvents and Attempts return a page of entries after a number. next is the number for
	// the next page, 0 on the last page.
	EmailEvents(ctx context.Context, customerID, emailID string, after int64) (es []email.Event, next int64, err error)
	Attempts(ctx context.Context, customerID, emailID string, after int) (as []email.Attempt, next int, err error)
	// Feed returns the events after a cursor, and the cursor of the last one. An empty cursor is
	// the beginning.
	Feed(ctx context.Context, customerID, after string, limit int) (es []email.Event, next string, err error)
}

// eventHandlers answers /v1.0/events, and the events and attempts of an e-mail.
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

func newEventJSON(e email.Event) eventJSON {
	return eventJSON{
		ID: e.ID, EmailID: e.EmailID, Sequence: e.Sequence, Type: e.Type, RecipientID: e.RecipientID, Attempt: e.Attempt,
		SMTPCode: e.Code, EnhancedCode: e.Enhanced, Text: e.Text, Reason: e.Reason, Holder: e.Holder, At: moment(e.At),
	}
}

// ofEmail lists the events of an e-mail.
func (h *eventHandlers) ofEmail(c *gin.Context) (int, any, error) {
	return numberedOfEmail(c, h.store.EmailEvents, newEventJSON)
}

// feed lists the events of a customer's e-mails. The answer's next is the after of the next
// request, even if there are no more events yet.
func (h *eventHandlers) feed(c *gin.Context) (int, any, error) {
	size, err := pageSize(c)
	if err != nil {
		return 0, nil, err
	}
	if err := reservePage(c, smallEntry*int64(size)); err != nil {
		return 0, nil, err
	}
	es, next, err := h.store.Feed(c.Request.Context(), customerOf(c).ID, c.Query("after"), size)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, gin.H{"result": each(es, newEventJSON), "next": next}, nil
}
