package intake

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/htmltext"
)

// maxFields bounds the problems of one refusal; a client that has more mends
// these first.
const maxFields = 100

// checker collects everything that is wrong with a request.
type checker struct {
	limits Limits
	fields []email.FieldError
}

func (c *checker) refuse(pointer, code, format string, args ...any) {
	if len(c.fields) < maxFields {
		c.fields = append(c.fields, email.FieldError{Pointer: clip(pointer), Code: code, Detail: fmt.Sprintf(format, args...)})
	}
}

// normalize brings the two shapes together and checks the result.
func normalize(req request, l Limits) (Decoded, error) {
	c := &checker{limits: l}
	var m Decoded
	m.From = c.sender(req)
	m.SenderPointer = req.senderPointer()
	c.recipients(&m.Message, req)
	m.ReplyTo = c.replyTo(req.ReplyTo)
	m.Subject = c.subject(req.Subject)
	c.content(&m.Message, req.Content)
	m.Attachments = c.attachments(req.Attachments)
	m.Headers = c.headers(req.Headers)
	m.Metadata = c.metadata(req.Metadata)
	m.Tags = c.tags(req.Tags)
	m.SendAt, m.ExpiresAt = c.times(req)
	m.OnAmbiguous = oneOf(c, "/on_ambiguous", req.OnAmbiguous, email.AmbiguousRetry, email.AmbiguousFail)
	m.CallbackURL = c.callback(req.CallbackURL)
	m.Stream = oneOf(c, "/stream", req.Stream, email.StreamTransactional, email.StreamBroadcast)
	c.route(m.Message, req)
	if size := requested(req); size > l.MaxMessageBytes {
		return Decoded{}, c.tooLarge(size, len(req.Attachments) > 0)
	}
	if err := c.refused(); err != nil {
		return Decoded{}, err
	}
	return m, nil
}

// route refuses mail that no configured relay would ever take.
func (c *checker) route(m email.Message, req request) {
	route := delivery.Route{Stream: m.Stream, SenderDomain: m.From.Domain()}
	if c.limits.Serves == nil || route.SenderDomain == "" || c.limits.Serves(route) {
		return
	}
	for _, other := range []email.Stream{email.StreamTransactional, email.StreamBroadcast} {
		if c.limits.Serves(delivery.Route{Stream: other, SenderDomain: route.SenderDomain}) {
			c.refuse("/stream", codeNoRelay, "no relay takes %s mail from %s, only %s: give that stream, or ask the operator, whose POSTRIDER_SMTP_URLS limit relays with streams=",
				route.Stream, route.SenderDomain, other)
			return
		}
	}
	c.refuse(cmp.Or(req.senderPointer(), "/from"), codeNoRelay, "no relay takes mail from %s: give another sender, or ask the operator, whose POSTRIDER_SMTP_URLS limit relays with domains= and streams=", route.SenderDomain)
}

// refused is what was found wrong, if anything.
func (c *checker) refused() error {
	if len(c.fields) == 0 {
		return nil
	}
	f := email.Fail(email.CodeInvalidRequest, refusedDetail)
	f.Fields = c.fields
	return f
}

// requested is the size that counts against the limit, of everything given,
// whether or not it passed the checks.
func requested(req request) int64 {
	var n int64
	if req.Content != nil {
		n = int64(len(text(req.Content.Text))) + int64(len(text(req.Content.HTML)))
		if req.Content.Calendar != nil {
			n += int64(len(text(req.Content.Calendar.ICS)))
		}
	}
	for _, a := range req.Attachments {
		if a.Content != nil {
			n += int64(len(*a.Content))
		}
	}
	return n
}

func (c *checker) tooLarge(size int64, attachments bool) *email.Failure {
	pointer, what, remedy := "/content", "text and HTML", "send the long part as a link"
	if attachments {
		pointer, what, remedy = "/attachments", "text, HTML and decoded attachments", "put large files where they can be downloaded, and send the links"
	}
	f := email.Fail(email.CodeTooLarge, "%s have %d bytes together, the limit is %d: %s", what, size, c.limits.MaxMessageBytes, remedy)
	f.Fields = append([]email.FieldError{{Pointer: pointer, Code: codeTooLarge, Detail: f.Detail}}, c.fields...)
	return f
}

// maxSubject is in bytes, before any encoding.
const maxSubject = 998

func (c *checker) subject(s *string) string {
	switch {
	case s == nil:
		c.refuse("/subject", codeMissing, "give a subject; it may be empty")
	case control(*s):
		c.refuse("/subject", codeControl, "remove line breaks and other control characters")
	case len(*s) > maxSubject:
		c.refuse("/subject", codeTooLong, "the subject has %d bytes, the limit is %d", len(*s), maxSubject)
	default:
		return *s
	}
	return ""
}

const (
	textTooLong = "the text made of the HTML would be more than twice as long as it, or too long for one message with it: give the text, too"
	tagTooLong  = "a tag has more than %d bytes besides its quoted values: give it fewer attributes, and put long values in quotes"
)

// content reads text and HTML. Where there is only HTML, text is made from it
// once, here, so that every attempt and every answer has the same.
func (c *checker) content(m *email.Message, in *content) {
	if in == nil || (text(in.Text) == "" && text(in.HTML) == "") {
		c.refuse("/content", codeMissing, `give the content, which may not be empty: a string, or {"text": "…", "html": "…"}`)
		return
	}
	m.Text, m.HTML = text(in.Text), text(in.HTML)
	m.Calendar = c.calendar(in.Calendar)
	at := "/content/text"
	if in.plain {
		at = "/content"
	}
	if strings.ContainsRune(m.Text, 0) {
		c.refuse(at, codeControl, "remove the NUL characters")
	}
	if strings.ContainsRune(m.HTML, 0) {
		c.refuse("/content/html", codeControl, "remove the NUL characters")
	}
	if int64(len(m.HTML)) > c.limits.MaxMessageBytes {
		return // refused for its size
	}
	if !htmltext.TagsFit(m.HTML) {
		c.refuse("/content/html", codeTooLong, tagTooLong, htmltext.MaxTagBytes)
		return
	}
	if m.Text == "" {
		var ok bool
		if m.Text, ok = htmltext.Convert(m.HTML, c.limits.MaxMessageBytes); !ok {
			c.refuse("/content/html", codeTooLong, textTooLong)
		}
		m.TextFromHTML = true
	}
}

// oneOf reads one of a few words; the first is the default.
func oneOf[S ~string](c *checker, pointer string, s *string, words ...S) S {
	if s == nil {
		return words[0]
	}
	list := make([]string, len(words))
	for i, w := range words {
		if *s == string(w) {
			return w
		}
		list[i] = string(w)
	}
	c.refuse(pointer, codeInvalid, "give %s", strings.Join(list, " or "))
	return words[0]
}

// text is what a member holds; empty where it is absent.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// member appends a name to a JSON Pointer (RFC 6901 section 3).
func member(pointer, name string) string {
	return pointer + "/" + strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}
