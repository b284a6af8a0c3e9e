package intake

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/k3a/html2text"

	"github.com/postrider/postrider/email"
)

// Limits of the small things.
const (
	// maxSubject and maxHeaderValue leave room for the name on a line of 998
	// bytes (RFC 5322 section 2.1.1), for a value without a place to fold.
	maxSubject       = 900
	maxHeaderValue   = 900
	maxHeaders       = 50
	maxMetadata      = 50
	maxMetadataKey   = 64
	maxMetadataValue = 512
	maxTags          = 20
	maxAttachments   = 50
)

// checker collects everything that is wrong with a request.
type checker struct {
	limits Limits
	fields []email.FieldError
}

func (c *checker) refuse(pointer, code, format string, args ...any) {
	c.fields = append(c.fields, email.FieldError{Pointer: pointer, Code: code, Detail: fmt.Sprintf(format, args...)})
}

// normalize brings the two shapes together and checks the result.
func normalize(req request, l Limits) (email.Message, error) {
	c := &checker{limits: l}
	m := email.Message{
		From:        c.sender(req),
		ReplyTo:     c.addresses("/reply_to", req.ReplyTo),
		Subject:     c.subject(req.Subject),
		Headers:     c.headers(req.Headers),
		Metadata:    c.metadata(req.Metadata),
		Tags:        c.tags(req.Tags),
		Stream:      oneOf(c, "/stream", req.Stream, email.StreamTransactional, email.StreamBroadcast),
		OnAmbiguous: oneOf(c, "/on_ambiguous", req.OnAmbiguous, email.AmbiguousRetry, email.AmbiguousFail),
	}
	c.recipients(&m, req)
	c.content(&m, req.Content)
	m.Attachments = c.attachments(req.Attachments)
	c.times(&m, req)
	if size := m.Size(); size > l.MaxMessageBytes {
		f := email.Fail(email.CodeTooLarge, "text, HTML and attachments have %d bytes together, the limit is %d: send large files as links", size, l.MaxMessageBytes)
		f.Fields = c.fields
		return email.Message{}, f
	}
	if len(c.fields) > 0 {
		f := email.Fail(email.CodeInvalidRequest, refusedDetail)
		f.Fields = c.fields
		return email.Message{}, f
	}
	return m, nil
}

func (c *checker) sender(req request) email.Address {
	switch {
	case req.From != nil && req.Source != nil:
		c.refuse("/source", "named_twice", "the sender is named by from and by source; give one of them")
	case req.From != nil:
		return c.address("/from", *req.From)
	case req.Source != nil:
		return c.address("/source", *req.Source)
	case c.limits.DefaultSource != nil:
		return *c.limits.DefaultSource
	default:
		c.refuse("/from", "missing", `give the sender: {"email": "…", "name": "…"}`)
	}
	return email.Address{}
}

// recipients reads to or destinations, cc and bcc. An address that is listed
// again is one recipient: the first listing stands, to before cc before bcc.
func (c *checker) recipients(m *email.Message, req request) {
	to, pointer := req.To, "/to"
	switch {
	case req.To != nil && req.Dest != nil:
		c.refuse("/destinations", "named_twice", "the recipients are named by to and by destinations; give one of them")
		return
	case req.Dest != nil:
		to, pointer = req.Dest, "/destinations"
	}
	listed := len(req.Cc) + len(req.Bcc)
	if to != nil {
		listed += len(*to)
	}
	if listed == 0 {
		c.refuse(pointer, "missing", `give at least one recipient: [{"email": "…"}]`)
		return
	}
	if listed > c.limits.MaxRecipients {
		c.refuse(pointer, "too_many", "to, cc and bcc have %d recipients together, the limit is %d", listed, c.limits.MaxRecipients)
		return
	}
	seen := map[string]bool{}
	unique := func(as []email.Address) (out []email.Address) {
		for _, a := range as {
			if a.Email != "" && !seen[a.Email] {
				seen[a.Email] = true
				out = append(out, a)
			}
		}
		return out
	}
	if to != nil {
		m.To = unique(c.addresses(pointer, *to))
	}
	m.Cc = unique(c.addresses("/cc", req.Cc))
	m.Bcc = unique(c.addresses("/bcc", req.Bcc))
}

func (c *checker) addresses(pointer string, as []address) []email.Address {
	var out []email.Address
	for i, a := range as {
		out = append(out, c.address(fmt.Sprintf("%s/%d", pointer, i), a))
	}
	return out
}

// address reads either shape of an address.
func (c *checker) address(pointer string, a address) email.Address {
	field, value, name := "email", a.Email, text(a.Name)
	var label, detail string
	if a.Email == nil && (a.Target != nil || a.Type != nil) {
		field, value, name = "target", a.Target, text(a.TargetName)
		label, detail = text(a.Name), text(a.Detail)
	}
	switch {
	case a.Email != nil && (a.Target != nil || a.TargetName != nil || a.Type != nil || a.Detail != nil):
		c.refuse(pointer, "named_twice", "the address mixes email and target; give one of the two forms")
		return email.Address{}
	case value == nil:
		c.refuse(pointer+"/"+field, "missing", "give the address")
		return email.Address{}
	case a.Type != nil && *a.Type != "email":
		c.refuse(pointer+"/type", "unsupported", "only addresses of type email take mail")
		return email.Address{}
	}
	out, err := Address(*value, "")
	if err != nil {
		c.refuse(pointer+"/"+field, "invalid_address", "%s", err)
	}
	nameField := "/name"
	if field == "target" {
		nameField = "/target_name"
	}
	for _, t := range []struct{ pointer, text string }{{nameField, name}, {"/name", label}, {"/detail", detail}} {
		if control(t.text) || len(t.text) > maxNameBytes {
			c.refuse(pointer+t.pointer, "invalid", "at most %d bytes, without line breaks and other control characters", maxNameBytes)
		}
	}
	if err != nil {
		return email.Address{}
	}
	out.Name = strings.TrimSpace(name)
	out.Label, out.Detail = label, detail
	return out
}

func (c *checker) subject(s *string) string {
	switch {
	case s == nil:
		c.refuse("/subject", "missing", "give a subject; it may be empty")
	case control(*s):
		c.refuse("/subject", "control_character", "remove line breaks and other control characters")
	case len(*s) > maxSubject:
		c.refuse("/subject", "too_long", "the subject has %d bytes, the limit is %d", len(*s), maxSubject)
	default:
		return *s
	}
	return ""
}

// content reads text and HTML. Where there is only HTML, text is made from it
// once, here, so that every attempt and every answer has the same.
func (c *checker) content(m *email.Message, in *content) {
	if in == nil || (text(in.Text) == "" && text(in.HTML) == "") {
		c.refuse("/content", "missing", `give the content: a string, or {"text": "…", "html": "…"}`)
		return
	}
	m.Text, m.HTML = text(in.Text), text(in.HTML)
	for _, part := range []struct{ pointer, text string }{{"/content/text", m.Text}, {"/content/html", m.HTML}} {
		if strings.ContainsRune(part.text, 0) {
			c.refuse(part.pointer, "control_character", "remove the NUL characters")
		}
	}
	if m.Text == "" && int64(len(m.HTML)) <= c.limits.MaxMessageBytes {
		m.Text, m.TextFromHTML = html2text.HTML2Text(m.HTML), true
	}
}

var headerName = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// owned are the header fields that Postrider or a mail server writes.
var owned = map[string]string{
	"from": "from", "sender": "from", "to": "to", "cc": "cc", "bcc": "bcc", "reply-to": "reply_to", "subject": "subject",
	"date": "", "message-id": "", "return-path": "", "received": "", "dkim-signature": "", "authentication-results": "",
	"mime-version": "", "delivered-to": "", "received-spf": "", "x-original-to": "",
}

// ownedPrefixes are families of them.
var ownedPrefixes = []string{"content-", "resent-", "arc-", "x-postrider-"}

func (c *checker) headers(hs []email.Header) []email.Header {
	if len(hs) > maxHeaders {
		c.refuse("/headers", "too_many", "there are %d headers, the limit is %d", len(hs), maxHeaders)
		return nil
	}
	seen := map[string]bool{}
	for _, h := range hs {
		pointer, name := "/headers/"+escape(h.Name), strings.ToLower(h.Name)
		instead, mine := owned[name]
		for _, p := range ownedPrefixes {
			mine = mine || strings.HasPrefix(name, p)
		}
		switch {
		case !headerName.MatchString(h.Name):
			c.refuse("/headers", "invalid_name", "a header's name has 1 to 64 letters, digits and hyphens")
		case mine && instead != "":
			c.refuse(pointer, "reserved", "this header is written for you; use the member %s", instead)
		case mine:
			c.refuse(pointer, "reserved", "this header is written for you or by mail servers")
		case seen[name]:
			c.refuse(pointer, "named_twice", "the header is named twice in different case")
		case control(h.Value):
			c.refuse(pointer, "control_character", "remove line breaks and other control characters")
		case len(h.Value) > maxHeaderValue:
			c.refuse(pointer, "too_long", "the value has %d bytes, the limit is %d", len(h.Value), maxHeaderValue)
		}
		seen[name] = true
	}
	return hs
}

func (c *checker) metadata(m map[string]string) map[string]string {
	if len(m) > maxMetadata {
		c.refuse("/metadata", "too_many", "there are %d members, the limit is %d", len(m), maxMetadata)
		return nil
	}
	for k, v := range m {
		if k == "" || len(k) > maxMetadataKey || len(v) > maxMetadataValue || strings.ContainsRune(k+v, 0) {
			c.refuse("/metadata", "invalid", "a name has 1 to %d bytes, a value at most %d, without NUL", maxMetadataKey, maxMetadataValue)
			return nil
		}
	}
	return m
}

var tagShape = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`)

func (c *checker) tags(ts []string) []string {
	if len(ts) > maxTags {
		c.refuse("/tags", "too_many", "there are %d tags, the limit is %d", len(ts), maxTags)
		return nil
	}
	seen := map[string]bool{}
	var out []string
	for i, t := range ts {
		if !tagShape.MatchString(t) {
			c.refuse(fmt.Sprintf("/tags/%d", i), "invalid", "a tag has 1 to 64 of the characters A-Z a-z 0-9 _ . : -")
		}
		if !seen[t] {
			seen[t] = true
			out = append(out, t)
		}
	}
	return out
}

// times reads send_at and expires_at. A send_at that has passed means now.
func (c *checker) times(m *email.Message, req request) {
	m.SendAt = c.time("/send_at", req.SendAt)
	m.ExpiresAt = c.time("/expires_at", req.ExpiresAt)
	now := c.limits.Now
	if m.SendAt.After(now.Add(email.MaxScheduleAhead)) {
		c.refuse("/send_at", "too_late", "at most 366 days ahead")
	}
	if !m.SendAt.After(now) {
		m.SendAt = time.Time{}
	}
	if m.ExpiresAt.IsZero() {
		return
	}
	switch {
	case !m.ExpiresAt.After(now):
		c.refuse("/expires_at", "past", "this time has passed; give one in the future")
	case !m.ExpiresAt.After(m.SendAt):
		c.refuse("/expires_at", "before_send_at", "the e-mail would expire before it is sent")
	}
}

func (c *checker) time(pointer string, s *string) time.Time {
	if s == nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, *s)
	if err != nil {
		c.refuse(pointer, "invalid", "give a time as RFC 3339 has it: 2026-01-02T15:04:05Z")
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
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
	c.refuse(pointer, "invalid", "give %s", strings.Join(list, " or "))
	return words[0]
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// escape writes a name into a JSON Pointer (RFC 6901 section 3).
func escape(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}
