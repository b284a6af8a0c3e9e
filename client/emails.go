package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/email"
)

// SendOption is an IdempotencyKey or a Wait.
type SendOption interface{ applySend(*call) }

// GetOption is a Wait.
type GetOption interface{ applyGet(*call) }

// IdempotencyKey is the caller's name for a message, 1 to 256 printable ASCII
// characters: what is sent again under it within 7 days is accepted once. Empty is
// as good as none.
type IdempotencyKey string

func (k IdempotencyKey) applySend(r *call) { r.key = string(k) }

// Wait asks for the answer when every recipient has had a verdict, or after this
// time, at most a minute. The verdict may be that a recipient is deferred.
type Wait time.Duration

func (w Wait) applySend(r *call) { r.wait = time.Duration(w) }
func (w Wait) applyGet(r *call)  { r.wait = time.Duration(w) }

// Sent is a message that was accepted: it is stored, and cannot be lost.
type Sent struct {
	Email
	// Replayed says that it had been accepted before under its key, by an earlier
	// call or by an earlier try of this one.
	Replayed bool
}

// Send has a message accepted, once, however often it has to be tried.
//
// An *Error is a refusal: nothing is sent. After any other error it is not known
// whether the message was accepted, unless Sent has an ID; call again with the same
// IdempotencyKey to find out.
func (c *Client) Send(ctx context.Context, m Message, opts ...SendOption) (Sent, error) {
	if err := m.check(); err != nil {
		return Sent{}, err
	}
	r := call{method: http.MethodPost, path: []string{"emails"}, body: m}
	for _, o := range opts {
		o.applySend(&r)
	}
	if r.key == "" {
		r.key = rand.Text()
	}
	start := time.Now()
	var e Email
	header, err := c.do(ctx, r, &e)
	if err != nil {
		return Sent{}, err
	}
	sent := Sent{Email: e, Replayed: header.Get("Idempotent-Replayed") == "true"}
	if !sent.Replayed || r.wait <= 0 {
		return sent, nil
	}
	// A replay is the first answer again, which no wait holds back.
	if e, err = c.Get(ctx, sent.ID, Wait(max(0, r.wait-time.Since(start)))); err != nil {
		return sent, fmt.Errorf("accepted as %s: %w", sent.ID, err)
	}
	sent.Email = e
	return sent, nil
}

// Get reads one e-mail; deleted ones, too.
func (c *Client) Get(ctx context.Context, id string, opts ...GetOption) (Email, error) {
	r := call{method: http.MethodGet, path: []string{"emails", id}}
	for _, o := range opts {
		o.applyGet(&r)
	}
	var e Email
	_, err := c.do(ctx, r, &e)
	return e, err
}

// ListOption is a PageSize.
type ListOption interface{ applyList(*call) }

// PageSize is how many are fetched at a time, at most 100, which is the default.
// It bounds a request, not the list.
type PageSize int

func (n PageSize) applyList(r *call) { r.query.Set("page_size", strconv.Itoa(int(n))) }

// List walks through the e-mails that a filter takes, newest first, page by page as
// far as it is read. An error is the last pair.
func (c *Client) List(ctx context.Context, f email.Filter, opts ...ListOption) iter.Seq2[Email, error] {
	return list[Email](ctx, c, filterQuery(f), opts, "emails")
}

// filterQuery writes a filter as query parameters.
func filterQuery(f email.Filter) url.Values {
	query := url.Values{}
	var statuses []string
	for _, s := range f.Statuses {
		statuses = append(statuses, string(s))
	}
	for name, value := range map[string]string{
		"status": strings.Join(statuses, ","), "status_detail": string(f.Detail), "stream": string(f.Stream), "to": f.To, "from": f.From, "tag": f.Tag, "batch": f.BatchID,
		"subject": f.Subject, "created_from": instant(f.CreatedFrom), "created_before": instant(f.CreatedBefore),
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return query
}

func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// list walks through the pages of any list.
func list[T any](ctx context.Context, c *Client, query url.Values, opts []ListOption, path ...string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		r := call{method: http.MethodGet, path: path, query: maps.Clone(query)}
		for _, o := range opts {
			o.applyList(&r)
		}
		for {
			var page struct {
				Result        []T    `json:"result"`
				NextPageToken string `json:"next_page_token"`
			}
			if _, err := c.do(ctx, r, &page); err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, v := range page.Result {
				if !yield(v, nil) {
					return
				}
			}
			if page.NextPageToken == "" {
				return
			}
			r.query.Set("page_token", page.NextPageToken)
		}
	}
}

// Delete takes an e-mail out of lists and cancels what is not sent.
func (c *Client) Delete(ctx context.Context, id string) (Email, error) {
	var e Email
	_, err := c.do(ctx, call{method: http.MethodDelete, path: []string{"emails", id}}, &e)
	return e, err
}

// Cancel ends what is not sent. An *Error with the code conflict says that it came
// too late, and so for the others. Where the action is in force already, it
// succeeds: all but Resend may be called again after an error.
func (c *Client) Cancel(ctx context.Context, id string) (Email, error) {
	return c.act(ctx, id, "cancel", nil)
}

// Hold keeps further attempts from beginning.
func (c *Client) Hold(ctx context.Context, id string) (Email, error) {
	return c.act(ctx, id, "hold", nil)
}

// Resume ends a hold.
func (c *Client) Resume(ctx context.Context, id string) (Email, error) {
	return c.act(ctx, id, "resume", nil)
}

// RetryNow makes due who is deferred, or waits for its turn in a later transaction.
func (c *Client) RetryNow(ctx context.Context, id string) (Email, error) {
	return c.act(ctx, id, "retry-now", nil)
}

// Reschedule moves the first attempt.
func (c *Client) Reschedule(ctx context.Context, id string, sendAt time.Time) (Email, error) {
	return c.act(ctx, id, "reschedule", struct {
		SendAt time.Time `json:"send_at"`
	}{sendAt})
}

// Resend makes a new e-mail of a finished one, and answers with the new one.
// Called again, it makes another.
func (c *Client) Resend(ctx context.Context, id string) (Email, error) {
	return c.act(ctx, id, "resend", nil)
}

func (c *Client) act(ctx context.Context, id, action string, body any) (Email, error) {
	var e Email
	_, err := c.do(ctx, call{method: http.MethodPost, path: []string{"emails", id, action}, body: body}, &e)
	return e, err
}
