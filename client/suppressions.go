package client

import (
	"context"
	"io"
	"iter"
	"net/http"
	"net/url"
	"time"

	"github.com/postrider/postrider/email"
)

// Suppression is an entry of the suppression list. Operators read and change the lists of any customer
// by Client.ActingFor.
type Suppression struct {
	ID string `json:"id"`
	// Address has its domain in lower case and A-labels. It is *@example.com for all addresses of a domain,
	// and empty once it is erased.
	Address string `json:"address"`
	// Scope is all, stream or topic. Stream and Topic are set for the last two.
	Scope  string       `json:"scope"`
	Stream email.Stream `json:"stream"`
	Topic  string       `json:"topic"`
	// Reason is hard_bounce, soft_bounces, complaint, unsubscribe or manual; Source is delivery, recipient,
	// manual or import.
	Reason string `json:"reason"`
	Source string `json:"source"`
	// EmailID is the e-mail that was the reason; empty if none was.
	EmailID string `json:"email_id"`
	Note    string `json:"note"`
	// ExpiresAt is zero for an entry that does not end.
	ExpiresAt time.Time `json:"expires_at"`
	CreatedAt time.Time `json:"created_at"`
}

// NewSuppression is an entry to add.
type NewSuppression struct {
	Address string `json:"address"`
	// Scope may be left out: it follows from Stream or Topic. Without these it is all, and for the reason
	// unsubscribe the stream broadcast.
	Scope  string       `json:"scope,omitempty"`
	Stream email.Stream `json:"stream,omitempty"`
	Topic  string       `json:"topic,omitempty"`
	// Reason is manual (the default), hard_bounce, complaint or unsubscribe.
	Reason string `json:"reason,omitempty"`
	// Note has at most 500 bytes.
	Note string `json:"note,omitempty"`
	// ExpiresAt ends it; zero means never.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// SuppressionFilter chooses entries. Empty members choose all.
type SuppressionFilter struct {
	Address, Reason, Scope, Source string
	Stream                         email.Stream
	Topic                          string
}

func (f SuppressionFilter) query() url.Values {
	query := url.Values{}
	for name, value := range map[string]string{
		"address": f.Address, "reason": f.Reason, "scope": f.Scope, "source": f.Source, "stream": string(f.Stream), "topic": f.Topic,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return query
}

// AddSuppression adds an entry. One with the same address, scope, stream and topic gets the reason, note
// and expiry. Calling again is harmless.
func (c *Client) AddSuppression(ctx context.Context, s NewSuppression) (Suppression, error) {
	var out Suppression
	_, err := c.do(ctx, call{method: http.MethodPost, path: []string{"suppressions"}, body: s}, &out)
	return out, err
}

// Suppressions walks through the suppression list, newest first. An error is the last thing it yields.
func (c *Client) Suppressions(ctx context.Context, f SuppressionFilter, opts ...ListOption) iter.Seq2[Suppression, error] {
	return list[Suppression](ctx, c, f.query(), opts, "suppressions")
}

// Suppression reads an entry.
func (c *Client) Suppression(ctx context.Context, id string) (Suppression, error) {
	var out Suppression
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"suppressions", id}}, &out)
	return out, err
}

// DeleteSuppression takes an entry off the list. emails is how many e-mails have had a recipient ended by
// it in the last 30 days.
func (c *Client) DeleteSuppression(ctx context.Context, id string) (s Suppression, emails int, err error) {
	var out struct {
		Suppression
		Emails int `json:"emails_30d"`
	}
	_, err = c.do(ctx, call{method: http.MethodDelete, path: []string{"suppressions", id}}, &out)
	return out.Suppression, out.Emails, err
}

// SuppressionCheck asks about addresses, at most 1000.
type SuppressionCheck struct {
	Addresses []string `json:"addresses"`
	// Stream and Topic are of the mail that is asked about: transactional without a topic, if empty.
	Stream email.Stream `json:"stream,omitempty"`
	Topic  string       `json:"topic,omitempty"`
}

// CheckedAddress is what the suppression list says of an address.
type CheckedAddress struct {
	Address string `json:"address"`
	// Suppressed: an entry covers the mail that was asked about.
	Suppressed bool `json:"suppressed"`
	// Suppressions are all entries about the address.
	Suppressions []Suppression `json:"suppressions"`
}

// CheckSuppressions asks whether addresses are suppressed. The answers are in the order of the question.
func (c *Client) CheckSuppressions(ctx context.Context, check SuppressionCheck) ([]CheckedAddress, error) {
	if check.Addresses == nil {
		check.Addresses = []string{}
	}
	var out struct {
		Result []CheckedAddress `json:"result"`
	}
	_, err := c.do(ctx, call{method: http.MethodPost, path: []string{"suppressions", "check"}, body: check}, &out)
	return out.Result, err
}

// SuppressionFile says what a file is, if the file does not.
type SuppressionFile struct {
	// Format is postrider, sendgrid, mailgun, postmark, ses or list; empty has the first line tell.
	Format string
	// Reason is that of all entries; empty is what the file says, else manual.
	Reason string
}

// SuppressionImport is what became of a file.
type SuppressionImport struct {
	Format string `json:"format"`
	// Read counts the file's records: it is the sum of the others.
	Read      int `json:"read"`
	Added     int `json:"added"`
	Changed   int `json:"changed"`
	Unchanged int `json:"unchanged"`
	Refused   int `json:"refused"`
	// Errors are those of the first 1000 refused lines.
	Errors []SuppressionLineError `json:"errors"`
}

// SuppressionLineError says why a line was refused.
type SuppressionLineError struct {
	Line int `json:"line"`
	// Column is empty if the line as a whole is meant.
	Column string `json:"column"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// importWait is how long the server may take to store a file that it has received.
const importWait = 15 * time.Minute

// ImportSuppressions sends a file as it is read: at most 200 MiB and a million lines. It is tried once, and
// may be called again with the same file.
func (c *Client) ImportSuppressions(ctx context.Context, file io.Reader, f SuppressionFile) (SuppressionImport, error) {
	query := url.Values{}
	if f.Format != "" {
		query.Set("format", f.Format)
	}
	if f.Reason != "" {
		query.Set("reason", f.Reason)
	}
	var out SuppressionImport
	_, err := c.do(ctx, call{method: http.MethodPost, path: []string{"suppressions", "import"}, query: query, stream: file, contentType: "text/csv", patience: importWait}, &out)
	return out, err
}

// ExportSuppressions writes the suppression list as a file, as it is received. If it returns an error, what
// it has written is not complete.
func (c *Client) ExportSuppressions(ctx context.Context, to io.Writer) error {
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"suppressions", "export"}, once: true}, to)
	return err
}
