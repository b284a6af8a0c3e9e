// Package mailbox is the domain of received mail: the mailboxes that take it,
// the messages in them, and what can be read out of a message.
//
//  1. A Mailbox belongs to a customer and has one address. A catch-all mailbox
//     takes what no other mailbox has a claim to.
//  2. A Message is one transaction's mail in one mailbox: the envelope, some
//     decoded headers for a list, and, where loaded, the bytes as they arrived.
//  3. A Parsed is those bytes read for people. It is made anew on every request
//     and never stored: better reading must not need the mail to be sent again.
package mailbox

import (
	"errors"
	"time"

	"github.com/google/uuid"
)

// These are the errors that callers branch on.
var (
	// ErrNotFound: no mailbox takes this address, or there is no such message.
	ErrNotFound = errors.New("mailbox: not found")
	// ErrNoAttachment: the message has no attachment of that index.
	ErrNoAttachment = errors.New("mailbox: no such attachment")
	// ErrTooComplex: the structure of the message is over a limit, so that its
	// attachments are not taken apart. The raw bytes remain.
	ErrTooComplex = errors.New("mailbox: message too complex to take apart")
	// ErrTooSlow: reading the message took longer than a request may. Calling again
	// is safe and may succeed on a less busy machine.
	ErrTooSlow = errors.New("mailbox: reading the message took too long")
)

// Mailbox is a place that mail is received into.
type Mailbox struct {
	ID         uuid.UUID
	CustomerID uuid.UUID

	// Address is the addr-spec, unique without regard to case.
	Address string
	// CatchAll: takes every address that is no other mailbox's. An installation
	// has at most one such mailbox.
	CatchAll  bool
	CreatedAt time.Time
}

// Message is one received mail in one mailbox. Several recipients of one
// transaction that share a mailbox share the message.
type Message struct {
	ID         uuid.UUID
	MailboxID  uuid.UUID
	CustomerID uuid.UUID

	// EnvelopeFrom is the return-path of MAIL FROM (RFC 5321 §4.1.1.2), empty for
	// notifications.
	EnvelopeFrom string
	// EnvelopeTo are the RCPT TO addresses that this mailbox took, in their order,
	// each once. There is at least one.
	EnvelopeTo []string
	// RemoteAddr is the peer's host:port, Helo what it called itself. Helo is
	// unproven.
	RemoteAddr string
	Helo       string

	// Size is the number of bytes, SHA256 their digest in lower-case hex.
	Size   int64
	SHA256 string

	// Subject, From and To are the decoded headers, cut to SummaryBytes each; empty
	// means absent. The message's author chose them: do not trust them.
	Subject string
	From    string
	To      string
	// MessageID is the Message-ID header without its angle brackets.
	MessageID  string
	ReceivedAt time.Time

	// Raw is the message exactly as it arrived after DATA, dot-stuffing undone. Nil
	// unless it was asked for by itself: lists do not carry it.
	Raw []byte
}

// SummaryBytes is the most that a decoded header of a list takes, in bytes of
// UTF-8. A longer one is cut between two characters.
const SummaryBytes = 500

// Parsed is a message read for people. Hostile or broken parts never make it fail: they
// are left out, and Problems says so.
type Parsed struct {
	// Headers are in the order of the message, repeated ones included.
	Headers []Header

	// From, To, Cc and ReplyTo are nil where the header is absent or unreadable.
	From    []Address
	To      []Address
	Cc      []Address
	ReplyTo []Address

	Subject string
	// MessageID is without angle brackets.
	MessageID string
	// Date is the header as it was written; DatedAt is what it means in UTC, zero
	// where it means nothing.
	Date    string
	DatedAt time.Time

	// Text and HTML are the bodies in UTF-8, empty where the message has none. Text
	// is never made out of HTML. HTML is the sender's, not cleaned: never show it
	// outside a sandbox.
	Text string
	HTML string

	Attachments []Part
	// Problems say in English what could not be read; nil means all of it could.
	Problems []string
}

// Header is one field: Name as it was written, Value unfolded and decoded
// (RFC 2047).
type Header struct {
	Name  string
	Value string
}

// Address is a name and addr-spec from a header. Name may be empty.
type Address struct {
	Name  string
	Email string
}

// Part is an attachment, an inline picture, or any other part that is not the
// message's text.
type Part struct {
	// Index numbers the parts of a message from 0. It is the same on every reading
	// of the same bytes by the same release.
	Index int

	// Filename is the last element of the name that the sender gave, without
	// control characters. Empty means none was given.
	Filename string
	// Type is the media type without parameters, as the sender claims it.
	Type string
	// ContentID is without angle brackets; HTML refers to it as cid:….
	ContentID string
	// Disposition is "attachment", "inline" or empty.
	Disposition string

	// Size and SHA256 are of the decoded content.
	Size   int64
	SHA256 string
}
