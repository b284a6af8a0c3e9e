// Package render makes the bytes of a message, the same for every attempt.
//
//  1. The caller gives the values that no rendering may choose: Message-ID, Date, and
//     the e-mail's id, from which the MIME boundaries are made.
//  2. The structure is mixed(related(alternative(text, html, calendar), inline files),
//     attachments); levels with one member are left out.
//  3. Bcc recipients stand in no header.
//
// The MIME is written here, on the standard library's encoders. go-mail
// cannot compose them as we need: it takes one boundary for a whole
// message, so that nested multiparts would share it or get random ones; it sorts
// the client's headers by name; it writes file names as encoded words inside
// quotes, which RFC 2047 section 5 forbids; and it holds every part twice.
package render

import (
	"bytes"
	"errors"
	"fmt"
	"html"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/header"
	"github.com/postrider/postrider/internal/plaintext"
	"github.com/postrider/postrider/internal/unsubscribe"
)

// Composition is what a rendering takes besides the message.
type Composition struct {
	// EmailID seeds the boundaries.
	EmailID string
	// MessageID is without angle brackets.
	MessageID string
	Date      time.Time
	// Reference is the value of X-Postrider-Id, which a report on the message brings back. Empty
	// leaves the field out.
	Reference string
	// UnsubscribeURL is the recipient's link to unsubscribe by, and FeedbackID the value of Feedback-ID.
	// Both are for messages with Unsubscribe only.
	UnsubscribeURL, FeedbackID string
}

// ErrUnsafe says that a value would break out of its place in the header. Intake
// refuses such values; nothing is sent that holds one.
var ErrUnsafe = errors.New("a header value is unsafe")

// ErrNoLink says that a message is to have a link to unsubscribe by, and the installation has none.
var ErrNoLink = errors.New("there is no link to unsubscribe by: set POSTRIDER_PUBLIC_URL")

// ErrUnresolved says that an attachment has no content yet. A message is never
// made without one of its attachments, unless that one has a Problem.
var ErrUnresolved = errors.New("an attachment is not resolved")

// Render makes the message's bytes, with CRLF line ends and lines of at most 998
// bytes (RFC 5322 section 2.1.1). Attachments' contents have to be set; one with
// a Problem is left out. The errors are ErrUnsafe, ErrUnresolved and ErrNoLink:
// another try yields the same.
func Render(m email.Message, c Composition) ([]byte, error) {
	return render(m, c, nil)
}

// render leaves open only with a shortening what is not resolved.
func render(m email.Message, c Composition, s *shortening) ([]byte, error) {
	if err := check(m, c); err != nil {
		return nil, err
	}
	for i, a := range m.Attachments {
		if a.Content == nil && a.Problem == "" && s == nil {
			return nil, fmt.Errorf("attachment %d: %w", i, ErrUnresolved)
		}
	}
	if m.Unsubscribe {
		m.Text = unsubscribe.Fill(m.Text, c.UnsubscribeURL)
		m.HTML = unsubscribe.Fill(m.HTML, html.EscapeString(c.UnsubscribeURL))
	}
	root := tree(m, c, s)
	var out bytes.Buffer
	out.Grow(grown(m, s))
	writeHeader(&out, m, c)
	root.write(&out)
	if !bytes.HasSuffix(out.Bytes(), []byte("\r\n")) {
		out.WriteString("\r\n")
	}
	return out.Bytes(), nil
}

// grown is about how long a rendering is. base64 makes 78 bytes of 57, and
// quoted-printable of ordinary text less: the buffer, which would be copied
// whenever it grows, seldom has to.
func grown(m email.Message, s *shortening) int {
	n := len(m.Text) + len(m.HTML) + len(m.Calendar.ICS)
	for _, a := range m.Attachments {
		if !s.leavesOut(a) {
			n += len(a.Content)
		}
	}
	return n/5*7 + 16<<10
}

// NeedsSMTPUTF8 reports whether an address of the message is not ASCII, which
// only a server with that extension takes (RFC 6531).
func NeedsSMTPUTF8(m email.Message) bool {
	for _, list := range [][]email.Address{{m.From}, m.ReplyTo, m.To, m.Cc, m.Bcc} {
		for _, a := range list {
			if !plaintext.ASCII(a.Email) {
				return true
			}
		}
	}
	return false
}

// check refuses values that would inject a header, and messages that lack something.
func check(m email.Message, c Composition) error {
	if !id(c.MessageID) {
		return fmt.Errorf("message id: %w", ErrUnsafe)
	}
	if c.Reference != "" && !id(c.Reference) {
		return fmt.Errorf("reference: %w", ErrUnsafe)
	}
	switch {
	case !m.Unsubscribe:
	case c.UnsubscribeURL == "":
		return ErrNoLink
	case !uri(c.UnsubscribeURL), !line(c.FeedbackID):
		return fmt.Errorf("link to unsubscribe by: %w", ErrUnsafe)
	}
	if !line(m.Subject) {
		return fmt.Errorf("subject: %w", ErrUnsafe)
	}
	for _, list := range [][]email.Address{{m.From}, m.ReplyTo, m.To, m.Cc} {
		for _, a := range list {
			if !address(a.Email) || !line(a.Name) {
				return fmt.Errorf("address: %w", ErrUnsafe)
			}
		}
	}
	if strings.Trim(m.Calendar.Method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" || m.Calendar.Method == "" && m.Calendar.ICS != "" {
		return fmt.Errorf("calendar's method: %w", ErrUnsafe)
	}
	for i, h := range m.Headers {
		if !fieldName(h.Name) || ours(h.Name) || !line(h.Value) {
			return fmt.Errorf("header %d: %w", i, ErrUnsafe)
		}
	}
	for i, a := range m.Attachments {
		if !line(a.Filename) || !line(a.Type) || a.ContentID != "" && !id(a.ContentID) {
			return fmt.Errorf("attachment %d: %w", i, ErrUnsafe)
		}
	}
	return nil
}

// line reports whether a text stays within its header field.
func line(s string) bool { return utf8.ValidString(s) && !strings.ContainsAny(s, "\r\n\x00") }

// id reports whether a text may stand between angle brackets as a msg-id.
func id(s string) bool {
	return s != "" && len(s) <= 512 && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("<>()[]\\,;:\"", r) }) < 0
}

// uri reports whether a text may stand between angle brackets as a URI (RFC 2369 section 2) on one line.
func uri(s string) bool {
	return len(s) <= header.MaxLine-len("List-Unsubscribe: <>") && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '<' || r == '>' }) < 0
}

// address reports whether an address is a dot-atom and an ASCII domain, so that
// it needs no quoting in a header nor in an envelope.
func address(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	return ok && local != "" && id(domain) && !strings.Contains(domain, "@") && utf8.ValidString(local) &&
		strings.IndexFunc(local, func(r rune) bool {
			return r <= ' ' || unicode.IsControl(r) || unicode.IsSpace(r) || strings.ContainsRune("<>()[]\\,;:\"", r)
		}) < 0
}

func fieldName(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// ours are the fields that a message cannot bring along: it has them already, or,
// as Bcc, must not have them.
func ours(name string) bool {
	name = strings.ToLower(name)
	switch name {
	case "from", "to", "cc", "bcc", "reply-to", "date", "message-id", "subject", "mime-version", "x-postrider-id":
		return true
	}
	return strings.HasPrefix(name, "content-")
}
