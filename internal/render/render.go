// Package render makes the bytes of a message, the same for every attempt.
//
//  1. What differs from one rendering to the next is given: Message-ID, Date,
//     and the e-mail's id, from which the MIME boundaries are made.
//  2. The structure is mixed(related(alternative(text, html), inline files),
//     attachments); levels with one member are left out.
//  3. Bcc recipients stand in no header.
//
// The MIME is composed with go-message: go-mail takes one boundary for a whole
// message, so that nested multiparts would get random ones, and orders custom
// headers by name.
package render

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	netmail "net/mail"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-message"
	"github.com/emersion/go-message/mail"

	"github.com/postrider/postrider/email"
)

// Composition is what a rendering takes besides the message.
type Composition struct {
	// EmailID seeds the boundaries.
	EmailID string
	// MessageID is without angle brackets.
	MessageID string
	Date      time.Time
}

// ErrUnsafe says that a value would break out of its header. Intake refuses such
// values; nothing is sent that holds one.
var ErrUnsafe = errors.New("a header value holds a line break or NUL")

// Render makes the message's bytes, with CRLF line ends and lines of at most 998
// bytes (RFC 5322 section 2.1.1). Attachments' contents have to be set.
func Render(m email.Message, c Composition) ([]byte, error) {
	if err := check(m, c); err != nil {
		return nil, err
	}
	root := tree(m, c)
	root.header.Add("MIME-Version", "1.0")
	fields(&root.header, m, c)
	var out bytes.Buffer
	out.Grow(int(m.Size()*14/10) + 4096)
	if err := root.write(&out); err != nil {
		return nil, fmt.Errorf("compose message: %w", err)
	}
	return out.Bytes(), nil
}

// NeedsSMTPUTF8 reports whether an address of the message is not ASCII, which
// only a server with that extension takes (RFC 6531).
func NeedsSMTPUTF8(m email.Message) bool {
	for _, list := range [][]email.Address{{m.From}, m.ReplyTo, m.To, m.Cc, m.Bcc} {
		for _, a := range list {
			if !ascii(a.Email) {
				return true
			}
		}
	}
	return false
}

// check refuses what would write a header that nobody asked for.
func check(m email.Message, c Composition) error {
	values := []string{m.Subject, c.MessageID}
	for _, list := range [][]email.Address{{m.From}, m.ReplyTo, m.To, m.Cc} {
		for _, a := range list {
			values = append(values, a.Email, a.Name)
		}
	}
	for _, h := range m.Headers {
		values = append(values, h.Name, h.Value)
		if strings.ContainsAny(h.Name, ": \t") || h.Name == "" {
			return fmt.Errorf("header name: %w", ErrUnsafe)
		}
	}
	for _, a := range m.Attachments {
		values = append(values, a.Filename, a.Type, a.ContentID)
	}
	for _, v := range values {
		if strings.ContainsAny(v, "\r\n\x00") || !utf8.ValidString(v) {
			return ErrUnsafe
		}
	}
	return nil
}

// fields writes the message's own header. Fields are added from the last to the
// first: go-message puts each on top.
func fields(h *message.Header, m email.Message, c Composition) {
	for i := len(m.Headers) - 1; i >= 0; i-- {
		h.Add(m.Headers[i].Name, encode(m.Headers[i].Value))
	}
	mh := mail.Header{Header: *h}
	mh.Add("Subject", encode(m.Subject))
	mh.SetMessageID(c.MessageID)
	mh.SetDate(c.Date.UTC())
	for _, list := range []struct {
		name string
		of   []email.Address
	}{{"Reply-To", m.ReplyTo}, {"Cc", m.Cc}, {"To", m.To}, {"From", []email.Address{m.From}}} {
		if len(list.of) > 0 {
			mh.Add(list.name, addresses(list.of))
		} else if list.name == "To" && len(m.Cc) == 0 {
			mh.Add("To", "undisclosed-recipients:;")
		}
	}
	*h = mh.Header
}

// wordBytes is how much of a text goes into one encoded word: 36 bytes make one
// of 60 characters, so that it fits beside a field's name on a line of 76, as
// RFC 2047 section 2 asks for.
const wordBytes = 36

// encode makes encoded words of what is not printable ASCII.
func encode(s string) string {
	if printable(s) {
		return s
	}
	var words []string
	for len(s) > 0 {
		n := min(wordBytes, len(s))
		for n < len(s) && !utf8.RuneStart(s[n]) {
			n--
		}
		words = append(words, "=?utf-8?b?"+base64.StdEncoding.EncodeToString([]byte(s[:n]))+"?=")
		s = s[n:]
	}
	return strings.Join(words, " ")
}

// printable reports whether a text may stand in a header as it is. What looks
// like an encoded word must not: it would be decoded.
func printable(s string) bool {
	return ascii(s) && !strings.Contains(s, "=?") && strings.TrimSpace(s) == s && strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) < 0
}

// addresses writes an address list (RFC 5322 section 3.4).
func addresses(as []email.Address) string {
	out := make([]string, len(as))
	for i, a := range as {
		out[i] = (&netmail.Address{Address: a.Email}).String()
		switch {
		case a.Name == "":
		case printable(a.Name):
			out[i] = (&netmail.Address{Name: a.Name, Address: a.Email}).String()
		default:
			out[i] = encode(a.Name) + " " + out[i]
		}
	}
	return strings.Join(out, ", ")
}

// node is a part of the MIME tree: a leaf with a body, or a multipart.
type node struct {
	header message.Header
	body   io.Reader
	parts  []*node
}

// tree builds the parts of a message.
func tree(m email.Message, c Composition) *node {
	var body []*node
	if m.Text != "" || m.HTML == "" {
		body = append(body, textNode("text/plain", m.Text))
	}
	if m.HTML != "" {
		body = append(body, textNode("text/html", m.HTML))
	}
	root := group("alternative", body, c)
	inline, attached := []*node{root}, []*node(nil)
	for _, a := range m.Attachments {
		if a.ContentID != "" && m.HTML != "" {
			inline = append(inline, fileNode(a, "inline"))
			continue
		}
		attached = append(attached, fileNode(a, "attachment"))
	}
	root = group("related", inline, c)
	return group("mixed", append([]*node{root}, attached...), c)
}

// group puts parts into a multipart, if there is more than one.
func group(kind string, parts []*node, c Composition) *node {
	if len(parts) == 1 {
		return parts[0]
	}
	n := &node{parts: parts}
	n.header.SetContentType("multipart/"+kind, map[string]string{"boundary": boundary(c.EmailID, kind)})
	return n
}

// boundary derives a delimiter. No encoded body holds it: base64 has no "_", and
// in quoted-printable a hexadecimal digit follows every "=".
func boundary(emailID, kind string) string {
	sum := sha256.Sum256([]byte(emailID + "/" + kind))
	return "=_" + base64.RawURLEncoding.EncodeToString(sum[:18])
}

func textNode(mediaType, text string) *node {
	n := &node{body: strings.NewReader(lines(text))}
	n.header.SetContentType(mediaType, map[string]string{"charset": "utf-8"})
	n.header.Set("Content-Transfer-Encoding", "quoted-printable")
	return n
}

// lines ends every line with CRLF, whatever it ended with.
func lines(s string) string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
	return strings.ReplaceAll(s, "\n", "\r\n")
}

func fileNode(a email.Attachment, disposition string) *node {
	n := &node{body: bytes.NewReader(a.Content)}
	mediaType, params, err := mime.ParseMediaType(a.Type)
	if err != nil {
		mediaType, params = "application/octet-stream", nil
	}
	if a.ContentID != "" {
		n.header.Set("Content-Id", "<"+a.ContentID+">")
	}
	n.header.Set("Content-Transfer-Encoding", "base64")
	name := map[string]string{}
	if a.Filename != "" {
		name["filename"] = a.Filename // encoded as RFC 2231 has it where it is not ASCII
	}
	n.header.SetContentDisposition(disposition, name)
	n.header.SetContentType(mediaType, params)
	return n
}

func (n *node) write(w io.Writer) error {
	mw, err := message.CreateWriter(w, n.header)
	if err != nil {
		return err
	}
	return errors.Join(n.fill(mw), mw.Close())
}

func (n *node) fill(w *message.Writer) error {
	if n.body != nil {
		_, err := io.Copy(w, n.body)
		return err
	}
	for _, p := range n.parts {
		pw, err := w.CreatePart(p.header)
		if err != nil {
			return err
		}
		if err := errors.Join(p.fill(pw), pw.Close()); err != nil {
			return err
		}
	}
	return nil
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
