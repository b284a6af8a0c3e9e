package render

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/header"
	"github.com/postrider/postrider/internal/unsubscribe"
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
	if c.Reference != "" {
		field(out, "X-Postrider-Id", c.Reference)
	}
	fold(out, "Subject", unstructured("Subject", m.Subject))
	for _, h := range m.Headers {
		fold(out, h.Name, clients(h))
	}
	if m.Unsubscribe {
		writeList(out, m, c)
	}
	field(out, "MIME-Version", "1.0")
}

// writeList writes the fields of mail that a recipient may unsubscribe from: RFC 8058 section 3.1, RFC 2919,
// and Gmail's Feedback-ID. The client's own List-Id and Feedback-ID stand.
func writeList(out *bytes.Buffer, m email.Message, c Composition) {
	field(out, "List-Unsubscribe", "<"+c.UnsubscribeURL+">")
	field(out, "List-Unsubscribe-Post", "List-Unsubscribe=One-Click")
	for _, f := range []email.Header{{Name: "List-Id", Value: unsubscribe.ListID(m.Topic, string(m.Stream), m.From.Domain())}, {Name: "Feedback-ID", Value: c.FeedbackID}} {
		if f.Value != "" && !slices.ContainsFunc(m.Headers, func(h email.Header) bool { return strings.EqualFold(h.Name, f.Name) }) {
			field(out, f.Name, f.Value)
		}
	}
}

// field writes one field, folded before words that would not fit.
func field(out *bytes.Buffer, name, value string) { fold(out, name, header.Cut(value)) }

// fold writes one field. The first piece stays beside the name, unless it is longer than
// what a line may have.
func fold(out *bytes.Buffer, name string, pieces header.Pieces) {
	out.WriteString(name)
	out.WriteString(":")
	used := len(name) + 1
	for i, piece := range pieces {
		if next := used + len(piece); i > 0 && next > header.LineWidth || next > header.MaxLine {
			out.WriteString("\r\n")
			used = 0
		}
		out.WriteString(piece)
		used += len(piece)
	}
	out.WriteString("\r\n")
}

// clients is the value of a client's field. Intake refuses what the field cannot hold. An
// e-mail that was accepted before intake did so goes out with encoded words.
func clients(h email.Header) header.Pieces {
	if strings.TrimSpace(h.Value) == h.Value && strings.IndexFunc(h.Value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) < 0 {
		if pieces, err := header.Encode(h.Name, h.Value); err == nil {
			return pieces
		}
	}
	return unstructured(h.Name, h.Value)
}

// unstructured is a text as it stands in a field: as it is, or in encoded words
// (RFC 2047) where it is not printable ASCII or has no place to fold.
func unstructured(name, s string) header.Pieces {
	if !printable(s) {
		return header.Words(name, s)
	}
	pieces := header.Cut(s)
	used := len(name) + 1
	for _, piece := range pieces {
		if used+len(piece) > header.MaxLine {
			return header.Words(name, s)
		}
		used = 0
	}
	return pieces
}

// printable reports whether a text may stand in a header as it is. A text that looks
// like an encoded word must not: programs would decode it.
func printable(s string) bool {
	return strings.TrimSpace(s) == s && !strings.Contains(s, "=?") &&
		strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
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
			out[i] = header.Words(name, a.Name).String() + " " + out[i]
		}
	}
	return strings.Join(out, ", ")
}

// quoted escapes what ends a quoted string (RFC 5322 section 3.2.4).
var quoted = strings.NewReplacer(`\`, `\\`, `"`, `\"`)
