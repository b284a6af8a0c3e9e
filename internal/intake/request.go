package intake

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// request has the members of both shapes: Postrider's and that of VoIPBIN's e-mail API. A nil
// pointer is an absent member; so is null in JSON.
type request struct {
	From    *address   `json:"from"`
	Source  *address   `json:"source"`
	To      *[]address `json:"to"`
	Dest    *[]address `json:"destinations"`
	Cc      []address  `json:"cc"`
	Bcc     []address  `json:"bcc"`
	ReplyTo []address  `json:"reply_to"`

	Subject     *string      `json:"subject"`
	Content     *content     `json:"content"`
	Attachments []attachment `json:"attachments"`

	Headers            headers            `json:"headers"`
	Metadata           map[string]*string `json:"metadata"`
	Tags               []*string          `json:"tags"`
	SendAt             *string            `json:"send_at"`
	ExpiresAt          *string            `json:"expires_at"`
	OnAmbiguous        *string            `json:"on_ambiguous"`
	Stream             *string            `json:"stream"`
	CallbackURL        *string            `json:"callback_url"`
	Unsubscribe        *unsubscribing     `json:"unsubscribe"`
	IgnoreSuppressions bool               `json:"ignore_suppressions"`
}

// address is {"email","name"}, or {"type","target","target_name","name","detail"} as in
// VoIPBIN's e-mail API.
type address struct {
	Email      *string `json:"email"`
	Type       *string `json:"type"`
	Target     *string `json:"target"`
	TargetName *string `json:"target_name"`
	Name       *string `json:"name"`
	Detail     *string `json:"detail"`
}

// content is a string, or {"text","html","calendar"}.
type content struct {
	Text     *string   `json:"text"`
	HTML     *string   `json:"html"`
	Calendar *calendar `json:"calendar"`
	// plain: the content is a string, and its problems are at /content itself.
	plain bool
}

// calendar is an invitation, which is sent with text or HTML.
type calendar struct {
	Method *string `json:"method"`
	ICS    *string `json:"ics"`
}

// attachment is content, a reference, or a URL.
type attachment struct {
	Filename      *string  `json:"filename"`
	Content       *encoded `json:"content"`
	Type          *string  `json:"type"`
	ContentID     *string  `json:"content_id"`
	ReferenceType *string  `json:"reference_type"`
	ReferenceID   *string  `json:"reference_id"`
	URL           *string  `json:"url"`
	Optional      bool     `json:"optional"`
}

// unsubscribing is true, false, or {"topic"}.
type unsubscribing struct {
	Topic *string `json:"topic"`
	// plain: it is true or false, which on is.
	plain, on bool
}

// headers keeps an object's members in their order.
type headers []headerField

type headerField struct {
	name  string
	value *string
}

// TypeError is the detail for a value of a wrong JSON type; the decoder adds the pointer.
type TypeError string

func (e TypeError) Error() string { return string(e) }

const (
	wantAddress       = TypeError(`an address is an object: {"email": "…", "name": "…"}`)
	wantContent       = TypeError(`content is a string, or an object: {"text": "…", "html": "…"}`)
	wantUnsubscribing = TypeError(`unsubscribe is true or false, or an object: {"topic": "news"}`)
	wantHeaders       = TypeError(`headers is an object: {"X-Name": "value"}`)
)

// UnmarshalJSONFrom reads an object. For other types it refuses with the shape of an address: a
// plain string is a frequent mistake.
func (a *address) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '{' {
		return WrongKind(d, wantAddress)
	}
	type plain address
	return json.UnmarshalDecode(d, (*plain)(a))
}

// UnmarshalJSONFrom reads a string or an object.
func (c *content) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case '"':
		c.plain = true
		return json.UnmarshalDecode(d, &c.Text)
	case '{':
		type plain content
		return json.UnmarshalDecode(d, (*plain)(c))
	}
	return WrongKind(d, wantContent)
}

// UnmarshalJSONFrom reads true, false or an object.
func (u *unsubscribing) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case 't', 'f':
		u.plain = true
		return json.UnmarshalDecode(d, &u.on)
	case '{':
		type plain unsubscribing
		return json.UnmarshalDecode(d, (*plain)(u))
	}
	return WrongKind(d, wantUnsubscribing)
}

// UnmarshalJSONFrom reads an object of strings.
func (h *headers) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case 'n':
		return d.SkipValue()
	case '{':
	default:
		return WrongKind(d, wantHeaders)
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != '}' {
		var next headerField
		if err := json.UnmarshalDecode(d, &next.name); err != nil {
			return err
		}
		if err := json.UnmarshalDecode(d, &next.value); err != nil {
			return err
		}
		*h = append(*h, next)
	}
	_, err := d.ReadToken()
	return err
}

// WrongKind is want, or the syntax error if there is no value.
func WrongKind(d *jsontext.Decoder, want TypeError) error {
	switch d.PeekKind() {
	case jsontext.KindInvalid, '}', ']':
		if _, err := d.ReadToken(); err != nil {
			return err
		}
	}
	return want
}
