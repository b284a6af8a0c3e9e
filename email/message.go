package email

import (
	"fmt"
	"strings"
	"time"
)

// Limits of a message. They hold for every door a message can come in by.
const (
	// DefaultMaxRecipients bounds to, cc and bcc together.
	DefaultMaxRecipients = 50
	// DefaultMaxMessageBytes bounds text, HTML and decoded attachments together.
	DefaultMaxMessageBytes int64 = 26214400
	// MaxScheduleAhead is how far in the future send_at may lie.
	MaxScheduleAhead = 366 * 24 * time.Hour
)

// Address is one mailbox as a client names it. Email is the addr-spec of
// RFC 5322 section 3.4.1, at most 254 bytes, with the domain in lower case.
type Address struct {
	Email string
	// Name is the display name; empty means none.
	Name string
	// Label and Detail are the seed API's "name" and "detail": kept and
	// echoed, never put on the wire.
	Label  string
	Detail string
}

// Domain is the part behind the last @, in lower case; empty if there is none.
func (a Address) Domain() string { return DomainOf(a.Email) }

// DomainOf is the part of an addr-spec behind the last @, in lower case.
func DomainOf(addr string) string {
	i := strings.LastIndexByte(addr, '@')
	if i < 0 {
		return ""
	}
	return strings.ToLower(addr[i+1:])
}

// RecipientKind says in which header a recipient stands, if in any.
type RecipientKind string

// The kinds of recipients. Bcc recipients get the message and stand in no header.
const (
	KindTo  RecipientKind = "to"
	KindCc  RecipientKind = "cc"
	KindBcc RecipientKind = "bcc"
)

// Stream separates mail whose delay hurts from mail whose delay does not.
type Stream string

// The streams. Transactional is the default.
const (
	StreamTransactional Stream = "transactional"
	StreamBroadcast     Stream = "broadcast"
)

// Where the server orders work by priority, 1 comes first and 3 is the default.
// What somebody wants done with an e-mail comes before any e-mail.
const (
	PriorityControl       = 1
	PriorityTransactional = 2
	PriorityBroadcast     = 4
)

// Priority is the stream's place among the work that waits for a worker.
func (s Stream) Priority() int {
	if s == StreamBroadcast {
		return PriorityBroadcast
	}
	return PriorityTransactional
}

// OnAmbiguous says what happens to recipients whose mail may or may not have
// been accepted: the connection ended between the final dot and its reply.
type OnAmbiguous string

// The policies. Retry may deliver twice (with the same Message-ID and bytes),
// fail may deliver a mail that is reported as failed.
const (
	AmbiguousRetry OnAmbiguous = "retry"
	AmbiguousFail  OnAmbiguous = "fail"
)

// ReferenceType names the kind of resource an attachment refers to.
type ReferenceType string

// The reference types. Inline content becomes a file once it is stored.
const (
	ReferenceFile      ReferenceType = "file"
	ReferenceRecording ReferenceType = "recording"
	ReferenceURL       ReferenceType = "url"
)

// Attachment is a file that goes with a message: either its content, or a
// reference that ResolveAttachments turns into content before the first
// attempt. A message is never sent without one of its attachments unless that
// attachment is Optional.
type Attachment struct {
	// ID is empty until the attachment is stored.
	ID string
	// Filename is safe to put into a header: no path, no control characters.
	// Empty for a reference whose name only its source knows.
	Filename string
	// Type is a media type (RFC 2046). Empty for an unresolved reference.
	Type string
	// ContentID makes the file an inline part that HTML names as cid:ID; stored
	// without angle brackets. Empty means an ordinary attachment.
	ContentID string

	ReferenceType ReferenceType
	// ReferenceID is a UUID; empty for a URL.
	ReferenceID string
	// URL is where it is fetched when the mail is due; empty for all other types.
	// It may hold a key of the customer's.
	URL      string
	Optional bool

	// Content is set while a message is being accepted or rendered, and nil
	// everywhere else; stored content is read through BlobID.
	Content []byte
	// BlobID names the stored content; empty while unresolved.
	BlobID string
	// Size in bytes and SHA256 in hex of the decoded content; zero while unresolved.
	Size   int64
	SHA256 string
	// Problem says why an optional attachment was left out; empty otherwise.
	Problem string
}

// Header is one header field a client adds to its message. Names are
// [A-Za-z0-9-]{1,64} and none that Postrider or a mail server owns.
type Header struct {
	Name  string
	Value string
}

// Calendar is an iCalendar object (RFC 5545) that is sent as an alternative of the text, as
// mail programs expect of an invitation (RFC 6047).
type Calendar struct {
	// Method is that of iTIP, in upper case, and the same as METHOD in ICS.
	Method string
	// ICS has lines that end in CRLF, 1 MiB at most.
	ICS string
}

// Message is what a client asks to have sent, checked and normalised by
// intake: addresses are well formed, recipients are unique, text holds neither
// NUL nor invalid UTF-8, no header value holds CR or LF.
type Message struct {
	From    Address
	ReplyTo []Address
	To      []Address
	Cc      []Address
	Bcc     []Address

	Subject string
	// Text is the plain-text body. TextFromHTML says that it was made from
	// HTML at accept, because the client gave no text of its own.
	Text         string
	TextFromHTML bool
	HTML         string
	// Calendar goes beside them; zero means none.
	Calendar Calendar

	Attachments []Attachment
	Headers     []Header

	// Metadata and Tags come back in answers and events; never on the wire.
	Metadata map[string]string
	Tags     []string

	// SendAt is the earliest time of the first attempt; zero means now.
	SendAt time.Time
	// ExpiresAt ends all attempts; zero means the installation's limit counted
	// from the first attempt.
	ExpiresAt   time.Time
	OnAmbiguous OnAmbiguous
	// CallbackURL is told of this e-mail's outcomes, besides the customer's webhooks.
	CallbackURL string
	Stream      Stream
}

// Size is the number of bytes that count against the message limit: text,
// HTML, calendar and attachment contents, before any transfer encoding.
func (m *Message) Size() int64 {
	n := int64(len(m.Text)) + int64(len(m.HTML))
	if m.TextFromHTML {
		n = int64(len(m.HTML))
	}
	n += int64(len(m.Calendar.ICS))
	for _, a := range m.Attachments {
		n += max(a.Size, int64(len(a.Content)))
	}
	return n
}

// Carried are the attachments that the message is sent with: an optional one that could
// not be had is left out, any other that is not stored is an error.
func (m *Message) Carried() ([]Attachment, error) {
	var out []Attachment
	for _, a := range m.Attachments {
		switch {
		case a.BlobID != "":
			out = append(out, a)
		case a.Problem == "":
			return nil, fmt.Errorf("attachment %s is not stored: it has to be resolved before sending", a.ID)
		}
	}
	return out, nil
}

// MessageID is the Message-ID of every attempt of an e-mail (RFC 5322 section
// 3.6.4), without angle brackets. It derives from the e-mail's id, so that a
// second copy is recognisable as one.
func MessageID(emailID, fromDomain string) string {
	return emailID + "@" + fromDomain
}
