package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/postrider/postrider/email"
)

// Batch is many messages to be sent at once: either Messages, at most 1000, or one
// Message for Recipients, at most 10000.
type Batch struct {
	// Mode is strict if it is empty: all is accepted, or nothing.
	Mode     email.BatchMode `json:"mode,omitempty"`
	Messages []Message       `json:"messages,omitempty"`
	// Message names no recipients. In its subject, content, and the values of headers
	// and metadata, {{name}} stands for a recipient's variable.
	Message    *Message         `json:"message,omitempty"`
	Recipients []BatchRecipient `json:"recipients,omitempty"`
}

// BatchRecipient is a person who gets a copy of a Batch's Message.
type BatchRecipient struct {
	Address
	// Variables are what the message has places for. email and name are there by
	// themselves.
	Variables map[string]string `json:"variables,omitempty"`
}

// BatchState says whether a batch goes on.
type BatchState string

// The states of a batch.
const (
	// BatchSending: some of its e-mails are open.
	BatchSending BatchState = "sending"
	// BatchHeld: it was held, and not resumed, or each that is open is held.
	BatchHeld BatchState = "held"
	// BatchFinished: none of its e-mails is open.
	BatchFinished BatchState = "finished"
)

// BatchInfo is what both answers say of a batch.
type BatchInfo struct {
	ID         string          `json:"id"`
	CustomerID string          `json:"customer_id"`
	Status     BatchState      `json:"status"`
	Mode       email.BatchMode `json:"mode"`
	// Total is Accepted and Refused.
	Total     int       `json:"total"`
	Accepted  int       `json:"accepted"`
	Refused   int       `json:"refused"`
	CreatedAt time.Time `json:"created_at"`
	// FinishedAt is zero while an e-mail is open.
	FinishedAt time.Time `json:"finished_at,omitzero"`
	// WorkflowID is the run in Temporal; WorkflowURL shows it, if the operator has a UI.
	WorkflowID  string `json:"workflow_id"`
	WorkflowURL string `json:"workflow_url"`
}

// SentBatch is a batch that was accepted: its e-mails are stored, and cannot be lost.
type SentBatch struct {
	BatchInfo
	// Items are in the order of Messages or Recipients.
	Items []BatchItem `json:"items"`
	// Replayed says that it had been accepted before under its key.
	Replayed bool `json:"-"`
}

// BatchItem is what became of one item.
type BatchItem struct {
	Index int `json:"index"`
	// ID is the e-mail's, empty if the item was refused.
	ID           string       `json:"id"`
	Status       email.Status `json:"status"`
	StatusDetail email.Detail `json:"status_detail"`
	// Error is nil unless the item was refused, which happens in permissive batches.
	Error *ItemError `json:"error"`
}

// ItemError is why an item was refused.
type ItemError struct {
	Code   email.Code `json:"code"`
	Detail string     `json:"detail"`
	// Fields are the places that are wrong, as JSON Pointers into the whole request.
	Fields []struct {
		Pointer string `json:"pointer"`
		Code    string `json:"code"`
		Detail  string `json:"detail"`
	} `json:"errors"`
}

// BatchProgress is how far a batch has come.
type BatchProgress struct {
	BatchInfo
	// Emails are by status, and in all as "total".
	Emails map[string]int `json:"emails"`
	// Details are the open ones by what they wait for.
	Details map[email.Detail]int `json:"details"`
	// Rate is how many e-mails a second came to their ends over the last 10 s, canceled
	// ones left out.
	Rate float64 `json:"rate"`
	// NextAttemptAt is zero if none waits for a time.
	NextAttemptAt time.Time `json:"next_attempt_at,omitzero"`
}

// Count is how many e-mails have a status.
func (p BatchProgress) Count(s email.Status) int { return p.Emails[string(s)] }

// Open is how many e-mails have not come to their end.
func (p BatchProgress) Open() int {
	return p.Count(email.StatusQueued) + p.Count(email.StatusSending)
}

// SendBatch has a batch accepted once, even if it takes several tries. The rules of Send
// hold here, too. In permissive mode, Items name the messages that were refused. A Wait
// does nothing: see WatchBatch.
func (c *Client) SendBatch(ctx context.Context, b Batch, opts ...SendOption) (SentBatch, error) {
	if err := b.check("/v1.0/emails/batch"); err != nil {
		return SentBatch{}, err
	}
	r := call{method: http.MethodPost, path: []string{"emails", "batch"}, body: b}
	for _, o := range opts {
		o.applySend(&r)
	}
	if r.wait = 0; r.key == "" {
		r.key = rand.Text()
	}
	var out SentBatch
	header, err := c.do(ctx, r, &out)
	if err != nil {
		return SentBatch{}, err
	}
	out.Replayed = header.Get("Idempotent-Replayed") == "true"
	return out, nil
}

// Preview is what a message would look like on its way.
type Preview struct {
	// Source is the message, headers and all, without what Shortened points at.
	Source    string   `json:"source"`
	Shortened []string `json:"shortened"`
	SizeBytes int64    `json:"size_bytes"`
	Text      string   `json:"text"`
	Checks    []struct {
		ID     string `json:"id"`
		Level  string `json:"level"`
		Title  string `json:"title"`
		Detail string `json:"detail"`
		Where  string `json:"where"`
	} `json:"checks"`
	// Authentication is what receivers will find of it, for each relay that takes its stream.
	Authentication []Authentication `json:"authentication"`
	Batch          struct {
		Total    int `json:"total"`
		Accepted int `json:"accepted"`
		Refused  int `json:"refused"`
		// Items are those that would be refused.
		Items []BatchItem `json:"items"`
	} `json:"batch"`
}

// PreviewBatch checks a batch, and shows the first copy, or message, that is good. An
// *Error is what SendBatch would be refused for. Nothing is sent.
func (c *Client) PreviewBatch(ctx context.Context, b Batch) (Preview, error) {
	if err := b.check("/v1.0/emails/preview"); err != nil {
		return Preview{}, err
	}
	var out Preview
	_, err := c.do(ctx, call{method: http.MethodPost, path: []string{"emails", "preview"}, body: b}, &out)
	return out, err
}

// Preview checks a message and shows it as it would go out. An *Error is what Send would
// be refused for. Nothing is sent.
func (c *Client) Preview(ctx context.Context, m Message) (Preview, error) {
	var out Preview
	_, err := c.do(ctx, call{method: http.MethodPost, path: []string{"emails", "preview"}, body: m}, &out)
	return out, err
}

// Batch reads how far a batch has come.
func (c *Client) Batch(ctx context.Context, id string) (BatchProgress, error) {
	var out BatchProgress
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"batches", id}}, &out)
	return out, err
}

// Batches walks through the batches, newest first, as List does. The e-mails of one
// are listed by Filter.BatchID.
func (c *Client) Batches(ctx context.Context, opts ...ListOption) iter.Seq2[BatchProgress, error] {
	return list[BatchProgress](ctx, c, map[string][]string{}, opts, "batches")
}

// WatchBatch reads how far a batch has come every so often, until it is finished or
// the context ends. The last pair is the finished batch, or an error. A batch with
// deferred e-mails may take days.
func (c *Client) WatchBatch(ctx context.Context, id string, every time.Duration) iter.Seq2[BatchProgress, error] {
	return func(yield func(BatchProgress, error) bool) {
		for {
			p, err := c.Batch(ctx, id)
			if !yield(p, err) || err != nil || p.Status == BatchFinished {
				return
			}
			timer := time.NewTimer(every)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				yield(p, ended(ctx))
				return
			}
		}
	}
}

// CancelBatch ends what is not sent of a batch. It and the others may be called again.
func (c *Client) CancelBatch(ctx context.Context, id string) (BatchProgress, error) {
	return c.actBatch(ctx, id, "cancel")
}

// HoldBatch keeps further attempts at a batch's e-mails from beginning.
func (c *Client) HoldBatch(ctx context.Context, id string) (BatchProgress, error) {
	return c.actBatch(ctx, id, "hold")
}

// ResumeBatch ends the hold of a batch and of all its e-mails.
func (c *Client) ResumeBatch(ctx context.Context, id string) (BatchProgress, error) {
	return c.actBatch(ctx, id, "resume")
}

func (c *Client) actBatch(ctx context.Context, id, action string) (BatchProgress, error) {
	var out BatchProgress
	_, err := c.do(ctx, call{method: http.MethodPost, path: []string{"batches", id, action}}, &out)
	return out, err
}

// check is Message's, of all messages and recipients.
func (b Batch) check(path string) error {
	e := &Error{Method: http.MethodPost, Path: path, Code: email.CodeInvalidRequest, Detail: "the batch is not valid; nothing was sent"}
	message := func(m Message, place string) {
		if wrong, ok := errors.AsType[*Error](m.check()); ok {
			for _, f := range wrong.Fields {
				f.Pointer = place + f.Pointer
				e.Fields = append(e.Fields, f)
			}
		}
	}
	for i, m := range b.Messages {
		message(m, fmt.Sprintf("/messages/%d", i))
	}
	if b.Message != nil {
		message(*b.Message, "/message")
	}
	text := func(s, format string, args ...any) {
		if !utf8.ValidString(s) {
			e.Fields = append(e.Fields, email.FieldError{Pointer: fmt.Sprintf(format, args...), Code: "invalid_utf8", Detail: "give the text as UTF-8"})
		}
	}
	for i, r := range b.Recipients {
		text(r.Email, "/recipients/%d/email", i)
		text(r.Name, "/recipients/%d/name", i)
		for _, name := range slices.Sorted(maps.Keys(r.Variables)) {
			text(name+r.Variables[name], "/recipients/%d/variables", i)
		}
	}
	if e.Fields == nil {
		return nil
	}
	return e
}
