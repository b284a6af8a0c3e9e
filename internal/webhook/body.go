package webhook

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/plaintext"
)

// MaxBodyBytes bounds a body. Standard Webhooks 1.0 asks for less than 20 kB.
const MaxBodyBytes = 20_000

// payload is the published form of a body. Fields are added, never changed.
type payload struct {
	Type      email.EventType `json:"type"`
	Timestamp time.Time       `json:"timestamp"`
	Data      data            `json:"data"`
}

type data struct {
	EmailID    string `json:"email_id"`
	CustomerID string `json:"customer_id"`
	WorkflowID string `json:"workflow_id"`
	// Sequence counts the events of the e-mail: calls may come out of order.
	Sequence int64        `json:"sequence"`
	Status   email.Status `json:"status"`
	Detail   email.Detail `json:"status_detail"`

	Recipient *recipient    `json:"recipient,omitempty"`
	SMTP      *smtp         `json:"smtp,omitempty"`
	Bounce    *bounce       `json:"bounce,omitempty"`
	Counts    *email.Counts `json:"counts,omitempty"`

	Subject  string            `json:"subject"`
	Tags     []string          `json:"tags"`
	Metadata map[string]string `json:"metadata"`
	// Truncated: something was left out to keep within MaxBodyBytes; the
	// e-mail itself, by REST, has all of it.
	Truncated bool `json:"truncated,omitempty"`
}

// recipient is as it was when the transaction that wrote the event ended.
type recipient struct {
	ID            string                `json:"id"`
	Address       string                `json:"address"`
	Kind          email.RecipientKind   `json:"kind"`
	Status        email.RecipientStatus `json:"status"`
	Attempts      int                   `json:"attempts"`
	NextAttemptAt time.Time             `json:"next_attempt_at,omitzero"`
}

type smtp struct {
	Code     int    `json:"code"`
	Enhanced string `json:"enhanced_code"`
	Text     string `json:"text"`
}

// bounce has the type hard, soft, block or other.
type bounce struct {
	Type email.Detail `json:"type"`
}

// Body makes the body of the deliveries of an event, from the e-mail as the
// event's transaction leaves it. It holds no message bodies. A body that would
// exceed MaxBodyBytes loses, in this order and until it fits: metadata, the longest
// entries first; tags, from the last; the end of the subject; the end of the
// server's text.
func Body(ev email.Event, e email.Email) ([]byte, error) {
	p := payload{Type: ev.Type, Timestamp: ev.At.UTC(), Data: data{
		EmailID: e.ID, CustomerID: e.CustomerID, WorkflowID: e.WorkflowID,
		Sequence: ev.Sequence, Status: e.Status, Detail: e.Detail,
		Subject: e.Subject, Tags: slices.Clone(e.Tags), Metadata: map[string]string{},
	}}
	d := &p.Data
	if d.Tags == nil {
		d.Tags = []string{}
	}
	for k, v := range e.Metadata {
		d.Metadata[k] = v
	}
	if i := slices.IndexFunc(e.Recipients, func(r email.Recipient) bool { return r.ID == ev.RecipientID }); i >= 0 {
		r := e.Recipients[i]
		d.Recipient = &recipient{
			ID: r.ID, Address: r.Email, Kind: r.Kind, Status: r.Status, Attempts: r.Attempts,
			NextAttemptAt: r.NextAttemptAt.UTC(),
		}
	}
	if ev.Reply != (email.Reply{}) {
		d.SMTP = &smtp{Code: ev.Code, Enhanced: ev.Enhanced, Text: strings.ToValidUTF8(ev.Text, "\uFFFD")}
	}
	switch ev.Type {
	case email.EventBounced:
		d.Bounce = &bounce{Type: cmp.Or(ev.Reason, email.DetailOther)}
	case email.EventCompleted:
		counts := email.Count(e.Recipients)
		d.Counts = &counts
	}
	return fit(&p)
}

// fit encodes a payload and cuts until it is small enough.
func fit(p *payload) ([]byte, error) {
	body, err := encode(p)
	if err != nil || len(body) <= MaxBodyBytes {
		return body, err
	}
	p.Data.Truncated = true
	for _, shorten := range []func(*data, int){cutMetadata, cutTags, cutSubject, cutText} {
		if body, err = encode(p); err != nil || len(body) <= MaxBodyBytes {
			return body, err
		}
		shorten(&p.Data, len(body)-MaxBodyBytes)
	}
	if body, err = encode(p); err != nil {
		return nil, err
	}
	if len(body) > MaxBodyBytes {
		return nil, fmt.Errorf("webhook body of %s: %d bytes with all cut, limit %d", p.Type, len(body), MaxBodyBytes)
	}
	return body, nil
}

// The cuts count a string by its own bytes and its punctuation. Escapes make it
// longer in JSON, so where there are any, a cut takes more than it has to, never
// less.

// cutMetadata drops at least that many bytes' worth of entries.
func cutMetadata(d *data, excess int) {
	keys := make([]string, 0, len(d.Metadata))
	for k := range d.Metadata {
		keys = append(keys, k)
	}
	size := func(k string) int { return len(k) + len(d.Metadata[k]) }
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(size(b)-size(a), cmp.Compare(a, b)) })
	for _, k := range keys {
		if excess <= 0 {
			return
		}
		excess -= size(k) + len(`"":"",`)
		delete(d.Metadata, k)
	}
}

// cutTags drops at least that many bytes' worth of tags.
func cutTags(d *data, excess int) {
	for excess > 0 && len(d.Tags) > 0 {
		last := len(d.Tags) - 1
		excess -= len(d.Tags[last]) + len(`"",`)
		d.Tags = d.Tags[:last]
	}
}

func cutSubject(d *data, excess int) {
	d.Subject = plaintext.Cut(strings.ToValidUTF8(d.Subject, "\uFFFD"), len(d.Subject)-excess)
}

func cutText(d *data, excess int) {
	if d.SMTP != nil {
		d.SMTP.Text = plaintext.Cut(d.SMTP.Text, len(d.SMTP.Text)-excess)
	}
}

// encode writes JSON without the escapes meant for HTML.
func encode(p *payload) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(p); err != nil {
		return nil, fmt.Errorf("encode the webhook body of %s: %w", p.Type, err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}
