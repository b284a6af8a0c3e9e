package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/postrider/postrider/email"
)

// Event is something that happened to an e-mail, or to one recipient of it.
type Event struct {
	ID      string `json:"id"`
	EmailID string `json:"email_id"`
	// Sequence counts the events of one e-mail from 1, without gaps.
	Sequence int64           `json:"sequence"`
	Type     email.EventType `json:"type"`
	// RecipientID is empty for what concerns the whole e-mail.
	RecipientID  string       `json:"recipient_id"`
	Attempt      int          `json:"attempt"`
	SMTPCode     int          `json:"smtp_code"`
	EnhancedCode string       `json:"enhanced_code"`
	Text         string       `json:"text"`
	Reason       email.Detail `json:"reason"`
	// Holder is whose hold email.held and email.resumed are about; empty for others.
	Holder email.Holder `json:"holder"`
	At     time.Time    `json:"at"`
}

// Events lists what happened to one e-mail, in order.
func (c *Client) Events(ctx context.Context, emailID string) ([]Event, error) {
	return allPages[Event](ctx, c, "emails", emailID, "events")
}

// allPages reads a list to its end.
func allPages[T any](ctx context.Context, c *Client, path ...string) (all []T, err error) {
	query := url.Values{}
	for {
		var out struct {
			Result []T    `json:"result"`
			Next   string `json:"next_page_token"`
		}
		if _, err := c.do(ctx, call{method: http.MethodGet, path: path, query: query}, &out); err != nil {
			return all, err
		}
		if all = append(all, out.Result...); out.Next == "" {
			return all, nil
		}
		query.Set("page_token", out.Next)
	}
}

// Feed is a part of what happened to all of the customer's e-mails.
type Feed struct {
	// Events are the oldest first; empty if nothing is new.
	Events []Event `json:"result"`
	// Next is where to read on: to be kept, and given to Feed.
	Next string `json:"next"`
}

// Feed reads on from a place; empty is the beginning. It skips nothing, so a
// program that keeps Next after it has handled Events misses none.
func (c *Client) Feed(ctx context.Context, after string) (Feed, error) {
	var out Feed
	query := url.Values{}
	if after != "" {
		query.Set("after", after)
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"events"}, query: query}, &out)
	return out, err
}

// Attempt is an entry of an e-mail's journal.
type Attempt struct {
	Number int                `json:"attempt"`
	Phase  email.JournalPhase `json:"phase"`
	// Relay and Host are empty until one was chosen.
	Relay string `json:"relay"`
	Host  string `json:"host"`
	// RecipientIDs are whom it is or was for.
	RecipientIDs []string `json:"recipient_ids"`
	// OpenedAt, DataSentAt and DoneAt are zero for a phase that was not reached.
	OpenedAt      time.Time `json:"opened_at"`
	DataSentAt    time.Time `json:"data_sent_at"`
	DoneAt        time.Time `json:"done_at"`
	MessageSHA256 string    `json:"message_sha256"`
	MessageBytes  int64     `json:"message_bytes"`
	// Transcript is what was said; empty until it is done.
	Transcript []email.Step `json:"transcript"`
}

// Attempts lists an e-mail's attempts, with what was said to which relay.
func (c *Client) Attempts(ctx context.Context, emailID string) ([]Attempt, error) {
	return allPages[Attempt](ctx, c, "emails", emailID, "attempts")
}
