package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/postrider/postrider/email"
)

// Address is a mailbox. Name is the display name; empty means none.
type Address struct {
	Email string `json:"email"`
	Name  string `json:"name,omitempty"`
}

// Message is what is to be sent. The service checks it; its limits are 50
// recipients and 25 MiB, unless its operator set others.
type Message struct {
	// From may be left out where the customer has a default sender.
	From    Address   `json:"from,omitzero"`
	To      []Address `json:"to,omitempty"`
	Cc      []Address `json:"cc,omitempty"`
	Bcc     []Address `json:"bcc,omitempty"`
	ReplyTo []Address `json:"reply_to,omitempty"`

	Subject     string       `json:"subject"`
	Content     Content      `json:"content"`
	Attachments []Attachment `json:"attachments,omitempty"`
	Headers     Headers      `json:"headers,omitempty"`

	// Metadata and Tags come back in answers and webhooks; never on the wire.
	Metadata map[string]string `json:"metadata,omitempty"`
	Tags     []string          `json:"tags,omitempty"`

	// SendAt is the earliest time of the first attempt; zero means now.
	SendAt time.Time `json:"send_at,omitzero"`
	// ExpiresAt ends all attempts; zero means 72 h after the first.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// OnAmbiguous is retry if it is empty, Stream transactional.
	OnAmbiguous email.OnAmbiguous `json:"on_ambiguous,omitempty"`
	Stream      email.Stream      `json:"stream,omitempty"`
	// CallbackURL gets the outcome of this message, in addition to the customer's webhook.
	CallbackURL string `json:"callback_url,omitempty"`
	// IgnoreSuppressions sends to suppressed addresses, too. It takes an access key with the scope
	// suppressions:ignore.
	IgnoreSuppressions bool `json:"ignore_suppressions,omitempty"`
	// Unsubscribe gives the recipient, who has to be the only one, a link to unsubscribe by. Nil means
	// one for broadcast mail, and none for transactional mail.
	Unsubscribe *Unsubscribe `json:"unsubscribe,omitempty"`
}

// Unsubscribe is what a recipient may unsubscribe from: a topic, or all broadcast mail if Topic is
// empty. Off leaves out the link.
type Unsubscribe struct {
	// Topic is what the message is about, as [a-z0-9-]{1,50}.
	Topic string
	Off   bool
}

// topic is the form of an Unsubscribe with a topic.
type topic struct {
	Topic string `json:"topic"`
}

// MarshalJSON makes true, false or {"topic"}.
func (u Unsubscribe) MarshalJSON() ([]byte, error) {
	if u.Off || u.Topic == "" {
		return json.Marshal(!u.Off)
	}
	return json.Marshal(topic{u.Topic})
}

// UnmarshalJSON reads what MarshalJSON makes.
func (u *Unsubscribe) UnmarshalJSON(text []byte) error {
	*u = Unsubscribe{}
	if trimmed := bytes.TrimSpace(text); len(trimmed) > 0 && trimmed[0] == '{' {
		var t topic
		err := json.Unmarshal(text, &t)
		u.Topic = t.Topic
		return err
	}
	var on bool
	err := json.Unmarshal(text, &on)
	u.Off = !on
	return err
}

// Content is the body: a text, HTML, or both. Where only HTML is given, the service
// makes the text.
type Content struct {
	Text string `json:"text,omitempty"`
	HTML string `json:"html,omitempty"`
	// Calendar is an invitation beside them; nil means none.
	Calendar *Calendar `json:"calendar,omitempty"`
}

// Calendar is an iCalendar object that mail programs show as an invitation (RFC 6047).
type Calendar struct {
	// Method is that of iTIP, as REQUEST or CANCEL, and the same as METHOD in ICS.
	Method string `json:"method"`
	ICS    string `json:"ics"`
}

// Attachment is a file, or a reference to what is fetched when the message is due.
type Attachment struct {
	Filename string `json:"filename,omitempty"`
	// Content is the file. Nil means a reference, empty an empty file.
	Content []byte `json:"content,omitzero"`
	// Type is a media type; found out if it is empty.
	Type string `json:"type,omitempty"`
	// ContentID makes it a file that HTML names as cid:ID.
	ContentID string `json:"content_id,omitempty"`
	// ReferenceType and ReferenceID name an uploaded file or a recording, URL a file
	// on the web.
	ReferenceType email.ReferenceType `json:"reference_type,omitempty"`
	ReferenceID   string              `json:"reference_id,omitempty"`
	URL           string              `json:"url,omitempty"`
	// Optional lets the message go without it if it cannot be had.
	Optional bool `json:"optional,omitempty"`
}

// Headers are header fields in their order.
type Headers []email.Header

// MarshalJSON makes an object whose members keep the order.
func (hs Headers) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, h := range hs {
		if i > 0 {
			b.WriteByte(',')
		}
		for _, part := range []struct{ text, end string }{{h.Name, ":"}, {h.Value, ""}} {
			text, err := json.Marshal(part.text)
			if err != nil {
				return nil, err
			}
			b.Write(text)
			b.WriteString(part.end)
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// check refuses texts that are not UTF-8: the JSON encoder would change them without an
// error.
func (m Message) check() error {
	e := &Error{Method: http.MethodPost, Path: "/v1.0/emails", Code: email.CodeInvalidRequest, Detail: "the message is not valid; nothing was sent"}
	text := func(s, pointer string, args ...any) {
		if !utf8.ValidString(s) {
			e.Fields = append(e.Fields, email.FieldError{Pointer: fmt.Sprintf(pointer, args...), Code: "invalid_utf8", Detail: "give the text as UTF-8"})
		}
	}
	address := func(a Address, pointer string, args ...any) {
		text(a.Email, pointer+"/email", args...)
		text(a.Name, pointer+"/name", args...)
	}
	address(m.From, "/from")
	for _, list := range []struct {
		name string
		as   []Address
	}{{"to", m.To}, {"cc", m.Cc}, {"bcc", m.Bcc}, {"reply_to", m.ReplyTo}} {
		for i, a := range list.as {
			address(a, "/%s/%d", list.name, i)
		}
	}
	text(m.Subject, "/subject")
	text(m.Content.Text, "/content/text")
	text(m.Content.HTML, "/content/html")
	if c := m.Content.Calendar; c != nil {
		text(c.ICS, "/content/calendar/ics")
	}
	for i, a := range m.Attachments {
		text(a.Filename, "/attachments/%d/filename", i)
		text(a.Type, "/attachments/%d/type", i)
		text(a.URL, "/attachments/%d/url", i)
		text(a.ContentID, "/attachments/%d/content_id", i)
	}
	for _, h := range m.Headers {
		text(h.Name+h.Value, "/headers")
	}
	for name, value := range m.Metadata {
		text(name+value, "/metadata")
	}
	for i, tag := range m.Tags {
		text(tag, "/tags/%d", i)
	}
	if e.Fields == nil {
		return nil
	}
	return e
}
