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
	"github.com/postrider/postrider/internal/mailmerge"
	"github.com/postrider/postrider/internal/senderdomain"
	"github.com/postrider/postrider/internal/unsubscribe"
)

// Previews checks messages and batches as accepting them does, and stores nothing.
type Previews interface {
	// Preview refuses what Emails.Accept would refuse. It returns the message with the names,
	// types and sizes of its files, and the senders of the customer's last e-mails of its stream.
	Preview(ctx context.Context, customerID string, m email.Message) (email.Message, email.SenderUse, error)
	// PreviewBatch refuses what Batches.AcceptBatch would refuse. It returns the items that would
	// be refused, and the index of the first that would not.
	PreviewBatch(ctx context.Context, customerID string, req email.BatchRequest) (refused []email.RefusedItem, first int, err error)
	// PreviewSender returns the domain of a message's sender, with its last check. Of a domain that the
	// customer does not have, it returns no more than the name.
	PreviewSender(ctx context.Context, customerID, domain string) (senderdomain.Domain, error)
}

// previewHandlers answers /v1.0/emails/preview.
type previewHandlers struct {
	store       Previews
	submissions submissions
	render      Renderer
	now         func() time.Time
}

// Renderer renders a message that is not sent. It leaves out the content of attachments larger
// than maxContent bytes.
type Renderer func(m email.Message, emailID string, date time.Time, maxContent int) (Rendering, error)

// Rendering is a rendered message to be shown.
type Rendering struct {
	// Source is the message, without the content of the attachments with the indexes Shortened.
	Source []byte
	// SizeBytes is the size of the whole message. Attachments of unknown size count as empty.
	SizeBytes int64
	Shortened []int
}

// previewContent is the largest attachment that a preview shows with its content, in bytes.
const previewContent = 4 << 10

// previewTimes is how many times its body a preview reserves: the body, the message, its source, and
// the answer as JSON in a growing buffer.
const previewTimes = 5

// previewBody limits text, HTML and calendar of a preview together, in bytes. Gmail shows the
// first 102 KB of a message.
const previewBody = 4 << 20

type previewJSON struct {
	Source string `json:"source"`
	// Shortened are JSON Pointers to the attachments for which Source has a placeholder.
	Shortened []string    `json:"shortened"`
	SizeBytes int64       `json:"size_bytes"`
	Text      string      `json:"text"`
	Checks    []checkJSON `json:"checks"`
	// Authentication has an element for each relay that the message could go to.
	Authentication []authenticationJSON `json:"authentication"`
	// Batch is set if the request is a batch. Source is its first message that is not refused.
	Batch *previewedBatchJSON `json:"batch,omitempty"`
}

// previewedBatchJSON is what accepting a batch would result in.
type previewedBatchJSON struct {
	Total    int `json:"total"`
	Accepted int `json:"accepted"`
	Refused  int `json:"refused"`
	// Items are the items that would be refused.
	Items []batchItemJSON `json:"items"`
}

type checkJSON struct {
	ID     string       `json:"id"`
	Level  advice.Level `json:"level"`
	Title  string       `json:"title"`
	Detail string       `json:"detail"`
	Where  string       `json:"where,omitempty"`
}

// previewed is the message to show.
type previewed struct {
	message email.Message
	// pointer and sender are JSON Pointers of the message and its sender in the request.
	pointer, sender string
	// batch is nil if the request is a single message.
	batch *previewedBatchJSON
}

func (h *previewHandlers) previewed(c *gin.Context, body []byte) (p previewed, err error) {
	if !mailmerge.IsBatch(body) {
		p.message, p.sender, err = h.submissions.message(c, body, previewWork, previewTimes)
		return p, err
	}
	in, err := h.submissions.batch(c, body)
	if err != nil {
		return p, err
	}
	if err := reserveQuery(c); err != nil {
		return p, err
	}
	refused, first, err := h.store.PreviewBatch(c.Request.Context(), customerOf(c).ID, batchRequest(c, in))
	if err != nil {
		return p, err
	}
	p.pointer, p.sender = in.Place(first), in.Sender(first)
	p.batch = &previewedBatchJSON{Total: in.Len(), Accepted: in.Len() - len(refused), Refused: len(refused), Items: refusedItems(refused)}
	p.message, err = in.Message(first)
	return p, err
}

// under puts a pointer before the pointers of a failure, so that pointers into a message become
// pointers into the request that contains it.
func under(err error, pointer string) error {
	f, ok := errors.AsType[*email.Failure](err)
	if !ok || pointer == "" {
		return err
	}
	moved := *f
	moved.Fields = slices.Clone(f.Fields)
	for i := range moved.Fields {
		moved.Fields[i].Pointer = pointer + moved.Fields[i].Pointer
	}
	return &moved
}

// post shows the message that POST /v1.0/emails or /v1.0/emails/batch would send for the same body.
func (h *previewHandlers) post(c *gin.Context) (int, any, error) {
	body, err := h.submissions.body(c, previewTimes)
	if err != nil {
		return 0, nil, err
	}
	p, err := h.previewed(c, body)
	if err != nil {
		return 0, nil, err
	}
	if n := len(p.message.Text) + len(p.message.HTML) + len(p.message.Calendar.ICS); n > previewBody {
		return 0, nil, previewTooLarge(n, p.pointer)
	}
	if err := reserveQuery(c); err != nil {
		return 0, nil, err
	}
	m, senders, err := h.store.Preview(c.Request.Context(), customerOf(c).ID, p.message)
	if err != nil {
		return 0, nil, atSender(under(err, p.pointer), p.sender)
	}
	domain, err := h.store.PreviewSender(c.Request.Context(), customerOf(c).ID, m.From.Domain())
	if err != nil {
		return 0, nil, err
	}
	release(c, budgetOf(c).slowQueries) // rendering may wait for a processor
	date := h.now()
	if m.SendAt.After(date) {
		date = m.SendAt
	}
	out, err := compute(c, max(previewWork, int64(len(m.Text)+len(m.HTML))), func() (previewJSON, error) { return h.rendered(m, p, senders, date) })
	out.Authentication = authentication(domain, m.Stream)
	return http.StatusOK, out, err
}

// rendered is a preview of a message at a time.
func (h *previewHandlers) rendered(m email.Message, p previewed, senders email.SenderUse, date time.Time) (out previewJSON, err error) {
	r, err := h.render(m, previewID(m), date, previewContent)
	if err != nil {
		return out, fmt.Errorf("render preview: %w", err)
	}
	out = previewJSON{Source: string(r.Source), Shortened: make([]string, len(r.Shortened)), SizeBytes: r.SizeBytes, Text: m.Text, Batch: p.batch}
	if m.Unsubscribe {
		out.Text = unsubscribe.Fill(m.Text, unsubscribe.Preview.URL(h.submissions.limits.LinkBase, previewID(m)))
	}
	for i, index := range r.Shortened {
		out.Shortened[i] = fmt.Sprintf("%s/attachments/%d", p.pointer, index)
	}
	for _, check := range advice.Checks(m, advice.Facts{SizeBytes: r.SizeBytes, Senders: senders}) {
		if strings.HasPrefix(check.Where, "/") {
			check.Where = p.pointer + check.Where
		}
		out.Checks = append(out.Checks, checkJSON(check))
	}
	return out, nil
}

func previewTooLarge(n int, pointer string) *email.Failure {
	f := email.Fail(email.CodeTooLarge, "text, HTML and calendar have %d bytes together, a preview shows at most %d; it can be sent without a preview", n, previewBody)
	f.Fields = []email.FieldError{{Pointer: pointer + "/content", Code: string(email.CodeTooLarge), Detail: f.Detail}}
	return f
}

// previewID returns the id that a preview has in place of an e-mail's. Equal messages have equal
// ids, so two previews differ only if their messages do.
func previewID(m email.Message) string {
	return uuid.NewSHA1(uuid.Nil, []byte(intake.Fingerprint(m))).String()
}
