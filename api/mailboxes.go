package api

import (
	"context"
	"io"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/mailbox"
)

// Mailboxes keeps received mail. Every call is bounded by a customer.
type Mailboxes interface {
	Mailboxes(ctx context.Context, customerID string) ([]mailbox.Mailbox, error)
	Messages(ctx context.Context, customerID, mailboxID string, after email.Cursor, limit int) ([]mailbox.Message, *email.Cursor, error)
	// ReceivedMessage gives a message and a reader of its Size bytes.
	ReceivedMessage(ctx context.Context, customerID, mailboxID, id string) (mailbox.Message, io.Reader, error)
}

// Parser reads a message for display. It may change raw.
type Parser interface {
	// Parse returns what it could read even with an error, which is
	// mailbox.ErrTooSlow.
	Parse(raw []byte) (mailbox.Parsed, error)
	// Attachment fails with mailbox.ErrNoAttachment, ErrTooComplex or ErrTooSlow.
	Attachment(raw []byte, index int) (mailbox.Part, []byte, error)
}

// mailboxHandlers answer /v1.0/mailboxes.
type mailboxHandlers struct {
	store   Mailboxes
	parser  Parser
	respond responder
}

type mailboxJSON struct {
	ID       string `json:"id"`
	Address  string `json:"address"`
	CatchAll bool   `json:"catch_all"`
	TmCreate string `json:"tm_create"`
}

func (h *mailboxHandlers) list(c *gin.Context) (int, any, error) {
	boxes, err := h.store.Mailboxes(c.Request.Context(), customerOf(c).ID)
	if err != nil {
		return 0, nil, err
	}
	out := listAnswer[mailboxJSON]{Result: make([]mailboxJSON, len(boxes))}
	for i, b := range boxes {
		out.Result[i] = mailboxJSON{ID: b.ID.String(), Address: b.Address, CatchAll: b.CatchAll, TmCreate: stamp(b.CreatedAt)}
	}
	return http.StatusOK, out, nil
}
