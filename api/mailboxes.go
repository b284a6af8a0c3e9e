package api

import (
	"context"
	"io"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/mailbox"
)

// Mailboxes reads received mail. Each call sees that of one customer only.
type Mailboxes interface {
	Mailboxes(ctx context.Context, customerID string) ([]mailbox.Mailbox, error)
	Messages(ctx context.Context, customerID, mailboxID string, after email.Cursor, limit int) ([]mailbox.Message, *email.Cursor, error)
	// ReceivedMessage returns a message and a reader of its Size bytes.
	ReceivedMessage(ctx context.Context, customerID, mailboxID, id string) (mailbox.Message, io.Reader, error)
}

// Parser parses received messages. Its methods may change raw.
type Parser interface {
	// Parse returns what it has parsed. Its only error is mailbox.ErrTooSlow, which comes with
	// the part that it parsed before the time limit.
	Parse(raw []byte) (mailbox.Parsed, error)
	// Attachment fails with mailbox.ErrNoAttachment, ErrTooComplex or ErrTooSlow.
	Attachment(raw []byte, index int) (mailbox.Part, []byte, error)
}

// mailboxHandlers answers /v1.0/mailboxes and, in messages.go, the messages in mailboxes.
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
