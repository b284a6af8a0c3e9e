package intake

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/postrider/postrider/email"
)

// Batch is a decoded request for many messages: a list of them, or one message for
// many recipients with variables of their own.
type Batch struct {
	Mode email.BatchMode
	// list are the messages as they came; tmpl and recipients are the other form.
	list       []jsontext.Value
	tmpl       *template
	recipients []recipient
	limits     Limits
}

type batchRequest struct {
	Mode       *string           `json:"mode"`
	Messages   *[]jsontext.Value `json:"messages"`
	Message    jsontext.Value    `json:"message"`
	Recipients *[]recipient      `json:"recipients"`
}

// recipient is an address with the variables of its copy.
type recipient struct {
	Email     *string            `json:"email"`
	Name      *string            `json:"name"`
	Variables map[string]*string `json:"variables"`
}

const wantRecipient = typeError(`a recipient is an object: {"email": "…", "name": "…", "variables": {…}}`)

// UnmarshalJSONFrom refuses what is not an object.
func (r *recipient) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '{' {
		return kindError(d, wantRecipient)
	}
	type plain recipient
	return json.UnmarshalDecode(d, (*plain)(r))
}

// DecodeBatch reads a request for many messages. What is wrong with the request as a
// whole is an *email.Failure here; what is wrong with an item is Message's to say.
func DecodeBatch(body []byte, l Limits) (*Batch, error) {
	var req batchRequest
	if err := unmarshal(body, &req, l.IgnoreUnknown); err != nil {
		return nil, err
	}
	b := &Batch{limits: l.withDefaults()}
	c := &checker{limits: b.limits}
	b.Mode = oneOf(c, "/mode", req.Mode, email.BatchStrict, email.BatchPermissive)
	switch {
	case req.Messages != nil && (req.Message != nil || req.Recipients != nil):
		c.refuse("/messages", codeNamedTwice, "give messages, or one message with recipients, not both")
	case req.Messages != nil:
		b.list = *req.Messages
		c.count("/messages", len(b.list), email.MaxBatchMessages, "messages")
	case req.Message != nil || req.Recipients != nil:
		b.template(c, req)
	default:
		c.refuse("/messages", codeMissing, `give messages: [{…}, …], or one message with recipients: [{"email": "…", "variables": {…}}]`)
	}
	return b, c.refused()
}

func (c *checker) count(pointer string, n, limit int, what string) {
	switch {
	case n == 0:
		c.refuse(pointer, codeMissing, "give at least one")
	case n > limit:
		c.refuse(pointer, codeTooMany, "there are %d %s, the limit is %d: send several batches", n, what, limit)
	}
}

func (b *Batch) template(c *checker, req batchRequest) {
	if req.Recipients == nil {
		c.refuse("/recipients", codeMissing, `give the recipients of the message: [{"email": "…"}]`)
	} else {
		b.recipients = *req.Recipients
		c.count("/recipients", len(b.recipients), email.MaxBatchRecipients, "recipients")
	}
	if req.Message == nil {
		c.refuse("/message", codeMissing, "give the message that the recipients are to get")
		return
	}
	t, err := newTemplate(req.Message, b.limits)
	if err != nil {
		c.take(err, "/message")
		return
	}
	b.tmpl = t
	// The longest form of every copy: what is put in is bounded by its own limits.
	if total := t.bytes * int64(len(b.recipients)); total > email.MaxBatchContentBytes {
		c.refuse("/recipients", codeTooLarge, "text and HTML of %d copies have %d bytes together, the limit is %d: send batches of at most %d recipients",
			len(b.recipients), total, email.MaxBatchContentBytes, email.MaxBatchContentBytes/t.bytes)
	}
}

// take adopts the problems of a part, at its place.
func (c *checker) take(err error, place string) {
	for _, f := range at(err, place).Fields {
		c.refuse(f.Pointer, f.Code, "%s", f.Detail)
	}
}

// at moves the problems of a part to where the part is.
func at(err error, place string) *email.Failure {
	f, ok := err.(*email.Failure) //nolint:errorlint // ours, as it was made
	if !ok {
		f = email.Fail(email.CodeInvalidRequest, refusedDetail)
		f.Err = err
	}
	moved := *f
	moved.Fields = make([]email.FieldError, len(f.Fields))
	for i, e := range f.Fields {
		e.Pointer = place + e.Pointer
		moved.Fields[i] = e
	}
	return &moved
}

// Len is how many messages there are.
func (b *Batch) Len() int {
	if b.tmpl != nil {
		return len(b.recipients)
	}
	return len(b.list)
}

// Place is where the request has the i-th message.
func (b *Batch) Place(i int) string {
	if b.tmpl != nil {
		return "/message"
	}
	return fmt.Sprintf("/messages/%d", i)
}

// Sender is where the request names the sender of the i-th message, or could.
func (b *Batch) Sender(i int) string {
	body := b.tmplBody()
	if body == nil {
		body = b.list[i]
	}
	if p := SenderPointer(body); p != "" {
		return b.Place(i) + p
	}
	return b.Place(i) + "/from"
}

func (b *Batch) tmplBody() []byte {
	if b.tmpl == nil {
		return nil
	}
	return b.tmpl.body
}

// Message makes the i-th message, the same each time. The error is an
// *email.Failure whose pointers are into the whole request.
func (b *Batch) Message(i int) (email.Message, error) {
	if b.tmpl == nil {
		m, err := Decode(b.list[i], b.limits)
		if err != nil {
			return email.Message{}, at(err, b.Place(i))
		}
		return m, nil
	}
	m, err := b.tmpl.message(b.recipients[i])
	if err != nil {
		return email.Message{}, at(err, fmt.Sprintf("/recipients/%d", i))
	}
	return m, nil
}

// Problems are what is wrong with the items, by their number, each a Failure with
// pointers into the whole request. It reads all of them.
func (b *Batch) Problems() map[int]*email.Failure {
	out := map[int]*email.Failure{}
	for i := range b.Len() {
		if _, err := b.Message(i); err != nil {
			out[i] = at(err, "")
		}
	}
	return out
}

// Fingerprint is that of all its messages in their order.
func (b *Batch) Fingerprint() string {
	f := newFingerprint("postrider batch 1")
	f.add(string(b.Mode))
	f.count(b.Len())
	for i := range b.Len() {
		m, err := b.Message(i)
		if err != nil {
			f.add("refused", strings.TrimSpace(at(err, "").Error()))
			continue
		}
		f.add(Fingerprint(m))
	}
	return f.sum()
}
