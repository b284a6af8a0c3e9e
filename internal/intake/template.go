package intake

import (
	"errors"
	"fmt"
	"html"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/valyala/fasttemplate"

	"github.com/postrider/postrider/email"
)

// Limits of a recipient's variables.
const (
	maxVariables     = 50
	maxVariableBytes = 8192
)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,63}$`)

// template is a message with places for variables, {{name}}, in its subject, text,
// HTML, and in the values of headers and metadata. HTML gets them escaped.
type template struct {
	body   []byte
	base   email.Message
	limits Limits
	// bytes is the size of one copy's texts, without what is put in.
	bytes int64

	subject, text, html *fasttemplate.Template
	headers             []*fasttemplate.Template
	metadata            map[string]*fasttemplate.Template
	// names are those the message uses.
	names []string
}

// standIn takes the place of the recipient while the message itself is checked.
const standIn = "stand.in@example.com"

// newTemplate reads the message that many are to get: it names no recipients.
func newTemplate(body jsontext.Value, l Limits) (*template, error) {
	var req request
	if err := unmarshal(body, &req, l.IgnoreUnknown); err != nil {
		return nil, err
	}
	c := &checker{limits: l}
	for _, list := range []struct {
		pointer string
		named   bool
	}{{"/to", req.To != nil}, {"/destinations", req.Dest != nil}, {"/cc", req.Cc != nil}, {"/bcc", req.Bcc != nil}} {
		if list.named {
			c.refuse(list.pointer, codeUnsupported, "a batch's message names no recipients: each of recipients gets a copy of its own; remove it")
		}
	}
	for i, a := range req.Attachments {
		if a.URL != nil || text(a.ReferenceType) == string(email.ReferenceRecording) {
			c.refuse(fmt.Sprintf("/attachments/%d", i), codeUnsupported, "it would be fetched once for every recipient: upload it with POST /v1.0/files, and refer to that")
		}
	}
	if err := c.refused(); err != nil {
		return nil, err
	}
	to := standIn
	req.To = &[]address{{Email: &to}}
	m, err := normalize(req, l)
	if err != nil {
		return nil, err
	}
	t := &template{body: body, base: m, limits: l, bytes: max(1, int64(len(m.Text)+len(m.HTML))), metadata: map[string]*fasttemplate.Template{}}
	c = &checker{limits: l}
	t.subject = t.part(c, "/subject", m.Subject)
	if !m.TextFromHTML {
		t.text = t.part(c, "/content/text", m.Text)
	}
	t.html = t.part(c, "/content/html", m.HTML)
	for _, h := range m.Headers {
		t.headers = append(t.headers, t.part(c, member("/headers", h.Name), h.Value))
	}
	for _, name := range slices.Sorted(maps.Keys(m.Metadata)) {
		t.metadata[name] = t.part(c, member("/metadata", name), m.Metadata[name])
	}
	return t, c.refused()
}

// part reads one text with its variables.
func (t *template) part(c *checker, pointer, s string) *fasttemplate.Template {
	p, err := fasttemplate.NewTemplate(s, "{{", "}}")
	if err != nil {
		c.refuse(pointer, codeInvalid, "a {{ has no }} behind it")
		return nil
	}
	_, err = p.ExecuteFunc(io.Discard, func(_ io.Writer, tag string) (int, error) {
		name := strings.TrimSpace(tag)
		if !variableName.MatchString(name) {
			return 0, errVariableName
		}
		if !slices.Contains(t.names, name) {
			t.names = append(t.names, name)
		}
		return 0, nil
	})
	if err != nil {
		c.refuse(pointer, codeInvalidName, "between {{ and }} stands the name of a variable: 1 to 64 of the characters A-Z a-z 0-9 _ . -, no digit first")
	}
	return p
}

var errVariableName = errors.New("not a variable's name")

// message makes one recipient's copy. The pointers of its problems are into the
// recipient.
func (t *template) message(r recipient) (email.Message, error) {
	c := &checker{limits: t.limits}
	m := t.base
	to := c.address("", address{Email: r.Email, Name: r.Name})
	vars := t.variables(c, r, to)
	if err := c.refused(); err != nil {
		return m, err
	}
	m.To = []email.Address{to}
	var problems []string
	fill := func(p *fasttemplate.Template, escape func(string) string) string {
		return p.ExecuteFuncString(func(w io.Writer, tag string) (int, error) {
			return io.WriteString(w, escape(vars[strings.TrimSpace(tag)]))
		})
	}
	plain := func(s string) string { return s }
	filled := func(what, s string, limit int) string {
		if control(s) {
			problems = append(problems, what+" would have line breaks or other control characters")
		} else if len(s) > limit {
			problems = append(problems, fmt.Sprintf("%s would have %d bytes, the limit is %d", what, len(s), limit))
		}
		return s
	}
	m.Subject = filled("the subject", fill(t.subject, plain), maxSubject)
	m.HTML = fill(t.html, html.EscapeString)
	if m.TextFromHTML {
		m.Text = textOf(m.HTML)
	} else {
		m.Text = fill(t.text, plain)
	}
	m.Headers = slices.Clone(m.Headers)
	for i := range m.Headers {
		m.Headers[i].Value = filled("the header "+m.Headers[i].Name, fill(t.headers[i], plain), maxHeaderValue)
	}
	if len(m.Metadata) > 0 {
		m.Metadata = maps.Clone(m.Metadata)
		for name, p := range t.metadata {
			if m.Metadata[name] = fill(p, plain); len(m.Metadata[name]) > maxMetadataValue {
				problems = append(problems, fmt.Sprintf("a value of metadata would have more than %d bytes", maxMetadataValue))
			}
		}
	}
	if size := m.Size(); size > t.limits.MaxMessageBytes {
		problems = append(problems, fmt.Sprintf("the message would have %d bytes, the limit is %d", size, t.limits.MaxMessageBytes))
	}
	slices.Sort(problems)
	for _, p := range problems {
		c.refuse("/variables", codeInvalid, "with these variables %s", p)
	}
	return m, c.refused()
}

// variables are the recipient's own, and email and name where it sets none of that
// name. Every one that the message uses has to be there.
func (t *template) variables(c *checker, r recipient, to email.Address) map[string]string {
	if len(r.Variables) > maxVariables {
		c.refuse("/variables", codeTooMany, "there are %d variables, the limit is %d", len(r.Variables), maxVariables)
		return nil
	}
	vars := map[string]string{"email": to.Email}
	if to.Name != "" {
		vars["name"] = to.Name
	}
	for _, name := range slices.Sorted(maps.Keys(r.Variables)) {
		pointer, v := member("/variables", name), r.Variables[name]
		switch {
		case !variableName.MatchString(name):
			c.refuse("/variables", codeInvalidName, "a variable's name has 1 to 64 of the characters A-Z a-z 0-9 _ . -, no digit first")
		case v == nil:
			c.refuse(pointer, codeWrongType, "the value has the wrong type; give a string")
		case strings.ContainsRune(*v, 0):
			c.refuse(pointer, codeControl, "remove the NUL characters")
		case len(*v) > maxVariableBytes:
			c.refuse(pointer, codeTooLong, "the value has %d bytes, the limit is %d", len(*v), maxVariableBytes)
		default:
			vars[name] = *v
		}
	}
	for _, name := range t.names {
		if _, ok := vars[name]; !ok {
			c.refuse(member("/variables", name), codeMissing, "the message uses this variable; give its value, which may be empty")
		}
	}
	return vars
}
