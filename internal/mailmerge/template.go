package mailmerge

import (
	"errors"
	"html"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/valyala/fasttemplate"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/header"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/plaintext"
	"github.com/postrider/postrider/internal/unsubscribe"
)

// template is a message with placeholders for variables, {{name}}, in its subject, text, HTML,
// and in the values of headers and metadata. In HTML the values are escaped.
type template struct {
	base   email.Message
	limits intake.Limits
	// sender is the JSON Pointer to the message's sender; empty if it names none.
	sender string

	subject, text, html *part
	headers             []*part
	metadata            map[string]*part
	// names are the variables that the message uses.
	names map[string]bool
	// fixed is the size of the parts without variables that every copy stores, in bytes.
	fixed int64
}

// part is one text with placeholders for variables.
type part struct {
	template *fasttemplate.Template
	// text is the part with its placeholders.
	text string
	// fixed is the size of the text between the placeholders. uses counts the placeholders of
	// each variable.
	fixed int64
	uses  map[string]int64
	// links counts the placeholders of the link to unsubscribe by, which remain in every copy.
	links int
}

// size is the size of the text with the variables filled in, in bytes, without filling them in.
func (p *part) size(vars map[string]string) int64 {
	n := p.fixed
	for name, times := range p.uses {
		n += times * int64(len(vars[name]))
	}
	return n
}

// placeholders is how many placeholders the message has.
func (t *template) placeholders() (n int64) {
	parts := append([]*part{t.subject, t.text, t.html}, t.headers...)
	for _, p := range slices.AppendSeq(parts, maps.Values(t.metadata)) {
		for _, times := range p.uses {
			n += times
		}
	}
	return n
}

// varies reports whether the text has placeholders. Without them all copies share it.
func (p *part) varies() bool { return len(p.uses) > 0 }

func (p *part) fill(vars map[string]string) string {
	if !p.varies() {
		return p.text
	}
	return p.template.ExecuteFuncString(func(w io.Writer, tag string) (int, error) {
		if name := strings.TrimSpace(tag); name != unsubscribe.Name {
			return io.WriteString(w, vars[name])
		}
		return io.WriteString(w, open+tag+end)
	})
}

// newTemplate decodes the message for many recipients. It names no recipients itself.
func newTemplate(body jsontext.Value, l intake.Limits) (*template, error) {
	m, err := intake.DecodeForMany(body, l)
	if err != nil {
		return nil, err
	}
	t := &template{base: m.Message, limits: l, sender: m.SenderPointer, metadata: map[string]*part{}, names: map[string]bool{}, fixed: fixedBytes(m.Message)}
	c := intake.NewChecks(l)
	t.subject = t.part(c, "/subject", m.Subject, false)
	plain := m.Text
	if m.TextFromHTML {
		plain = ""
	}
	t.text, t.html = t.part(c, m.TextPointer, plain, true), t.part(c, "/content/html", m.HTML, true)
	if strings.Contains(m.Calendar.ICS, open) {
		c.Refuse("/content/calendar/ics", intake.CodeUnsupported, "variables are not filled in inside a calendar, which all recipients get alike; remove the {{, or send messages of their own")
	}
	for _, h := range m.Headers {
		t.headers = append(t.headers, t.part(c, intake.Member("/headers", h.Name), h.Value, false))
	}
	for _, name := range slices.Sorted(maps.Keys(m.Metadata)) {
		t.metadata[name] = t.part(c, intake.Member("/metadata", name), m.Metadata[name], false)
	}
	if len(t.names) > maxNames {
		c.Refuse("", intake.CodeTooMany, "the message uses more than %d variables", maxNames)
	}
	return t, c.Err()
}

// part parses one text with its placeholders. linked: it may have that of the link to unsubscribe by, which is
// filled in when the copy is sent. It ignores new variables past maxNames, for which
// newTemplate refuses the message.
func (t *template) part(c *intake.Checks, pointer, s string, linked bool) *part {
	p := &part{text: s, fixed: int64(len(s)), uses: map[string]int64{}}
	var err error
	if p.template, err = fasttemplate.NewTemplate(s, open, end); err != nil {
		c.Refuse(pointer, intake.CodeInvalid, "a {{ has no }} behind it; add it, or have a variable put the {{ in")
		return nil
	}
	_, err = p.template.ExecuteFunc(io.Discard, func(_ io.Writer, tag string) (int, error) {
		name := strings.TrimSpace(tag)
		if !VariableName.MatchString(name) {
			return 0, errVariableName
		}
		if name == unsubscribe.Name {
			if !linked {
				return 0, errLink
			}
			p.links++
			return 0, nil // it remains as it is
		}
		p.fixed -= int64(len(open) + len(tag) + len(end))
		if len(t.names) <= maxNames {
			t.names[name] = true
			p.uses[name]++
		}
		return 0, nil
	})
	switch {
	case errors.Is(err, errLink):
		c.Refuse(pointer, intake.CodeUnsupported, "%s stands in text and HTML only; remove it here", unsubscribe.Placeholder)
	case err != nil:
		c.Refuse(pointer, intake.CodeInvalidName, "between {{ and }} stands the name of a variable: 1 to 64 of the characters A-Z a-z 0-9 _ . -, no digit first")
	}
	return p
}

// The delimiters of a placeholder.
const open, end = "{{", "}}"

var (
	errVariableName = errors.New("not a variable's name")
	errLink         = errors.New("no place for a link")
)

// bytes is the size of one recipient's text and HTML, without a text made from HTML.
func (t *template) bytes(vars, escaped map[string]string) int64 {
	return t.text.size(vars) + t.html.size(escaped)
}

// stored is about the size of what is stored for one recipient's copy. A text that is made from
// HTML is estimated: the text of the message without variables, and the variables of the HTML.
func (t *template) stored(vars, escaped map[string]string) int64 {
	n := t.fixed + t.bytes(vars, escaped) + t.subject.size(vars) + int64(len(vars["email"])+len(vars["name"]))
	if t.base.TextFromHTML {
		n += int64(len(t.base.Text)) + t.html.size(escaped) - t.html.fixed
	}
	for _, h := range t.headers {
		n += h.size(vars)
	}
	for _, p := range t.metadata {
		n += p.size(vars)
	}
	return n
}

// encoded is the size of the headers of one recipient's copy that have to be taken apart to be
// encoded: they have variables, a structure, and other characters than ASCII.
func (t *template) encoded(vars map[string]string) (n int64) {
	for i, h := range t.base.Headers {
		p := t.headers[i]
		if !p.varies() || !header.Structured(h.Name) {
			continue
		}
		ascii := plaintext.ASCII(p.text)
		for name := range p.uses {
			ascii = ascii && plaintext.ASCII(vars[name])
		}
		if !ascii {
			n += p.size(vars)
		}
	}
	return n
}

// fixedBytes is the size of the parts without variables that are stored for each copy of a
// message. They are the calendar, tags, names of headers and metadata, addresses, and for each
// attachment its names and 300 bytes.
func fixedBytes(m email.Message) int64 {
	n := len(m.Calendar.ICS) + len(m.From.Email) + len(m.From.Name)
	for _, a := range m.ReplyTo {
		n += len(a.Email) + len(a.Name)
	}
	for _, tag := range m.Tags {
		n += len(tag)
	}
	for _, h := range m.Headers {
		n += len(h.Name)
	}
	for name := range m.Metadata {
		n += len(name)
	}
	for _, a := range m.Attachments {
		n += len(a.Filename) + len(a.Type) + len(a.ContentID) + 300
	}
	return int64(n)
}

// escape escapes the variables that the HTML uses.
func (t *template) escape(vars map[string]string) map[string]string {
	out := make(map[string]string, len(t.html.uses))
	for name := range t.html.uses {
		out[name] = html.EscapeString(vars[name])
	}
	return out
}

// message makes one recipient's copy. The pointers of its problems are into the
// recipient. Without textToo it leaves out the text that is made from HTML.
func (t *template) message(r recipient, textToo bool) (email.Message, error) {
	if r.refusal != nil {
		return email.Message{}, r.refusal
	}
	c := intake.NewChecks(t.limits)
	to := c.Recipient("", r.Email, r.Name)
	vars := t.variables(c, r, to)
	if err := c.Err(); err != nil {
		return email.Message{}, err
	}
	escaped := t.escape(vars)
	t.fits(c, vars, escaped)
	if err := c.Err(); err != nil {
		return email.Message{}, err
	}
	m := t.base
	m.To = []email.Address{to}
	fill := func(field string, p *part, forbidden func(string) bool) string {
		s := p.fill(vars)
		if !p.varies() || !forbidden(s) { // what does not vary was checked with the message
			return s
		}
		for _, name := range slices.Sorted(maps.Keys(p.uses)) {
			if forbidden(vars[name]) {
				c.Refuse(intake.Member("/variables", name), intake.CodeControl, "%s uses it, and cannot have line breaks or other control characters; remove them", field)
			}
		}
		return s
	}
	m.Subject = fill("the subject", t.subject, intake.Control)
	m.Headers = slices.Clone(m.Headers)
	for i, h := range m.Headers {
		if !t.headers[i].varies() { // its value was checked with the message
			continue
		}
		value := strings.TrimSpace(fill("the header "+h.Name, t.headers[i], intake.HeaderControl))
		if err := header.Check(h.Name, value); err != nil {
			c.Refuse("/variables", intake.CodeInvalid, "with these variables, the header %s is not valid: %s", h.Name, err)
		}
		m.Headers[i].Value = value
	}
	m.Metadata = maps.Clone(m.Metadata)
	for name, p := range t.metadata {
		m.Metadata[name] = p.fill(vars)
	}
	m.Text, m.HTML = t.text.fill(vars), t.html.fill(escaped)
	t.onlyOwnLinks(c, m)
	switch m.TextFromHTML = m.Text == "" && m.HTML != ""; {
	case m.Text == "" && m.HTML == "":
		c.Refuse("/variables", intake.CodeInvalid, "with these variables, text and HTML would be empty")
	case !m.TextFromHTML || !textToo:
	case len(t.html.uses) == 0 && t.base.TextFromHTML:
		m.Text = t.base.Text
	default:
		var ok bool
		if m.Text, ok = intake.TextOf(m.HTML, t.limits.MaxMessageBytes); !ok {
			c.Refuse("/variables", intake.CodeTooLong, "with these variables, "+intake.TextTooLong)
		}
	}
	return m, c.Err()
}

// onlyOwnLinks refuses variables that bring the placeholder of the link to unsubscribe by along: the message says
// where the link is.
func (t *template) onlyOwnLinks(c *intake.Checks, m email.Message) {
	for p, s := range map[*part]string{t.text: m.Text, t.html: m.HTML} {
		if p.varies() && unsubscribe.Count(s) > p.links {
			c.Refuse("/variables", intake.CodeReserved, "a variable has %s; put it into the message", unsubscribe.Placeholder)
			return
		}
	}
}

// fits refuses variables that would make a field or the message larger than its limit.
func (t *template) fits(c *intake.Checks, vars, escaped map[string]string) {
	within := func(field string, size, limit int64) {
		if size > limit {
			c.Refuse("/variables", intake.CodeTooLong, "with these variables, %s would have %d bytes, the limit is %d", field, size, limit)
		}
	}
	within("the subject", t.subject.size(vars), intake.MaxSubjectBytes)
	var headers int64
	for i, h := range t.base.Headers {
		size := t.headers[i].size(vars)
		within("the header "+h.Name, size, intake.MaxHeaderBytes)
		headers += int64(len(h.Name)) + size
	}
	within("the headers", headers, intake.MaxHeadersBytes)
	for _, name := range slices.Sorted(maps.Keys(t.metadata)) {
		within("a value of metadata", t.metadata[name].size(vars), intake.MaxMetadataBytes)
	}
	files := email.Message{Attachments: t.base.Attachments, Calendar: t.base.Calendar}
	within("text, HTML and attachments", t.bytes(vars, escaped)+files.Size(), t.limits.MaxMessageBytes)
}
