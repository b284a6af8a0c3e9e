package intake

import (
	"cmp"
	"strings"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/htmltext"
	"github.com/postrider/postrider/internal/unsubscribe"
)

// normalize merges the two shapes of a request and checks the result.
func normalize(req request, l Limits) (Decoded, error) {
	c := NewChecks(l)
	var m Decoded
	m.From = c.sender(req)
	m.SenderPointer, m.TextPointer = req.senderPointer(), req.textPointer()
	c.recipients(&m.Message, req)
	m.ReplyTo = c.replyTo(req.ReplyTo)
	m.Subject = c.subject(req.Subject)
	c.content(&m, req.Content)
	m.Attachments = c.attachments(req.Attachments)
	m.Headers = c.headers(req.Headers)
	m.Metadata = c.metadata(req.Metadata)
	m.Tags = c.tags(req.Tags)
	m.SendAt, m.ExpiresAt = c.times(req)
	m.OnAmbiguous = OneOf(c, "/on_ambiguous", req.OnAmbiguous, email.AmbiguousRetry, email.AmbiguousFail)
	m.CallbackURL = c.callback(req.CallbackURL)
	m.Stream = OneOf(c, "/stream", req.Stream, email.StreamTransactional, email.StreamBroadcast)
	m.IgnoreSuppressions = c.ignoreSuppressions(req.IgnoreSuppressions)
	c.unsubscribe(&m, req.Unsubscribe)
	c.route(m.Message, req)
	if size := requested(req); size > l.MaxMessageBytes {
		return Decoded{}, c.tooLarge(size, len(req.Attachments) > 0)
	}
	if err := c.Err(); err != nil {
		return Decoded{}, err
	}
	return m, nil
}

// route refuses a message that no configured relay takes.
func (c *Checks) route(m email.Message, req request) {
	route := delivery.Route{Stream: m.Stream, SenderDomain: m.From.Domain()}
	if c.limits.Serves == nil || route.SenderDomain == "" || c.limits.Serves(route) {
		return
	}
	for _, other := range []email.Stream{email.StreamTransactional, email.StreamBroadcast} {
		if c.limits.Serves(delivery.Route{Stream: other, SenderDomain: route.SenderDomain}) {
			c.Refuse("/stream", CodeNoRelay, "no relay takes %s mail from %s, only %s: give that stream, or ask the operator, whose POSTRIDER_SMTP_URLS limit relays with streams=",
				route.Stream, route.SenderDomain, other)
			return
		}
	}
	c.Refuse(cmp.Or(req.senderPointer(), "/from"), CodeNoRelay, "no relay takes mail from %s: give another sender, or ask the operator, whose POSTRIDER_SMTP_URLS limit relays with domains= and streams=", route.SenderDomain)
}

// requested is the size that counts against the limit: of all content in the request, also of
// content that another check refuses.
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

func (c *Checks) tooLarge(size int64, attachments bool) *email.Failure {
	pointer, parts, remedy := "/content", "text and HTML", "send the long part as a link"
	if attachments {
		pointer, parts, remedy = "/attachments", "text, HTML and decoded attachments", "put large files where they can be downloaded, and send the links"
	}
	f := email.Fail(email.CodeTooLarge, "%s have %d bytes together, the limit is %d: %s", parts, size, c.limits.MaxMessageBytes, remedy)
	f.Fields = append([]email.FieldError{{Pointer: pointer, Code: CodeTooLarge, Detail: f.Detail}}, c.fields...)
	return f
}

// MaxSubjectBytes bounds a subject, before any encoding.
const MaxSubjectBytes = 998

func (c *Checks) subject(s *string) string {
	switch {
	case s == nil:
		c.Refuse("/subject", CodeMissing, "give a subject; it may be empty")
	case Control(*s):
		c.Refuse("/subject", CodeControl, "remove line breaks and other control characters")
	case len(*s) > MaxSubjectBytes:
		c.Refuse("/subject", CodeTooLong, "the subject has %d bytes, the limit is %d", len(*s), MaxSubjectBytes)
	default:
		return *s
	}
	return ""
}

const (
	// TextTooLong is the detail for an HTML that htmltext.Convert refuses.
	TextTooLong = "the text made of the HTML would be more than twice as long as it, or too long for one message with it: give the text, too"
	tagTooLong  = "a tag has more than %d bytes besides its quoted values: give it fewer attributes, and put long values in quotes"
)

// textPointer is the pointer to the text, or where it would be.
func (r request) textPointer() string {
	if r.Content != nil && r.Content.plain {
		return "/content"
	}
	return "/content/text"
}

// content reads text and HTML. If there is HTML only, the text is made from it here, once, so
// that every attempt and every answer has the same text.
func (c *Checks) content(m *Decoded, in *content) {
	if in == nil || (text(in.Text) == "" && text(in.HTML) == "") {
		c.Refuse("/content", CodeMissing, `give the content, which may not be empty: a string, or {"text": "…", "html": "…"}`)
		return
	}
	m.Text, m.HTML = text(in.Text), text(in.HTML)
	m.Calendar = c.calendar(in.Calendar)
	if strings.ContainsRune(m.Text, 0) {
		c.Refuse(m.TextPointer, CodeControl, "remove the NUL characters")
	}
	if strings.ContainsRune(m.HTML, 0) {
		c.Refuse("/content/html", CodeControl, "remove the NUL characters")
	}
	if int64(len(m.HTML)) > c.limits.MaxMessageBytes {
		return // normalize refuses the message for its size
	}
	if !htmltext.TagsFit(m.HTML) {
		c.Refuse("/content/html", CodeTooLong, tagTooLong, htmltext.MaxTagBytes)
		return
	}
	if m.Text == "" {
		var ok bool
		if m.Text, ok = TextOf(m.HTML, c.limits.MaxMessageBytes); !ok {
			c.Refuse("/content/html", CodeTooLong, TextTooLong)
		}
		m.TextFromHTML = true
	}
}

// standInLink stands for the placeholder of a link while an HTML part is converted: links that lead nowhere
// are left out of a text.
const standInLink = "https://stand-in.invalid/" + unsubscribe.Name

// TextOf makes the text of an HTML part, as htmltext.Convert does. The placeholder for the link to unsubscribe
// by remains.
func TextOf(html string, limit int64) (string, bool) {
	if unsubscribe.Count(html) == 0 {
		return htmltext.Convert(html, limit)
	}
	out, ok := htmltext.Convert(unsubscribe.Fill(html, standInLink), limit)
	return strings.ReplaceAll(out, standInLink, unsubscribe.Placeholder), ok
}

// text is a member's value; empty if the member is absent.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
