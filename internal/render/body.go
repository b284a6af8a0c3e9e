package render

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"mime"
	"mime/quotedprintable"
	"net/url"
	"slices"
	"strings"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/plaintext"
)

// node is a part of the MIME tree: a leaf with a body, or a multipart.
type node struct {
	// fields are the part's header, in order.
	fields [][2]string
	body   func(*bytes.Buffer)

	mediaType string
	boundary  string
	parts     []*node
	// sevenBit: the body is in no transfer encoding.
	sevenBit bool
}

// tree builds the parts of a message.
func tree(m email.Message, c Composition, s *shortening) *node {
	var bodies []*node
	if m.Text != "" || m.HTML == "" {
		bodies = append(bodies, textNode("text/plain", m.Text))
	}
	if m.HTML != "" {
		bodies = append(bodies, textNode("text/html", m.HTML))
	}
	if m.Calendar.ICS != "" {
		// It comes last: Outlook and Gmail look for it there, and others show what they prefer.
		bodies = append(bodies, textNode("text/calendar", m.Calendar.ICS, "method="+m.Calendar.Method))
	}
	inline, attached := []*node{group("alternative", bodies, c)}, []*node(nil)
	for i, a := range m.Attachments {
		switch {
		case a.Content == nil && a.Problem != "":
		case a.ContentID != "" && m.HTML != "":
			inline = append(inline, s.shorten(i, a, fileNode(a, "inline", c)))
		default:
			attached = append(attached, s.shorten(i, a, fileNode(a, "attachment", c)))
		}
	}
	root := group("related", inline, c)
	return group("mixed", append([]*node{root}, attached...), c)
}

// group puts parts into a multipart, if there is more than one.
func group(kind string, parts []*node, c Composition) *node {
	if len(parts) == 1 {
		return parts[0]
	}
	n := &node{mediaType: "multipart/" + kind, boundary: boundary(c.EmailID, kind), parts: parts}
	params := map[string]string{"boundary": n.boundary}
	if kind == "related" {
		params["type"] = parts[0].mediaType // RFC 2387 section 3.1
	}
	n.fields = [][2]string{{"Content-Type", mime.FormatMediaType(n.mediaType, params)}}
	return n
}

// boundary derives a delimiter. No encoded body holds it: base64 has no "_", and
// in quoted-printable a hexadecimal digit or a line end follows every "=".
func boundary(emailID, kind string) string {
	sum := sha256.Sum256([]byte(emailID + "/" + kind))
	return "=_" + base64.RawURLEncoding.EncodeToString(sum[:18])
}

func (n *node) write(out *bytes.Buffer) {
	for _, f := range n.fields {
		field(out, f[0], f[1])
	}
	out.WriteString("\r\n")
	if n.body != nil {
		n.body(out)
		return
	}
	delimiter := "--" + n.boundary
	for _, p := range n.parts {
		out.WriteString(delimiter + "\r\n")
		p.write(out)
		delimiter = "\r\n--" + n.boundary
	}
	out.WriteString(delimiter + "--\r\n")
}

// textNode is a text in quoted-printable, which keeps white space at line ends
// and survives any relay. A text of few ASCII letters takes less room in base64,
// and is as unreadable in either.
func textNode(mediaType, text string, params ...string) *node {
	n := &node{mediaType: mediaType}
	encoding := "quoted-printable"
	n.body = func(out *bytes.Buffer) { writeQuotedPrintable(out, text) }
	if escaped(text) > len(text)/6 {
		encoding = "base64"
		n.body = func(out *bytes.Buffer) { writeBase64(out, []byte(lines.Replace(text))) }
	}
	n.fields = [][2]string{
		{"Content-Transfer-Encoding", encoding},
		{"Content-Type", strings.Join(slices.Concat([]string{mediaType}, params, []string{"charset=utf-8"}), "; ")},
	}
	return n
}

func fileNode(a email.Attachment, disposition string, c Composition) *node {
	n := &node{mediaType: "application/octet-stream", body: func(out *bytes.Buffer) { writeBase64(out, a.Content) }}
	contentType, encoding := n.mediaType, "base64"
	t, params, err := mime.ParseMediaType(a.Type)
	switch {
	case err != nil || !strings.Contains(t, "/"):
	case t == messageType && (a.Content == nil || carriedAsMessage(a.Content, c)):
		n.mediaType, contentType, encoding = t, t, "7bit"
		n.sevenBit = true
		n.body = func(out *bytes.Buffer) { writeCRLF(out, a.Content) }
	// Multiparts and messages must not be in base64 (RFC 2045 section 6.4).
	case !strings.HasPrefix(t, "multipart/") && !strings.HasPrefix(t, "message/"):
		delete(params, "name") // the file has one name, which was looked at
		if formatted := mime.FormatMediaType(t, params); formatted != "" {
			n.mediaType, contentType = t, formatted
		}
	}
	n.fields = [][2]string{
		{"Content-Type", contentType},
		{"Content-Disposition", disposition + filename(a.Filename)},
		{"Content-Transfer-Encoding", encoding},
	}
	if a.ContentID != "" {
		n.fields = append(n.fields, [2]string{"Content-Id", "<" + a.ContentID + ">"})
	}
	return n
}

// filename is a file's name as a parameter: as it is, or in the form of RFC 2231 if it is
// not ASCII or looks like an encoded word. Many programs decode an encoded word there,
// against RFC 2047 section 5: the name, and perhaps the extension, would be another one.
// Three characters that have a meaning in RFC 2231 are quoted: Python's email package reads
// no name from a token that has one.
func filename(name string) string {
	switch {
	case name == "":
		return ""
	case strings.Contains(name, "=?"):
		return "; filename*=utf-8''" + strings.ReplaceAll(url.QueryEscape(name), "+", "%20")
	case strings.ContainsAny(name, "'%*") && plaintext.ASCII(name):
		return `; filename="` + quoted.Replace(name) + `"`
	}
	return strings.TrimPrefix(mime.FormatMediaType("x", map[string]string{"filename": name}), "x")
}

// escaped counts the bytes that quoted-printable writes as three.
func escaped(s string) int {
	n := 0
	for i := range len(s) {
		if c := s[i]; c == '=' || c > '~' || c < ' ' && c != '\t' && c != '\r' && c != '\n' {
			n++
		}
	}
	return n
}

// lines ends every line with CRLF, in place of CRLF, CR or LF.
var lines = strings.NewReplacer("\r\n", "\r\n", "\r", "\r\n", "\n", "\r\n")

// chunk is how much text is turned into bytes at a time.
const chunk = 32 << 10

// writeQuotedPrintable writes text with CRLF in place of all its line ends.
func writeQuotedPrintable(out *bytes.Buffer, text string) {
	w := quotedprintable.NewWriter(out)
	for text != "" {
		n := min(chunk, len(text))
		_, _ = w.Write([]byte(text[:n])) // a bytes.Buffer takes every write
		text = text[n:]
	}
	_ = w.Close() // the same
}

// base64Line is how many bytes make a line of 76 characters (RFC 2045 section 6.8).
const base64Line = 57

// writeBase64 writes content straight into the buffer, without a copy.
func writeBase64(out *bytes.Buffer, content []byte) {
	for len(content) > 0 {
		n := min(base64Line, len(content))
		out.Write(base64.StdEncoding.AppendEncode(out.AvailableBuffer(), content[:n]))
		if content = content[n:]; len(content) > 0 {
			out.WriteString("\r\n")
		}
	}
}
