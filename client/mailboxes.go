package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Mailbox takes mail in.
type Mailbox struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	// CatchAll takes what no other mailbox does.
	CatchAll bool `json:"catch_all"`
	TmCreate Time `json:"tm_create"`
}

// Mailboxes lists the customer's mailboxes.
func (c *Client) Mailboxes(ctx context.Context) ([]Mailbox, error) {
	var out struct {
		Result []Mailbox `json:"result"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"mailboxes"}}, &out)
	return out.Result, err
}

// Received is a message in a mailbox.
type Received struct {
	ID           string   `json:"id"`
	MailboxID    string   `json:"mailbox_id"`
	EnvelopeFrom string   `json:"envelope_from"`
	EnvelopeTo   []string `json:"envelope_to"`
	RemoteAddr   string   `json:"remote_addr"`
	Helo         string   `json:"helo"`
	// Subject, From, To and MessageID are of its header.
	Subject   string `json:"subject"`
	From      string `json:"from"`
	To        string `json:"to"`
	MessageID string `json:"message_id"`
	Size      int64  `json:"size"`
	SHA256    string `json:"sha256"`
	TmReceive Time   `json:"tm_receive"`
	// Parsed is nil in lists.
	Parsed *Parsed `json:"parsed"`
}

// Parsed is a message as a person reads it.
type Parsed struct {
	Headers []struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"headers"`
	From        []Address      `json:"from"`
	To          []Address      `json:"to"`
	Cc          []Address      `json:"cc"`
	ReplyTo     []Address      `json:"reply_to"`
	Subject     string         `json:"subject"`
	Date        time.Time      `json:"date"`
	Text        string         `json:"text"`
	HTML        string         `json:"html"`
	Attachments []ReceivedFile `json:"attachments"`
	// Problems say what could not be read.
	Problems []string `json:"problems"`
}

// ReceivedFile is an attachment of a received message.
type ReceivedFile struct {
	// Index is its place, for MessageAttachment.
	Index       int    `json:"index"`
	Filename    string `json:"filename"`
	Type        string `json:"type"`
	ContentID   string `json:"content_id"`
	Disposition string `json:"disposition"`
	Size        int64  `json:"size"`
	SHA256      string `json:"sha256"`
}

// Messages walks through a mailbox, newest first. An error is the last pair.
func (c *Client) Messages(ctx context.Context, mailboxID string, opts ...ListOption) iter.Seq2[Received, error] {
	return list[Received](ctx, c, url.Values{}, opts, "mailboxes", mailboxID, "messages")
}

// Message reads one message, parsed.
func (c *Client) Message(ctx context.Context, mailboxID, id string) (Received, error) {
	var out Received
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"mailboxes", mailboxID, "messages", id}}, &out)
	return out, err
}

// RawMessage reads one message as it arrived.
func (c *Client) RawMessage(ctx context.Context, mailboxID, id string) ([]byte, error) {
	var out []byte
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"mailboxes", mailboxID, "messages", id, "raw"}}, &out)
	return out, err
}

// MessageAttachment reads the content of one of a message's attachments.
func (c *Client) MessageAttachment(ctx context.Context, mailboxID, id string, index int) ([]byte, error) {
	var out []byte
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"mailboxes", mailboxID, "messages", id, "attachments", strconv.Itoa(index)}}, &out)
	return out, err
}
