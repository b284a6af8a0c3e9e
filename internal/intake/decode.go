package intake

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"reflect"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// Limits of one message.
type Limits struct {
	// MaxRecipients bounds the addresses in to, cc and bcc together, with repetitions; 0 means
	// email.DefaultMaxRecipients.
	MaxRecipients int
	// MaxMessageBytes bounds text, HTML and decoded attachments together; 0 means
	// email.DefaultMaxMessageBytes.
	MaxMessageBytes int64
	// CheckURL returns why a callback URL is refused, without repeating it. Nil refuses all
	// callback URLs.
	CheckURL func(string) error
	// CheckAttachmentURL returns why a customer's attachment URL is refused, without repeating
	// it. Nil refuses all attachment URLs.
	CheckAttachmentURL func(customerID, url string) error
	// CustomerID is the customer that sends the message.
	CustomerID string
	// NoRecordings refuses attachments that are call recordings: POSTRIDER_RECORDING_URL is not
	// set.
	NoRecordings bool
	// Serves reports whether a relay is configured for mail of a stream and sender's domain.
	// Nil accepts all routes.
	Serves func(delivery.Route) bool
	// Blocked are the file types that are not sent; zero means the built-in list.
	Blocked email.Blocklist
	// Now is the time that send_at and expires_at are compared with; zero means the current
	// time.
	Now time.Time
	// DefaultSource is the sender of a message that names none; nil means that a sender is
	// required. It is not checked.
	DefaultSource *email.Address
	// IgnoreUnknown skips unknown members instead of refusing them.
	IgnoreUnknown bool
	// NoIgnoreSuppressions refuses ignore_suppressions: there is no credential that may allow it.
	NoIgnoreSuppressions bool
	// AllowRelayHeaders accepts header fields that control relays.
	AllowRelayHeaders bool
	// LinkBase is where links in messages lead; empty if messages cannot have any.
	LinkBase string
}

// WithDefaults replaces zeros by their defaults, and a zero Now by the current time.
func (l Limits) WithDefaults() Limits {
	if l.MaxRecipients == 0 {
		l.MaxRecipients = email.DefaultMaxRecipients
	}
	if l.MaxMessageBytes == 0 {
		l.MaxMessageBytes = email.DefaultMaxMessageBytes
	}
	if l.Now.IsZero() {
		l.Now = time.Now()
	}
	return l
}

// Decoded is one message, with pointers into its request for later refusals.
type Decoded struct {
	email.Message
	// SenderPointer is the pointer to the sender, /from or /source; empty if the sender is
	// Limits.DefaultSource.
	SenderPointer string
	// TextPointer is the pointer to the text, or where it would be: /content or /content/text.
	TextPointer string
}

// Decode decodes and checks one message. Its error is an *email.Failure. The message does not
// refer to the memory of body.
func Decode(body []byte, l Limits) (Decoded, error) {
	req, err := read(body, l)
	if err != nil {
		return Decoded{}, err
	}
	return normalize(req, l.WithDefaults())
}

func read(body []byte, l Limits) (req request, err error) {
	if err := CheckMembers(body, l); err != nil {
		return request{}, err
	}
	err = UnmarshalPart(body, &req, l.IgnoreUnknown)
	return req, err
}

// standIn is the recipient with which a message for many recipients is checked.
const standIn = "stand.in@example.com"

// DecodeForMany decodes a message of which each of many recipients gets a copy. It refuses a
// message that names recipients, and attachments that would be fetched again for each copy. The
// message's To is empty.
func DecodeForMany(body []byte, l Limits) (Decoded, error) {
	req, err := read(body, l)
	if err != nil {
		return Decoded{}, err
	}
	l = l.WithDefaults()
	c := NewChecks(l)
	for _, list := range []struct {
		pointer string
		named   bool
	}{{"/to", req.To != nil}, {"/destinations", req.Dest != nil}, {"/cc", req.Cc != nil}, {"/bcc", req.Bcc != nil}} {
		if list.named {
			c.Refuse(list.pointer, CodeUnsupported, "a batch's message names no recipients: each of recipients gets a copy of its own; remove it")
		}
	}
	for i, a := range req.Attachments {
		if a.URL != nil || text(a.ReferenceType) == string(email.ReferenceRecording) {
			c.Refuse(fmt.Sprintf("/attachments/%d", i), CodeUnsupported, "it would be fetched once for every recipient: upload it with POST /v1.0/files, and refer to that")
		}
	}
	if err := c.Err(); err != nil {
		return Decoded{}, err
	}
	to := standIn
	req.To = &[]address{{Email: &to}}
	d, err := normalize(req, l)
	d.To = nil
	return d, err
}

// OwnMembers are the names of a request's top-level members, up to the first syntax error.
// Their values are skipped, not copied.
func OwnMembers(body []byte) iter.Seq[string] {
	return func(yield func(string) bool) {
		d := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
		if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
			return
		}
		for {
			t, err := d.ReadToken()
			if err != nil || t.Kind() != '"' || !yield(t.String()) || d.SkipValue() != nil {
				return
			}
		}
	}
}

// Unmarshal strictly decodes a JSON object that is not a message. It refuses unknown and
// repeated members, wrong types, invalid UTF-8, and arrays and objects of more than 400
// members. Its error is an *email.Failure with a pointer to the place.
func Unmarshal(body []byte, into any) error {
	if err := boundMembers(body, maxSmallMembers, maxSmallMembers); err != nil {
		return err
	}
	return UnmarshalPart(body, into, false)
}

// UnmarshalPart is Unmarshal for a body that has passed CheckMembers, or a part of one.
// ignoreUnknown skips unknown members.
func UnmarshalPart(body []byte, into any, ignoreUnknown bool, options ...json.Options) error {
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) == 0 {
		return malformed("", CodeMalformed, "the body is empty; send a JSON object")
	} else if trimmed[0] != '{' {
		return malformed("", CodeMalformed, "the body is not a JSON object; it begins with {")
	}
	err := json.Unmarshal(body, into, append(options, json.RejectUnknownMembers(!ignoreUnknown))...)
	if err == nil {
		return nil
	}
	if syn, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		switch {
		case errors.Is(err, jsontext.ErrDuplicateName):
			return malformed(syn.JSONPointer, CodeDuplicate, "the member is named twice; remove one of them")
		case !utf8.Valid(body):
			return malformed(syn.JSONPointer, CodeNotUTF8, "the text is not valid UTF-8; encode it as such")
		case !errors.Is(err, io.ErrUnexpectedEOF) && loneSurrogate.Match(body[min(int(syn.ByteOffset), len(body)):]):
			return malformed(syn.JSONPointer, CodeLoneSurrogate,
				`the text has half of a surrogate pair (\ud800 to \udfff alone), which is no character: it was cut in the middle of one, as of an emoji`)
		}
		return malformed(syn.JSONPointer, CodeMalformed, "the JSON is broken here or right behind; a JSON checker shows the place")
	}
	sem, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return malformed("", CodeMalformed, "the body is not a JSON object of the kind this takes")
	}
	want, isType := errors.AsType[TypeError](err)
	inBase64, isBase64 := errors.AsType[base64Error](err)
	switch {
	case isType:
		return Refused(sem.JSONPointer, CodeWrongType, string(want))
	case errors.Is(err, json.ErrUnknownName):
		return Refused(sem.JSONPointer, CodeUnknown, "there is no such member; remove it or correct its name")
	case isBase64:
		return Refused(sem.JSONPointer, CodeInvalidBase64, string(inBase64))
	}
	return Refused(sem.JSONPointer, CodeWrongType, "the value has the wrong type; give "+expected(sem.GoType))
}

// loneSurrogate matches the escape of half of a surrogate pair. If the decoder stops at one,
// the other half is missing.
var loneSurrogate = regexp.MustCompile(`^\\u[dD][89a-fA-F][0-9a-fA-F]{2}`)

// expected names the JSON type that a Go type is decoded from.
func expected(t reflect.Type) string {
	if t == nil {
		return "another one"
	}
	if t.Kind() == reflect.Pointer {
		return expected(t.Elem())
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "an object"
	}
	return "a number"
}

const (
	malformedDetail = "the body cannot be read; errors says where"
	refusedDetail   = "the request is not valid; errors says where and why"
)

func malformed(pointer jsontext.Pointer, code, detail string) *email.Failure {
	f := email.Fail(email.CodeMalformedJSON, malformedDetail)
	f.Fields = []email.FieldError{{Pointer: clip(string(pointer)), Code: code, Detail: detail}}
	return f
}

// Refused is a failure with code invalid_request and one problem.
func Refused(pointer jsontext.Pointer, code, detail string) *email.Failure {
	f := email.Fail(email.CodeInvalidRequest, refusedDetail)
	f.Fields = []email.FieldError{{Pointer: clip(string(pointer)), Code: code, Detail: detail}}
	return f
}

// maxPointer bounds a pointer in an error, in bytes: it contains names that the client chose.
const maxPointer = 256

// clip shortens a pointer to that of the nearest enclosing value with a pointer short enough.
func clip(pointer string) string {
	for len(pointer) > maxPointer {
		pointer = pointer[:strings.LastIndexByte(pointer, '/')]
	}
	return pointer
}
