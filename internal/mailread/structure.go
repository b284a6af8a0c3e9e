package mailread

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/mailbox"
	"github.com/postrider/postrider/internal/plaintext"
)

// Limits of a message that is taken apart.
const (
	MaxDepth       = 20      // multiparts in multiparts
	MaxParts       = 500     // the message itself is one
	MaxHeaderBytes = 1 << 20 // of the message and of each part
)

// Part is a message or a part of one.
type Part struct {
	// Header has the first Content-Type, -Disposition, -Transfer-Encoding and -ID, each up to 64 KiB.
	Header []Field

	// Type is the media type in lower case, "text/plain" where there is none that can
	// be read (RFC 2045 §5.2).
	Type string
	// Charset is the declared charset, empty where there is none.
	Charset string
	// Disposition is "attachment", "inline" or empty. An unknown one is "attachment"
	// (RFC 2183 §2.8).
	Disposition string
	// Filename is as the sender gave it, decoded, path and all, in valid UTF-8.
	Filename string

	// Raw is the content before its transfer encoding is undone, without the line end
	// that belongs to the next delimiter. It is a slice of the message.
	Raw []byte
	// cr: its lines ended in CR alone, see Lines.
	cr bool
	// Children are the parts of a multipart. A multipart in which no delimiter
	// occurs is a leaf of text.
	Children []*Part
}

// Message is a message taken apart.
type Message struct {
	*Part
	// Problems say in English what is broken, each once.
	Problems []string
}

// Decode undoes the transfer encoding, and hands the content on in pieces that are only
// valid until to returns. problem says what could not be read.
func (p *Part) Decode(to func(piece []byte)) (problem string) {
	t := transfer{encoding: encodingName(First(p.Header, "Content-Transfer-Encoding")), isText: strings.HasPrefix(p.Type, "text/"), cr: p.cr}
	return t.decode(p.Raw, to)
}

// Content is the first max bytes of the content, and the size of all of it. It may be a
// slice of the message.
func (p *Part) Content(max int) (content []byte, size int64, problem string) {
	problem = p.Decode(func(piece []byte) {
		size += int64(len(piece))
		piece = piece[:min(len(piece), max-len(content))]
		if content == nil && len(piece) > pieceBytes { // not decoded
			content = piece[:len(piece):len(piece)]
			return
		}
		if content == nil && len(piece) > 0 {
			content = make([]byte, 0, min(2*len(p.Raw), max)) // twice if CRLF comes of LF
		}
		content = append(content, piece...)
	})
	return content, size, problem
}

// Leaves calls visit for every part without children, in order.
func (p *Part) Leaves(visit func(*Part)) {
	if len(p.Children) == 0 {
		visit(p)
	}
	for _, c := range p.Children {
		c.Leaves(visit)
	}
}

// level is an open multipart.
type level struct {
	part  *Part
	delim []byte // "--" and the boundary
	begin int    // of its content
	seen  bool   // a delimiter
}

type state int

const (
	inHeader state = iota
	inBody
	inBetween // preamble and epilogue: programs ignore them (RFC 2046 §5.1.1)
)

type opener struct {
	raw      []byte
	cr       bool
	deadline time.Time

	root     *Part
	parts    int
	levels   []level
	current  *Part
	state    state
	begin    int // of the header or body of current
	problems []string
}

// Open takes a message apart in one pass over its lines; raw and cr are of Lines. Of the
// message it makes little more than slices, however many fields and parameters there are.
// The delimiter of an outer part, or the end, closes the parts that are still open.
// Errors: mailbox.ErrTooComplex beyond the limits, mailbox.ErrTooSlow at the
// deadline.
func Open(raw []byte, cr bool, deadline time.Time) (*Message, error) {
	o := &opener{raw: raw, cr: cr, deadline: deadline}
	if err := o.add(nil, "text/plain", 0); err != nil {
		return nil, err
	}
	o.root = o.current
	if err := o.run(); err != nil {
		return nil, err
	}
	return &Message{Part: o.root, Problems: o.problems}, nil
}

func (o *opener) run() error {
	for at, n := 0, 0; at < len(o.raw); n++ {
		if n%1024 == 0 && !time.Now().Before(o.deadline) {
			return mailbox.ErrTooSlow
		}
		next := lineEnd(o.raw, at)
		line := o.raw[at:next]
		if bytes.HasPrefix(line, []byte("--")) {
			again, err := o.dashes(line, at, next)
			if err != nil {
				return err
			}
			if at = next; again >= 0 {
				at = again
			}
			continue
		}
		if o.state == inHeader {
			if next-o.begin > MaxHeaderBytes {
				return fmt.Errorf("header of more bytes than the limit %d: %w", MaxHeaderBytes, mailbox.ErrTooComplex)
			}
			if isBlank(line) {
				again, err := o.endHeader(next)
				if err != nil {
					return err
				}
				next = again
			}
		}
		at = next
	}
	if !time.Now().Before(o.deadline) {
		return mailbox.ErrTooSlow
	}
	return o.end()
}

// dashes handles a line that begins with "--". again is where reading goes on,
// -1 for the next line.
func (o *opener) dashes(line []byte, at, next int) (again int, err error) {
	i, closes := o.delimiter(line)
	if i < 0 {
		if _, _, isField := splitField(line); o.state != inHeader || isField || at == o.begin {
			return -1, nil
		}
		return o.endHeader(at) // a delimiter, perhaps, without the empty line before it
	}
	if o.state == inHeader && at > o.begin {
		// The part ends in its header. That header may show that a multipart begins.
		again, err := o.endHeader(at)
		if err != nil || again < at {
			return again, err
		}
		if i2, _ := o.delimiter(line); i2 != i {
			return at, nil
		}
	}
	if err := o.finish(at); err != nil {
		return 0, err
	}
	o.pop(i+1, at)
	l := &o.levels[i]
	l.seen = true
	if closes {
		o.levels, o.state = o.levels[:i], inBetween
		return -1, nil
	}
	kind := "text/plain"
	if l.part.Type == "multipart/digest" {
		kind = "message/rfc822" // RFC 2046 §5.1.5
	}
	return -1, o.add(l.part, kind, next)
}

// add begins a part at an offset.
func (o *opener) add(parent *Part, kind string, begin int) error {
	if o.parts++; o.parts > MaxParts {
		return fmt.Errorf("more than %d parts: %w", MaxParts, mailbox.ErrTooComplex)
	}
	o.current = &Part{Type: kind, cr: o.cr}
	if parent != nil {
		parent.Children = append(parent.Children, o.current)
	}
	o.state, o.begin = inHeader, begin
	return nil
}

// delimiter is the index of the open multipart whose delimiter a line is, the
// innermost first; -1 for none (RFC 2046 §5.1.1).
func (o *opener) delimiter(line []byte) (i int, closes bool) {
	line = bytes.TrimRight(line, "\r\n \t")
	for i := len(o.levels) - 1; i >= 0; i-- {
		if rest, ok := bytes.CutPrefix(line, o.levels[i].delim); ok && (len(rest) == 0 || string(rest) == "--") {
			return i, len(rest) > 0
		}
	}
	return -1, false
}

// pop leaves n levels open; at is where the others end.
func (o *opener) pop(n, at int) {
	for len(o.levels) > n {
		l := o.levels[len(o.levels)-1]
		o.levels = o.levels[:len(o.levels)-1]
		if l.seen {
			o.problem("structure: a multipart has no end")
			continue
		}
		o.problem("structure: a multipart has no parts")
		l.part.Type, l.part.Raw = "text/plain", trimLineEnd(o.raw[l.begin:max(at, l.begin)])
	}
}

func (o *opener) problem(s string) {
	for _, had := range o.problems {
		if had == s {
			return
		}
	}
	o.problems = append(o.problems, s)
}

// endHeader reads the header that ends before the offset body, and says where the
// content begins.
func (o *opener) endHeader(body int) (int, error) {
	p := o.current
	list, n, odd := scanFields(o.raw[o.begin:body], firstOf(partFields...))
	for i := range list {
		list[i].Value = list[i].Value[:min(len(list[i].Value), maxFieldBytes)]
	}
	if odd {
		o.problem("header: some lines are no header fields")
	}
	body = o.begin + n
	p.Header = list
	o.state, o.begin = inBody, body
	boundary := o.describe(p)
	if !strings.HasPrefix(p.Type, "multipart/") {
		return body, nil
	}
	boundary = strings.TrimRight(boundary, " \t")
	if boundary == "" || !o.delimits(boundary, body) {
		if guess := o.guessBoundary(body); guess != "" {
			boundary = guess
		}
	}
	if boundary == "" {
		o.problem("structure: a multipart without a boundary")
		p.Type = "text/plain"
		return body, nil
	}
	switch encodingName(First(list, "Content-Transfer-Encoding")) {
	case "", "7bit", "8bit", "binary":
	default: // RFC 2045 §6.4 forbids it, and no program encodes the parts once more
		o.problem("structure: a multipart with a transfer encoding")
	}
	if len(o.levels) == MaxDepth {
		return 0, fmt.Errorf("more than %d levels of parts: %w", MaxDepth, mailbox.ErrTooComplex)
	}
	o.levels = append(o.levels, level{part: p, delim: []byte("--" + boundary), begin: body})
	o.state, o.current = inBetween, nil
	return body, nil
}

// within is how far into a multipart its first delimiter is looked for, in bytes.
const within = 16 << 10

// delimits says whether a boundary's delimiter is at the start of a multipart.
func (o *opener) delimits(boundary string, at int) bool {
	block, delim := o.raw[at:min(len(o.raw), at+within)], []byte("--"+boundary)
	return bytes.HasPrefix(block, delim) || bytes.Contains(block, append([]byte("\n"), delim...))
}

// guessBoundary looks for a delimiter line at the start of a multipart that names
// none, or another than it uses: the first line that begins with "--" and has a field of a part behind it.
func (o *opener) guessBoundary(at int) string {
	block := o.raw[at:min(len(o.raw), at+within)]
	for at := 0; at < len(block); {
		next := lineEnd(block, at)
		line := bytes.TrimRight(block[at:next], "\r\n \t")
		if bytes.HasPrefix(line, []byte("--")) {
			if i, _ := o.delimiter(line); i >= 0 {
				return ""
			}
			if len(line) > 2 && hasPrefixFold(block[next:], "Content-") {
				return string(line[2:])
			}
		}
		at = next
	}
	return ""
}

func hasPrefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && strings.EqualFold(string(b[:len(prefix)]), prefix)
}

// finish ends the part that is being read at an offset.
func (o *opener) finish(at int) error {
	if o.current == nil {
		return nil
	}
	if o.state == inHeader {
		if _, err := o.endHeader(at); err != nil || o.current == nil {
			return err
		}
	}
	if o.state == inBody {
		o.current.Raw = o.raw[min(o.begin, at):at]
		if o.current != o.root {
			o.current.Raw = trimLineEnd(o.current.Raw)
		}
	}
	o.current = nil
	return nil
}

func (o *opener) end() error {
	if err := o.finish(len(o.raw)); err != nil {
		return err
	}
	o.pop(0, len(o.raw))
	return nil
}

func trimLineEnd(b []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
}

// partFields are those that are read of a part, and maxFieldBytes how much of each.
var partFields = []string{"Content-Type", "Content-Disposition", "Content-Transfer-Encoding", "Content-ID"}

const maxFieldBytes = 64 << 10

// firstOf wants the first field of each name, in any case.
func firstOf(names ...string) (wanted func(name []byte) bool) {
	had := make([]bool, len(names))
	return func(name []byte) bool {
		for i, n := range names {
			if !had[i] && len(n) == len(name) && hasPrefixFold(name, n) {
				had[i] = true
				return true
			}
		}
		return false
	}
}

// describe reads what the header says of a part, and the boundary of a multipart. The part
// keeps no long text.
func (o *opener) describe(p *Part) (boundary string) {
	disposition, dparams := Params(First(p.Header, "Content-Disposition"))
	token, params := Params(First(p.Header, "Content-Type"))
	p.Charset = kept(strings.Trim(params["charset"].Value, `"' `))
	for _, name := range []Param{dparams["filename"], dparams["name"], params["name"], params["filename"]} {
		if p.Filename = kept(filenameOf(name)); p.Filename != "" {
			break
		}
	}
	switch {
	case disposition == "" && dparams["filename"].Value != "":
		p.Disposition = "attachment"
	case disposition == "" || disposition == "inline" || disposition == "attachment":
		p.Disposition = disposition
	default:
		p.Disposition = "attachment"
	}
	major, minor, ok := strings.Cut(token, "/")
	switch {
	case token == "":
		// the default stays
	case ok && major != "" && minor != "" && !strings.ContainsAny(token, " \t\"<>@,"):
		p.Type = kept(token)
	case p.Filename != "":
		p.Type = "application/octet-stream" // RFC 2046 §4.5.1; as text its name would be lost
	default:
		p.Type = "text/plain"
	}
	return params["boundary"].Value
}

// keptBytes is how much of a name a part keeps. A longer text is no name.
const keptBytes = 4 << 10

func kept(s string) string { return strings.Clone(plaintext.Cut(s, keptBytes)) }

// filenameOf decodes RFC 2047 words, which do not belong in a parameter (§5) and
// are there all the same.
func filenameOf(p Param) string {
	if p.Extended {
		return p.Value
	}
	return Words(p.Value, "")
}
