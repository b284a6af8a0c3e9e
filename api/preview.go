package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/advice"
	"github.com/postrider/postrider/internal/intake"
)

// Previews refuses what Emails.Accept would refuse, and stores nothing. It gives the
// message with what is known of the files it refers to, and who sent the customer's
// last e-mails of its stream.
type Previews interface {
	Preview(ctx context.Context, customerID string, m email.Message) (email.Message, email.SenderUse, error)
	// PreviewBatch refuses what Batches.AcceptBatch would refuse, and stores nothing. It tells
	// which items would be refused, and the first that would not.
	PreviewBatch(ctx context.Context, customerID string, req email.BatchRequest) (refused []email.RefusedItem, first int, err error)
}

// previewHandlers answer /v1.0/emails/preview.
type previewHandlers struct {
	store       Previews
	submissions submissions
	render      Renderer
	now         func() time.Time
}

// Renderer makes the bytes of a message that is not sent, without attachments' contents of
// more than maxContent bytes.
type Renderer func(m email.Message, emailID string, date time.Time, maxContent int) (Rendering, error)

// Rendering is a message's bytes to be read by people.
type Rendering struct {
	// Source lacks the contents of the attachments in Shortened, which are indexes.
	Source []byte
	// SizeBytes is the size of the whole message, as far as it is known.
	SizeBytes int64
	Shortened []int
}

// previewContent is the largest attachment that a preview shows, in bytes.
const previewContent = 4 << 10

// previewBody is how much text, HTML and calendar together a preview shows and checks, in
// bytes. Gmail shows the first 102 KB of a message.
const previewBody = 4 << 20

type previewJSON struct {
	Source string `json:"source"`
	// Shortened points at the attachments that Source has a placeholder for.
	Shortened []string    `json:"shortened"`
	SizeBytes int64       `json:"size_bytes"`
	Text      string      `json:"text"`
	Checks    []checkJSON `json:"checks"`
	// Batch is there for a batch, of which the first good copy is shown.
	Batch *previewedBatchJSON `json:"batch,omitempty"`
}

// previewedBatchJSON is what would become of a batch's items.
type previewedBatchJSON struct {
	Total    int `json:"total"`
	Accepted int `json:"accepted"`
	Refused  int `json:"refused"`
	// Items are those that would be refused.
	Items []batchItemJSON `json:"items"`
}

type checkJSON struct {
	ID     string       `json:"id"`
	Level  advice.Level `json:"level"`
	Title  string       `json:"title"`
	Detail string       `json:"detail"`
	Where  string       `json:"where,omitempty"`
}

// previewed is the message to be shown, where the request has it and names its sender,
// and for a batch what would become of it.
type previewed struct {
	message    email.Message
	at, sender string
	batch      *previewedBatchJSON
}

func (h *previewHandlers) previewed(c *gin.Context, body []byte) (p previewed, err error) {
	if !intake.IsBatch(body) {
		p.message, p.sender, err = h.submissions.message(c, body)
		return p, err
	}
	in, err := h.submissions.batch(c, body)
	if err != nil {
		return p, err
	}
	if err := holdQuery(c); err != nil {
		return p, err
	}
	refused, first, err := h.store.PreviewBatch(c.Request.Context(), customerOf(c).ID, batchRequest(c, in))
	if err != nil {
		return p, err
	}
	p.at, p.sender = in.Place(first), in.Sender(first)
	p.batch = &previewedBatchJSON{Total: in.Len(), Accepted: in.Len() - len(refused), Refused: len(refused), Items: refusedItems(refused)}
	p.message, err = in.Message(first)
	return p, err
}

// under moves what is wrong with a message to where the request has it.
func under(err error, place string) error {
	f, ok := errors.AsType[*email.Failure](err)
	if !ok || place == "" {
		return err
	}
	moved := *f
	moved.Fields = slices.Clone(f.Fields)
	for i := range moved.Fields {
		moved.Fields[i].Pointer = place + moved.Fields[i].Pointer
	}
	return &moved
}

// preview shows what a POST of the same body would send.
func (h *previewHandlers) post(c *gin.Context) (int, any, error) {
	// What is shown is in memory as a message, as its source, and as JSON.
	body, err := h.submissions.body(c, 5)
	if err != nil {
		return 0, nil, err
	}
	p, err := h.previewed(c, body)
	if err != nil {
		return 0, nil, err
	}
	if n := len(p.message.Text) + len(p.message.HTML) + len(p.message.Calendar.ICS); n > previewBody {
		return 0, nil, previewTooLarge(n, p.at)
	}
	m, senders, err := h.store.Preview(c.Request.Context(), customerOf(c).ID, p.message)
	if err != nil {
		return 0, nil, atSender(under(err, p.at), p.sender)
	}
	date := h.now()
	if m.SendAt.After(date) {
		date = m.SendAt
	}
	out, err := compute(c, int64(len(m.Text)+len(m.HTML)), func() (previewJSON, error) { return h.rendered(m, p, senders, date) })
	return http.StatusOK, out, err
}

// rendered is a preview of a message at a time.
func (h *previewHandlers) rendered(m email.Message, p previewed, senders email.SenderUse, date time.Time) (out previewJSON, err error) {
	r, err := h.render(m, previewID(m), date, previewContent)
	if err != nil {
		return out, fmt.Errorf("render preview: %w", err)
	}
	out = previewJSON{Source: string(r.Source), Shortened: make([]string, len(r.Shortened)), SizeBytes: r.SizeBytes, Text: m.Text, Batch: p.batch}
	for i, index := range r.Shortened {
		out.Shortened[i] = fmt.Sprintf("%s/attachments/%d", p.at, index)
	}
	for _, check := range advice.Checks(m, advice.Facts{SizeBytes: r.SizeBytes, Senders: senders}) {
		if strings.HasPrefix(check.Where, "/") {
			check.Where = p.at + check.Where
		}
		out.Checks = append(out.Checks, checkJSON(check))
	}
	return out, nil
}

func previewTooLarge(n int, place string) *email.Failure {
	f := email.Fail(email.CodeTooLarge, "text, HTML and calendar have %d bytes together, a preview takes %d: it can be sent, and not previewed", n, previewBody)
	f.Fields = []email.FieldError{{Pointer: place + "/content", Code: string(email.CodeTooLarge), Detail: f.Detail}}
	return f
}

// previewID stands where an e-mail's id would. The same message has the same, so that
// two previews differ in what the messages differ in.
func previewID(m email.Message) string {
	return uuid.NewSHA1(uuid.Nil, []byte(intake.Fingerprint(m))).String()
}
