package email

import (
	"fmt"
	"strings"
	"time"
)

// Limits of a message, over REST and in a direct start.
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
	// Label and Detail are "name" and "detail" of VoIPBIN's e-mail API: stored and returned,
	// never sent.
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

// RecipientKind is the header field that a recipient is in.
type RecipientKind string

// The kinds of recipients. Bcc recipients get the message and are in no header field.
const (
	KindTo  RecipientKind = "to"
	KindCc  RecipientKind = "cc"
	KindBcc RecipientKind = "bcc"
)

// Stream separates mail that has to arrive at once from bulk mail.
type Stream string

// The streams. Transactional is the default.
const (
	StreamTransactional Stream = "transactional"
	StreamBroadcast     Stream = "broadcast"
)

// Priorities of activities in Temporal: 1 comes first, and 3 is the server's default. Actions
// of customers and operators come before the sending of e-mails.
const (
	PriorityControl       = 1
	PriorityTransactional = 2
	PriorityBroadcast     = 4
)

// Priority is the stream's priority in the task queue.
func (s Stream) Priority() int {
	if s == StreamBroadcast {
		return PriorityBroadcast
	}
	return PriorityTransactional
}

// OnAmbiguous is what happens to recipients after an ambiguous attempt: the connection ended
// between the final dot and its reply, so that the server may have accepted the message.
type OnAmbiguous string

// The policies. Retry may deliver twice, with the same Message-ID and bytes. Fail may report a
// delivered e-mail as failed.
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
	// Filename is safe in a header: it has no path and no control characters. Empty for a
	// reference whose source gives the name.
	Filename string
	// Type is a media type (RFC 2046). Empty for an unresolved reference.
	Type string
	// ContentID makes the file an inline part that HTML refers to as cid:ID. It has no angle
	// brackets. Empty means an ordinary attachment.
	ContentID string

	ReferenceType ReferenceType
	// ReferenceID is a UUID; empty for a URL.
	ReferenceID string
	// URL is where the file is fetched when the e-mail is due; empty for all other types. It
	// may contain a secret of the customer.
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
	// Problem is why an optional attachment was left out; empty otherwise.
	Problem string
}

// Header is one header field that a client adds to its message. Its name matches
// [A-Za-z0-9-]{1,64}, and is not one that Postrider or a mail server writes.
type Header struct {
	Name  string
	Value string
}

// Calendar is an iCalendar object (RFC 5545). It is sent as an alternative of the text, as mail
// programs expect for an invitation (RFC 6047).
type Calendar struct {
	// Method is the iTIP method, in upper case, and the same as METHOD in ICS.
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
	// Text is the plain-text body. TextFromHTML: it was made from HTML when the message was
	// accepted, because the client gave no text.
	Text         string
	TextFromHTML bool
	HTML         string
	// Calendar is sent with them; zero means none.
	Calendar Calendar

	Attachments []Attachment
	Headers     []Header

	// Metadata and Tags are in answers and events, never in the sent message.
	Metadata map[string]string
	Tags     []string

	// SendAt is the earliest time of the first attempt; zero means now.
	SendAt time.Time
	// ExpiresAt ends all attempts; zero means POSTRIDER_EXPIRE_AFTER after the first attempt.
	ExpiresAt   time.Time
	OnAmbiguous OnAmbiguous
	// CallbackURL is called with this e-mail's events, besides the customer's webhooks.
	CallbackURL string
	Stream      Stream
	// Unsubscribe gives the recipient, who has to be the only one, a link to unsubscribe by.
	Unsubscribe bool
	// Topic is what the message is about, as [a-z0-9-]{1,50}: a recipient may unsubscribe from it
	// alone. Empty means none.
	Topic string
	// IgnoreSuppressions sends to suppressed addresses too.
	IgnoreSuppressions bool
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

// Carried are the attachments that the message is sent with. An optional attachment that could
// not be fetched is left out. Any other that is not stored is an error.
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

// MessageID is the Message-ID of every attempt of an e-mail (RFC 5322 section 3.6.4), without
// angle brackets. It is derived from the e-mail's id, so that a second copy has the same one.
func MessageID(emailID, fromDomain string) string {
	return emailID + "@" + fromDomain
}
