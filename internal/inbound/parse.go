package inbound

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"net/mail"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/jhillyerd/enmime/v2"

	"github.com/postrider/postrider/internal/mailbox"
)

// Caps of reading. A message beyond them is stored and served raw all the same.
const (
	maxShownText     = 2 << 20 // of text and HTML each
	maxProblems      = 20
	maxFilenameBytes = 255
	parseTimeout     = 5 * time.Second
)

// Parser is Parse and Attachment for whoever wants them as an interface.
type Parser struct{}

// Parse is the function of this name.
func (Parser) Parse(raw []byte) (mailbox.Parsed, error) { return Parse(raw) }

// Attachment is the function of this name.
func (Parser) Attachment(raw []byte, index int) (mailbox.Part, []byte, error) {
	return Attachment(raw, index)
}

// Parse reads a message for people. Whatever is wrong with it ends up in
// Problems; the only error is mailbox.ErrTooSlow, after 5 seconds, and then
// the headers are there. It keeps at most 2 MiB of text and of HTML, and of a
// message of more than 500 parts or 20 levels the headers alone.
func Parse(raw []byte) (mailbox.Parsed, error) { return parseBy(raw, time.Now().Add(parseTimeout)) }

// Attachment reads one attachment by the index that Parse gave it. Errors to
// tell apart: mailbox.ErrNoAttachment, ErrTooComplex, ErrTooSlow.
func Attachment(raw []byte, index int) (mailbox.Part, []byte, error) {
	env, err := open(raw, time.Now().Add(parseTimeout))
	if err != nil {
		return mailbox.Part{}, nil, err
	}
	parts := attachments(env)
	if index < 0 || index >= len(parts) {
		return mailbox.Part{}, nil, fmt.Errorf("attachment %d of %d: %w", index, len(parts), mailbox.ErrNoAttachment)
	}
	return describe(index, parts[index]), parts[index].Content, nil
}

func parseBy(raw []byte, deadline time.Time) (mailbox.Parsed, error) {
	var p mailbox.Parsed
	problem := func(format string, v ...any) {
		if len(p.Problems) < maxProblems {
			p.Problems = append(p.Problems, valid(fmt.Sprintf(format, v...)))
		}
	}
	var complete bool
	if p.Headers, complete = headers(raw); !complete {
		problem("header: some lines are no header fields or too many to show")
	}
	readFields(&p, raw, problem)

	env, err := open(raw, deadline)
	switch {
	case errors.Is(err, mailbox.ErrTooSlow):
		return p, err
	case err != nil:
		problem("%s", strings.TrimPrefix(err.Error(), "mailbox: "))
		return p, nil
	}
	p.Text, p.HTML = valid(env.Text), valid(env.HTML)
	for _, b := range []struct {
		name string
		body *string
	}{{"text", &p.Text}, {"html", &p.HTML}} {
		if n := len(*b.body); n > maxShownText {
			*b.body = cut(*b.body, maxShownText)
			problem("%s: %d bytes, of which the first %d are shown", b.name, n, maxShownText)
		}
	}
	for i, part := range attachments(env) {
		p.Attachments = append(p.Attachments, describe(i, part))
	}
	for _, e := range env.Errors {
		if e.Name == enmime.ErrorMissingContentType {
			continue // it is text then, as RFC 2045 §5.2 has it
		}
		problem("%s: %s", strings.ToLower(e.Name), cut(valid(e.Detail), 200))
	}
	return p, nil
}

// readFields reads the structured header fields. Addresses are parsed from the
// field as written: decoded first, a comma in a name would part it in two.
func readFields(p *mailbox.Parsed, raw []byte, problem func(string, ...any)) {
	p.Subject = first(p.Headers, "Subject")
	p.MessageID = messageID(first(p.Headers, "Message-ID"))
	if p.Date = first(p.Headers, "Date"); p.Date != "" {
		if at, err := mail.ParseDate(p.Date); err == nil {
			p.DatedAt = at.UTC()
		} else {
			problem("Date: not a date")
		}
	}
	for _, f := range []struct {
		name string
		into *[]mailbox.Address
	}{{"From", &p.From}, {"To", &p.To}, {"Cc", &p.Cc}, {"Reply-To", &p.ReplyTo}} {
		list, ok := addresses(rawField(raw, f.name))
		if *f.into = list; !ok {
			problem("%s: not a list of addresses", f.name)
		}
	}
}

// rawField is the first field of a name, unfolded but not decoded.
func rawField(raw []byte, name string) string {
	block := raw[:min(headerEnd(raw), maxShownHeaderBytes)]
	for len(block) > 0 {
		var field []byte
		field, block = nextField(block)
		if n, value, ok := bytes.Cut(field, []byte(":")); ok && strings.EqualFold(string(bytes.TrimRight(n, " \t")), name) {
			return unfold(value)
		}
	}
	return ""
}

// open takes a message apart after measuring it. A parser that panics on a
// message has found it too complex.
func open(raw []byte, deadline time.Time) (env *enmime.Envelope, err error) {
	defer func() {
		if p := recover(); p != nil {
			env, err = nil, fmt.Errorf("parser gave up: %v: %w", p, mailbox.ErrTooComplex)
		}
	}()
	m, err := measure(raw, deadline)
	if err != nil {
		return nil, err
	}
	parser := enmime.NewParser(
		enmime.MaxStoredPartErrors(maxProblems), enmime.DisableTextConversion(true), enmime.SkipMalformedParts(true),
		enmime.SetReadPartErrorPolicy(func(*enmime.Part, error) bool { return true }), // half a part is better than none
		enmime.MultipartWOBoundaryAsSinglePart(true), enmime.SetCustomParseMediaType(mediaType),
	)
	root, err := parser.ReadParts(timed(m.reader(raw), deadline))
	if err == nil {
		for _, p := range root.DepthMatchAll(func(p *enmime.Part) bool { return p.ContentType == "" && p.FirstChild == nil }) {
			p.ContentType = "text/plain" // RFC 2045 §5.2; enmime would show it nowhere
		}
		env, err = parser.EnvelopeFromPart(root)
	}
	if !time.Now().Before(deadline) {
		return nil, mailbox.ErrTooSlow
	}
	if err != nil {
		return nil, fmt.Errorf("structure: %s: %w", cut(valid(err.Error()), 200), mailbox.ErrTooComplex)
	}
	if m.broken != nil {
		env.Errors = append(env.Errors, &enmime.Error{Name: "structure", Detail: m.broken.Error()})
	}
	return env, nil
}

// mediaType is enmime's notion of Content-Type, made as strict as that of
// measure: what counted as one part there must not turn out as many here.
func mediaType(value string) (mtype string, params map[string]string, invalid []string, err error) {
	mtype, params, err = mime.ParseMediaType(value)
	if err == nil {
		return mtype, params, nil, nil
	}
	mtype, _, _ = strings.Cut(value, ";")
	mtype = strings.ToLower(strings.TrimSpace(mtype))
	if kind, sub, ok := strings.Cut(mtype, "/"); !ok || kind == "" || sub == "" || kind == "multipart" {
		mtype = "text/plain" // RFC 2045 §5.2
	}
	return mtype, map[string]string{}, []string{value}, nil
}

// attachments are the parts that are not the message's text, in their order.
// enmime's own lists leave out some types, message/rfc822 among them.
func attachments(env *enmime.Envelope) []*enmime.Part {
	if env.Root == nil {
		return nil
	}
	listed := map[*enmime.Part]bool{}
	for _, p := range slices.Concat(env.Attachments, env.Inlines, env.OtherParts) {
		listed[p] = true
	}
	return env.Root.DepthMatchAll(func(p *enmime.Part) bool {
		switch kind := strings.ToLower(p.ContentType); {
		case listed[p]:
			return true
		case p.FirstChild != nil, kind == "", kind == "text/plain", kind == "text/html":
			return false
		default:
			return !strings.HasPrefix(kind, "multipart/")
		}
	})
}

func describe(index int, p *enmime.Part) mailbox.Part {
	digest := sha256.Sum256(p.Content)
	return mailbox.Part{
		Index: index, Filename: filename(p.FileName), Type: clean(strings.ToLower(p.ContentType), maxFilenameBytes),
		ContentID:   clean(messageID(p.ContentID), maxFilenameBytes),
		Disposition: clean(strings.ToLower(p.Disposition), maxFilenameBytes),
		Size:        int64(len(p.Content)), SHA256: hex.EncodeToString(digest[:]),
	}
}

// filename keeps the last element of what may be a path of any system.
func filename(name string) string {
	name = path.Base(strings.ReplaceAll(clean(name, 4*maxFilenameBytes), `\`, "/"))
	if name == "." || name == ".." || name == "/" {
		return ""
	}
	return cut(name, maxFilenameBytes)
}
