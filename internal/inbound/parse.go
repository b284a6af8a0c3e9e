package inbound

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/postrider/postrider/internal/mailbox"
	"github.com/postrider/postrider/internal/mailread"
	"github.com/postrider/postrider/internal/plaintext"
)

// Caps of reading. A message beyond them is stored and served raw all the same.
const (
	maxShownText     = 2 << 20 // of text and HTML each
	maxProblems      = 20
	maxFilenameBytes = 255
	parseTimeout     = 5 * time.Second
)

// Parser is Parse and Attachment as methods, for callers that take an interface.
type Parser struct {
	// Timeout is how long it reads a message; 0 is 5 seconds.
	Timeout time.Duration
}

// Parse is the function of this name.
func (p Parser) Parse(raw []byte) (mailbox.Parsed, error) { return parseBy(raw, p.deadline()) }

// Attachment is the function of this name.
func (p Parser) Attachment(raw []byte, index int) (mailbox.Part, []byte, error) {
	return attachmentBy(raw, index, p.deadline())
}

func (p Parser) deadline() time.Time { return time.Now().Add(cmp.Or(p.Timeout, parseTimeout)) }

// Parse reads a message for people, and may change raw. Beside raw it takes at most 40 MiB
// of memory, and for a small message about three times its size. Problems lists all that
// is wrong with the message. The only error is mailbox.ErrTooSlow, after 5 seconds; the headers
// are returned then. Parse keeps at most 2 MiB of text and of HTML. Of a message of more
// than 500 parts or 20 levels it keeps the headers alone.
//
// Text and HTML are the text/plain and text/html parts that are not declared
// attachments, each kind joined by CRLF in the message's order. Every other part
// is an attachment, and no part is both.
func Parse(raw []byte) (mailbox.Parsed, error) { return Parser{}.Parse(raw) }

// Attachment reads one attachment by the index that Parse gave it, and may change raw. The
// content is a slice of raw where it has at least half of raw's size, and else may be a copy:
// a small attachment does not keep a large message in memory. It has at most as many bytes
// as raw, or twice as many if lines end in CR alone. Errors to tell apart:
// mailbox.ErrNoAttachment, ErrTooComplex, ErrTooSlow.
func Attachment(raw []byte, index int) (mailbox.Part, []byte, error) {
	return Parser{}.Attachment(raw, index)
}

// attachmentBy is Attachment. A reader that panics on a message has found it too
// complex.
func attachmentBy(raw []byte, index int, deadline time.Time) (part mailbox.Part, content []byte, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("parser gave up: %v: %w", fault, mailbox.ErrTooComplex)
		}
	}()
	lines, cr := mailread.Lines(raw)
	m, err := mailread.Open(lines, cr, deadline)
	if err != nil {
		return mailbox.Part{}, nil, err
	}
	_, parts := split(m)
	if index < 0 || index >= len(parts) {
		return mailbox.Part{}, nil, fmt.Errorf("attachment %d of %d: %w", index, len(parts), mailbox.ErrNoAttachment)
	}
	part, _ = describe(index, parts[index])
	content, _, _ = parts[index].Content(int(part.Size))
	if len(content) < len(raw)/2 {
		content = bytes.Clone(content) // of a large message a small part would keep all
	}
	return part, content, nil
}

// problems collects what could not be read, each sentence once.
type problems []string

func (p *problems) add(format string, v ...any) {
	s := plaintext.Valid(fmt.Sprintf(format, v...))
	if len(*p) < maxProblems && !slices.Contains(*p, s) {
		*p = append(*p, s)
	}
}

func parseBy(raw []byte, deadline time.Time) (p mailbox.Parsed, err error) {
	var found problems
	defer func() {
		if fault := recover(); fault != nil {
			found.add("parser gave up: %v", fault)
		}
		p.Problems = found
	}()
	raw, cr := mailread.Lines(raw)
	h := readHeader(raw)
	p.Headers = h.shown
	if h.odd {
		found.add("header: some lines are no header fields")
	}
	if h.capped {
		found.add("header: too many or too long fields to show all")
	}
	readFields(&p, h, &found)

	m, err := mailread.Open(raw, cr, deadline)
	switch {
	case errors.Is(err, mailbox.ErrTooSlow):
		return p, err
	case err != nil:
		found.add("%s", strings.ReplaceAll(err.Error(), "mailbox: ", ""))
		return p, nil
	}
	for _, s := range m.Problems {
		found.add("%s", s)
	}
	bodies, parts := split(m)
	text, html := shown{name: "text"}, shown{name: "html"}
	for _, part := range bodies {
		if !time.Now().Before(deadline) {
			return p, mailbox.ErrTooSlow
		}
		if part.Type == "text/html" {
			html.add(part, &found)
		} else {
			text.add(part, &found)
		}
	}
	p.Text, p.HTML = text.String(&found), html.String(&found)
	for i, part := range parts {
		if !time.Now().Before(deadline) {
			p.Attachments = nil
			return p, mailbox.ErrTooSlow
		}
		attachment, problem := describe(i, part)
		if problem != "" {
			found.add("%s", problem)
		}
		p.Attachments = append(p.Attachments, attachment)
	}
	return p, nil
}

// readFields reads the structured header fields. Addresses are read from the
// field as written: decoded first, a comma in a name would part it in two.
func readFields(p *mailbox.Parsed, h header, found *problems) {
	p.Subject = plaintext.Line(first(p.Headers, "Subject"), maxShownHeaderBytes)
	p.MessageID = messageID(first(p.Headers, "Message-ID"))
	if p.Date = first(p.Headers, "Date"); p.Date != "" {
		at, problem := mailread.Date(p.Date)
		if p.DatedAt = at; at.IsZero() {
			problem = "not a date"
		}
		if problem != "" {
			found.add("Date: %s", problem)
		}
	}
	for _, f := range []struct {
		name   string
		into   *[]mailbox.Address
		sender bool
	}{{"From", &p.From, true}, {"To", &p.To, false}, {"Cc", &p.Cc, false}, {"Reply-To", &p.ReplyTo, true}} {
		value, read := h.all(f.name), mailread.Addresses
		if f.sender {
			read = mailread.Sender
		}
		list, bad := read(value, h.charset)
		for i, a := range list {
			list[i] = mailbox.Address{Name: plaintext.Line(a.Name, maxShownHeaderBytes), Email: plaintext.Line(a.Email, maxShownHeaderBytes)}
		}
		*f.into = list
		switch {
		case bad > 0 && len(list) == 0, value == "<>", value != "" && len(list) == 0 && !strings.Contains(value, ":"):
			found.add("%s: not a list of addresses", f.name)
		case bad > 0:
			found.add("%s: %d of its entries cannot be read as addresses", f.name, bad)
		}
	}
}

// split tells the message's text from its attachments, each in order.
func split(m *mailread.Message) (bodies, attachments []*mailread.Part) {
	m.Leaves(func(p *mailread.Part) {
		switch {
		case strings.HasPrefix(p.Type, "multipart/"): // without parts
		case (p.Type == "text/plain" || p.Type == "text/html") && p.Disposition != "attachment":
			bodies = append(bodies, p)
		default:
			attachments = append(attachments, p)
		}
	})
	return bodies, attachments
}

// shown puts the bodies of one kind together, up to maxShownText.
type shown struct {
	name string
	text strings.Builder
	size int64 // of all the content
	cut  bool  // not all of it is shown
}

func (s *shown) add(p *mailread.Part, found *problems) {
	// No charset takes more than four bytes for a character that is one in UTF-8.
	left := maxShownText - s.text.Len()
	content, size, problem := p.Content(4 * max(left, 0))
	if problem != "" {
		found.add("%s", problem)
	}
	s.size += size
	if size == 0 {
		return
	}
	if int64(len(content)) < size {
		s.cut = true
		content = mailread.Head(content, max(len(content)-1, 0)) // no half character at its end
	}
	if len(content) == 0 {
		return
	}
	charset := p.Charset
	if charset == "" && p.Type == "text/html" && !utf8.Valid(content) {
		charset = mailread.MetaCharset(content)
	}
	text, problem, cut := mailread.TextUpTo(content, charset, left+utf8.UTFMax)
	s.cut = s.cut || cut
	if problem != "" {
		found.add("%s", problem)
	}
	if so := s.text.String(); so != "" && !strings.HasSuffix(so, "\n") {
		s.text.WriteString("\r\n")
	}
	s.text.WriteString(text)
}

func (s *shown) String(found *problems) string {
	text := plaintext.Valid(s.text.String())
	if len(text) > maxShownText {
		text, s.cut = strings.Clone(plaintext.Cut(text, maxShownText)), true
	}
	if s.cut {
		found.add("%s: %d bytes, of which the first %d are shown", s.name, s.size, len(text))
	}
	return text
}

func describe(index int, p *mailread.Part) (part mailbox.Part, problem string) {
	digest, size := sha256.New(), int64(0)
	problem = p.Decode(func(piece []byte) {
		size += int64(len(piece))
		digest.Write(piece) // a hash never fails
	})
	return mailbox.Part{
		Index: index, Filename: filename(p.Filename), Type: plaintext.Line(p.Type, maxFilenameBytes),
		ContentID:   plaintext.Line(messageID(mailread.First(p.Header, "Content-ID")), maxFilenameBytes),
		Disposition: p.Disposition,
		Size:        size, SHA256: hex.EncodeToString(digest.Sum(nil)),
	}, problem
}

// filename keeps the last element of what may be a path of any system.
func filename(name string) string {
	name = path.Base(strings.ReplaceAll(plaintext.Line(name, 4*maxFilenameBytes), `\`, "/"))
	if name == "." || name == ".." || name == "/" {
		return ""
	}
	return plaintext.Cut(name, maxFilenameBytes)
}
