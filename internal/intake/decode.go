package intake

import (
	"bytes"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/postrider/postrider/email"
)

// Limits of one message.
type Limits struct {
	// MaxRecipients bounds to, cc and bcc together.
	MaxRecipients int
	// MaxMessageBytes bounds text, HTML and decoded attachments together.
	MaxMessageBytes int64
	// Now is the time that send_at and expires_at are compared with.
	Now time.Time
	// DefaultSource serves where the sender is left out; nil means that a sender
	// is required.
	DefaultSource *email.Address
}

// request is both shapes of the seed API at once. Pointers and raw values tell
// what is absent from what is empty.
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

	Headers     orderedHeaders    `json:"headers"`
	Metadata    map[string]string `json:"metadata"`
	Tags        []string          `json:"tags"`
	SendAt      *string           `json:"send_at"`
	ExpiresAt   *string           `json:"expires_at"`
	OnAmbiguous *string           `json:"on_ambiguous"`
	Stream      *string           `json:"stream"`
}

// address is {"email","name"} or the seed's {"type","target","target_name","name","detail"}.
type address struct {
	Email      *string `json:"email"`
	Type       *string `json:"type"`
	Target     *string `json:"target"`
	TargetName *string `json:"target_name"`
	Name       *string `json:"name"`
	Detail     *string `json:"detail"`
}

// UnmarshalJSONFrom refuses what is not an object in words of its own: plain
// strings are the mistake that everybody makes.
func (a *address) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '{' {
		return &placeError{pointer: next(d), code: "wrong_type", detail: `an address is an object: {"email": "…", "name": "…"}`}
	}
	type plain address
	return json.UnmarshalDecode(d, (*plain)(a))
}

// content is a string, or {"text","html"}.
type content struct {
	Text *string `json:"text"`
	HTML *string `json:"html"`
}

// UnmarshalJSONFrom reads either form.
func (c *content) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case '"':
		return json.UnmarshalDecode(d, &c.Text)
	case '{':
		type plain content
		return json.UnmarshalDecode(d, (*plain)(c))
	}
	return &placeError{pointer: next(d), code: "wrong_type", detail: `content is a string, or an object: {"text": "…", "html": "…"}`}
}

// attachment is content or a reference.
type attachment struct {
	Filename      *string `json:"filename"`
	Content       *[]byte `json:"content"`
	Type          *string `json:"type"`
	ContentID     *string `json:"content_id"`
	ReferenceType *string `json:"reference_type"`
	ReferenceID   *string `json:"reference_id"`
	Optional      bool    `json:"optional"`
}

// orderedHeaders keeps a header object's members in their order.
type orderedHeaders []email.Header

// UnmarshalJSONFrom reads an object of strings.
func (h *orderedHeaders) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == 'n' {
		return d.SkipValue()
	}
	if d.PeekKind() != '{' {
		return &placeError{pointer: next(d), code: "wrong_type", detail: `headers is an object: {"X-Name": "value"}`}
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != '}' {
		var name, value string
		if err := json.UnmarshalDecode(d, &name); err != nil {
			return err
		}
		if err := json.UnmarshalDecode(d, &value); err != nil {
			return err
		}
		*h = append(*h, email.Header{Name: name, Value: value})
	}
	_, err := d.ReadToken()
	return err
}

// placeError is a refusal that knows its place.
type placeError struct{ pointer, code, detail string }

func (e *placeError) Error() string { return e.pointer + ": " + e.detail }

// next is the pointer of the value that the decoder is about to read.
func next(d *jsontext.Decoder) string { return string(d.StackPointer()) }

// Decode reads one message. The error is an *email.Failure.
func Decode(body []byte, l Limits) (email.Message, error) {
	var req request
	if err := Unmarshal(body, &req); err != nil {
		return email.Message{}, err
	}
	return normalize(req, l)
}

// Unmarshal reads a JSON object strictly: unknown and repeated members, wrong
// types and invalid UTF-8 are refused with a pointer to the place. The error is
// an *email.Failure.
func Unmarshal(body []byte, into any) error {
	if trimmed := bytes.TrimSpace(body); len(trimmed) == 0 {
		return malformed("", "the body is empty; send a JSON object")
	} else if trimmed[0] != '{' {
		return malformed("", "the body is not a JSON object")
	}
	err := json.Unmarshal(body, into, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	if p, ok := errors.AsType[*placeError](err); ok {
		pointer := p.pointer
		if sem, ok := errors.AsType[*json.SemanticError](err); ok && len(sem.JSONPointer) >= len(pointer) {
			pointer = string(sem.JSONPointer)
		}
		return refused(pointer, p.code, p.detail)
	}
	if syn, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		switch {
		case errors.Is(err, jsontext.ErrDuplicateName):
			return malformed(string(syn.JSONPointer), "the member is named twice")
		case !utf8.Valid(body):
			return malformed(string(syn.JSONPointer), "the text is not valid UTF-8")
		}
		return malformed(string(syn.JSONPointer), "the JSON is broken here or right behind")
	}
	if sem, ok := errors.AsType[*json.SemanticError](err); ok {
		pointer := string(sem.JSONPointer)
		switch {
		case errors.Is(err, json.ErrUnknownName):
			return refused(pointer, "unknown", "there is no such member; remove it or correct its name")
		case sem.GoType != nil && sem.GoType.String() == "[]uint8":
			return refused(pointer, "invalid_base64", "give the content in base64 (RFC 4648 section 4, with padding)")
		}
		return refused(pointer, "wrong_type", "the value has the wrong type; expected "+expected(sem))
	}
	return malformed("", "the body is not a JSON object of the kind this takes")
}

// expected names the JSON type that belongs at a place.
func expected(sem *json.SemanticError) string {
	if sem.GoType == nil {
		return "another one"
	}
	switch k := sem.GoType.Kind().String(); k {
	case "string":
		return "a string"
	case "bool":
		return "true or false"
	case "slice", "array":
		return "a list"
	case "map", "struct":
		return "an object"
	case "ptr":
		switch sem.GoType.Elem().Kind().String() {
		case "string":
			return "a string"
		case "slice":
			return "a list"
		}
		return "an object"
	default:
		return "another one than " + k
	}
}

func malformed(pointer, detail string) *email.Failure {
	f := email.Fail(email.CodeMalformedJSON, "the body cannot be read; errors says where")
	f.Fields = []email.FieldError{{Pointer: pointer, Code: "malformed", Detail: detail}}
	return f
}

const refusedDetail = "the request is not valid; errors says where and why"

func refused(pointer, code, detail string) *email.Failure {
	f := email.Fail(email.CodeInvalidRequest, refusedDetail)
	f.Fields = []email.FieldError{{Pointer: pointer, Code: code, Detail: detail}}
	return f
}
