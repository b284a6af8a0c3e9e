package render

import (
	"bytes"
	"encoding/base64"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/postrider/postrider/email"
)

const (
	// lineWidth is where fields are folded (RFC 5322 section 2.1.1).
	lineWidth = 78
	// maxLine is what no line may exceed.
	maxLine = 998
	// wordWidth is the longest encoded word that fits on a continuation line of
	// 76 characters (RFC 2047 section 2), in a multiple of base64's four.
	wordWidth = 72
)

// writeHeader writes the message's own fields; those of MIME follow.
func writeHeader(out *bytes.Buffer, m email.Message, c Composition) {
	field(out, "From", addresses("From", []email.Address{m.From}))
	switch {
	case len(m.To) > 0:
		field(out, "To", addresses("To", m.To))
	case len(m.Cc) == 0:
		field(out, "To", "undisclosed-recipients:;") // an empty group, RFC 5322 section 3.4
	}
	if len(m.Cc) > 0 {
		field(out, "Cc", addresses("Cc", m.Cc))
	}
	if len(m.ReplyTo) > 0 {
		field(out, "Reply-To", addresses("Reply-To", m.ReplyTo))
	}
	field(out, "Date", c.Date.UTC().Format(time.RFC1123Z))
	field(out, "Message-ID", "<"+c.MessageID+">")
	field(out, "Subject", unstructured("Subject", m.Subject))
	for _, h := range m.Headers {
		field(out, h.Name, unstructured(h.Name, h.Value))
	}
	field(out, "MIME-Version", "1.0")
}

// field writes one field, folded before words that would not fit. A run of
// spaces is never broken: parsers differ in what they make of its rest.
func field(out *bytes.Buffer, name, value string) {
	out.WriteString(name)
	out.WriteString(":")
	used := len(name) + 1
	for i, word := range foldable(value) {
		if i > 0 && used+1+len(word) > lineWidth {
			out.WriteString("\r\n")
			used = 0
		}
		out.WriteString(" ")
		out.WriteString(word)
		used += 1 + len(word)
	}
	out.WriteString("\r\n")
}

// foldable splits a value at its single spaces.
func foldable(value string) []string {
	var out []string
	from := 0
	for i := 1; i+1 < len(value); i++ {
		if value[i] == ' ' && value[i-1] != ' ' && value[i+1] != ' ' {
			out = append(out, value[from:i])
			from = i + 1
		}
	}
	return append(out, value[from:])
}

// unstructured is a text as it stands in a field: as it is, or in encoded words
// (RFC 2047) where it is not printable ASCII or has no place to fold.
func unstructured(name, s string) string {
	if !printable(s) {
		return encodedWords(name, s)
	}
	used := len(name) + 1
	for _, word := range foldable(s) {
		if used+1+len(word) > maxLine {
			return encodedWords(name, s)
		}
		used = 0
	}
	return s
}

// printable reports whether a text may stand in a header as it is. What looks
// like an encoded word must not: it would be decoded.
func printable(s string) bool {
	return strings.TrimSpace(s) == s && !strings.Contains(s, "=?") &&
		strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// encodedWords splits a text between characters, so that each word can be
// decoded by itself. The first one stands beside the field's name.
func encodedWords(name, s string) string {
	const frame = len("=?utf-8?b?" + "?=")
	var words []string
	room := max(wordWidth-len(name)-2, frame+8)
	for s != "" {
		n := min((room-frame)/4*3, len(s))
		for n < len(s) && !utf8.RuneStart(s[n]) {
			n--
		}
		words = append(words, "=?utf-8?b?"+base64.StdEncoding.EncodeToString([]byte(s[:n]))+"?=")
		s, room = s[n:], wordWidth
	}
	return strings.Join(words, " ")
}

// addresses writes an address list (RFC 5322 section 3.4). Addresses that are
// not ASCII stay as they are (RFC 6532).
func addresses(name string, as []email.Address) string {
	out := make([]string, len(as))
	for i, a := range as {
		out[i] = "<" + a.Email + ">"
		switch {
		case a.Name == "":
		case printable(a.Name):
			out[i] = `"` + quoted.Replace(a.Name) + `" ` + out[i]
		default:
			out[i] = encodedWords(name, a.Name) + " " + out[i]
		}
	}
	return strings.Join(out, ", ")
}

// quoted escapes what ends a quoted string (RFC 5322 section 3.2.4).
var quoted = strings.NewReplacer(`\`, `\\`, `"`, `\"`)
