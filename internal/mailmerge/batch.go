package mailmerge

import (
	"cmp"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
)

// Batch is a decoded request for many messages: a list of messages, or one message and a list
// of recipients with variables of their own.
type Batch struct {
	Mode email.BatchMode
	// list are the messages or recipients as raw JSON. tmpl and recipients are decoded, for
	// the second form only.
	list       []jsontext.Value
	tmpl       *template
	recipients []recipient
	limits     intake.Limits
	// senders are the pointers to the senders of a list's messages. Message sets them.
	senders []string
	// stored is what Bytes returns, largest what Largest returns.
	stored, largest int64
}

// Bytes is about the size of what is stored for all messages together, for the limit
// email.MaxBatchContentBytes.
func (b *Batch) Bytes() int64 { return b.stored }

// Largest is about the size of what is stored for the largest message.
func (b *Batch) Largest() int64 { return b.largest }

type batchRequest struct {
	Mode       *string           `json:"mode"`
	Messages   *[]jsontext.Value `json:"messages"`
	Message    jsontext.Value    `json:"message"`
	Recipients *[]jsontext.Value `json:"recipients"`
}

// recipient is an address with the variables of its copy.
type recipient struct {
	Email     *string   `json:"email"`
	Name      *string   `json:"name"`
	Variables variables `json:"variables"`
	// refusal is why the recipient could not be decoded.
	refusal error
}

const wantRecipient = `a recipient is an object: {"email": "…", "name": "…", "variables": {…}}`

func newRecipient(body jsontext.Value, l intake.Limits) recipient {
	if body.Kind() != '{' {
		return recipient{refusal: intake.Refused("", intake.CodeWrongType, wantRecipient)}
	}
	var r recipient
	// Decoding the whole request has checked that no name is there twice.
	if err := intake.UnmarshalPart(body, &r, l.IgnoreUnknown, jsontext.AllowDuplicateNames(true)); err != nil {
		return recipient{refusal: err}
	}
	return r
}

// Decode reads a request for many messages. Its error is an *email.Failure for the request as a
// whole. Message returns the errors of single items.
func Decode(body []byte, l intake.Limits) (*Batch, error) {
	if err := intake.CheckMembers(body, l); err != nil {
		return nil, err
	}
	var req batchRequest
	if err := intake.UnmarshalPart(body, &req, l.IgnoreUnknown); err != nil {
		return nil, err
	}
	b := &Batch{limits: l.WithDefaults()}
	c := intake.NewChecks(b.limits)
	b.Mode = intake.OneOf(c, "/mode", req.Mode, email.BatchStrict, email.BatchPermissive)
	if req.Message.Kind() == 'n' {
		req.Message = nil
	}
	switch {
	case req.Messages != nil && (req.Message != nil || req.Recipients != nil):
		c.Refuse("/messages", intake.CodeNamedTwice, "give messages, or one message with recipients, not both")
	case req.Messages != nil:
		b.list = *req.Messages
		b.senders = make([]string, len(b.list))
		count(c, "/messages", len(b.list), email.MaxBatchMessages, "messages")
		b.stored = int64(len(body))
		for _, m := range b.list {
			b.largest = max(b.largest, int64(len(m)))
		}
	case req.Message != nil || req.Recipients != nil:
		b.template(c, req)
	default:
		c.Refuse("/messages", intake.CodeMissing, `give messages: [{…}, …], or one message with recipients: [{"email": "…", "variables": {…}}]`)
	}
	return b, c.Err()
}

// IsBatch reports whether a request is for many messages, not for a single one.
func IsBatch(body []byte) bool {
	for name := range intake.OwnMembers(body) {
		if name == "messages" || name == "message" || name == "recipients" {
			return true
		}
	}
	return false
}

func count(c *intake.Checks, pointer string, n, limit int, what string) {
	switch {
	case n == 0:
		c.Refuse(pointer, intake.CodeMissing, "give at least one")
	case n > limit:
		c.Refuse(pointer, intake.CodeTooMany, "there are %d %s, the limit is %d: send several batches", n, what, limit)
	}
}

func (b *Batch) template(c *intake.Checks, req batchRequest) {
	if req.Recipients == nil {
		c.Refuse("/recipients", intake.CodeMissing, `give the recipients of the message: [{"email": "…"}]`)
	} else {
		count(c, "/recipients", len(*req.Recipients), email.MaxBatchRecipients, "recipients")
	}
	if req.Message == nil {
		c.Refuse("/message", intake.CodeMissing, "give the message that the recipients are to get")
		return
	}
	if req.Message.Kind() != '{' {
		c.Refuse("/message", intake.CodeWrongType, wantMessage)
		return
	}
	t, err := newTemplate(req.Message, b.limits)
	if err != nil {
		c.Adopt(err, "/message")
		return
	}
	b.tmpl = t
	if req.Recipients == nil {
		return
	}
	b.list = *req.Recipients
	if n := t.placeholders() * int64(len(b.list)); n > maxFilledIn { // before any recipient is decoded
		c.Refuse("/message", intake.CodeTooMany, "variables stand in %d places, which makes %d for %d recipients, the limit is %d: send several batches", t.placeholders(), n, len(b.list), maxFilledIn)
	}
	if !c.Passed() {
		return
	}
	for _, r := range b.list {
		b.recipients = append(b.recipients, newRecipient(r, b.limits))
	}
	var encoded int64
	b.stored, b.largest, encoded = b.bytes()
	if encoded > maxEncoded {
		c.Refuse("/message/headers", intake.CodeTooLarge, "the headers that have a structure (such as List-Unsubscribe), variables, and other characters than ASCII have %d bytes in all copies, the limit is %d: shorten them, use ASCII, or send several batches",
			encoded, maxEncoded)
	}
	if b.stored > email.MaxBatchContentBytes {
		c.Refuse("/recipients", intake.CodeTooLarge, "the %d copies have %d bytes together (subject, text, HTML, calendar, headers, metadata, tags, names), the limit is %d: send several batches",
			len(b.recipients), b.stored, email.MaxBatchContentBytes)
	}
}

// maxFilledIn bounds the placeholders of all copies of a batch together.
const maxFilledIn = 10_000_000

// maxEncoded bounds the headers of all copies of a batch together that have to be taken apart to be
// encoded, in bytes. They take about a second.
const maxEncoded = 16 << 20

const wantMessage = `a message is an object: {"subject": "…", "content": {…}}`

// bytes is the size of what is stored for all copies and for the largest one. encoded is the size of
// all headers that have to be taken apart to be encoded. Recipients and variables that are not valid
// do not count: Message refuses those recipients.
func (b *Batch) bytes() (total, largest, encoded int64) {
	for _, r := range b.recipients {
		if r.refusal != nil {
			continue
		}
		vars := map[string]string{"email": deref(r.Email), "name": deref(r.Name)}
		for name, v := range r.Variables.values {
			if v != nil && len(*v) <= maxVariableBytes && b.tmpl.names[name] {
				vars[name] = *v
			}
		}
		copied := b.tmpl.stored(vars, b.tmpl.escape(vars))
		total, largest = total+copied, max(largest, copied)
		encoded += b.tmpl.encoded(vars)
	}
	return total, largest, encoded
}

// Len is how many messages there are.
func (b *Batch) Len() int { return len(b.list) }

// Place is the JSON Pointer to the i-th message in the request.
func (b *Batch) Place(i int) string {
	if b.tmpl != nil {
		return "/message"
	}
	return fmt.Sprintf("/messages/%d", i)
}

// Sender is the JSON Pointer to the sender of the i-th message, or where it would be. For a
// list it is right after Message(i) was called; before that it ends in /from.
func (b *Batch) Sender(i int) string {
	pointer := ""
	if b.tmpl != nil {
		pointer = b.tmpl.sender
	} else {
		pointer = b.senders[i]
	}
	return b.Place(i) + cmp.Or(pointer, "/from")
}

// Message makes the i-th message, the same one each time. It is not safe for concurrent use.
// Its error is an *email.Failure whose pointers are into the whole request.
func (b *Batch) Message(i int) (email.Message, error) { return b.message(i, true) }

// message is Message. Without textToo it may leave out the text that is made from HTML.
func (b *Batch) message(i int, textToo bool) (m email.Message, err error) {
	var place string
	switch {
	case b.tmpl != nil:
		place = fmt.Sprintf("/recipients/%d", i)
		m, err = b.tmpl.message(b.recipients[i], textToo)
	case b.list[i].Kind() != '{':
		place, err = b.Place(i), intake.Refused("", intake.CodeWrongType, wantMessage)
	default:
		place = b.Place(i)
		var d intake.Decoded
		d, err = intake.Decode(b.list[i], b.limits)
		m, b.senders[i] = d.Message, d.SenderPointer
	}
	if err != nil {
		f := intake.Under(err, place)
		f.Fields = f.Fields[:min(len(f.Fields), maxItemFields)]
		return email.Message{}, f
	}
	return m, nil
}

// maxItemFields bounds the problems of one item: a batch has many.
const maxItemFields = 10

// Fingerprint is the fingerprint of all messages in their order.
func (b *Batch) Fingerprint() string {
	f := intake.NewFingerprinter("postrider batch 1")
	f.Add(string(b.Mode))
	f.Count(b.Len())
	for i := range b.Len() {
		m, err := b.message(i, false)
		if err != nil {
			f.Add("refused", string(b.list[i]))
			continue
		}
		f.Add(intake.Fingerprint(m))
	}
	return f.Sum()
}

// deref is a member's value; empty if the member is absent.
func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
