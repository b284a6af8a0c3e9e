package inbound

import (
	"bytes"
	"mime"
	"net/mail"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"

	"github.com/postrider/postrider/internal/mailbox"
)

// Caps of the header that is shown. What is beyond stays in the raw message.
const (
	maxShownHeaderBytes = 256 << 10
	maxShownHeaders     = 1000
)

// headers reads the fields at the start of a message, in their order, and
// where the body begins. It takes anything: lines that are no fields are left
// out, and complete says whether nothing was, for that or for a cap.
func headers(raw []byte) (list []mailbox.Header, complete bool) {
	complete = true
	block := raw[:headerEnd(raw)]
	if len(block) > maxShownHeaderBytes {
		block, complete = block[:maxShownHeaderBytes], false
	}
	for len(block) > 0 {
		var field []byte
		field, block = nextField(block)
		name, value, ok := bytes.Cut(field, []byte(":"))
		name = bytes.TrimRight(name, " \t")
		if !ok || !isFieldName(name) || len(list) == maxShownHeaders {
			complete = false
			continue
		}
		list = append(list, mailbox.Header{Name: string(name), Value: decode(unfold(value))})
	}
	return list, complete
}

// headerEnd is where the first empty line begins, or the end.
func headerEnd(raw []byte) int {
	for at := 0; at < len(raw); {
		end := bytes.IndexByte(raw[at:], '\n')
		if end < 0 {
			return len(raw)
		}
		if len(bytes.TrimRight(raw[at:at+end], "\r")) == 0 {
			return at
		}
		at += end + 1
	}
	return len(raw)
}

// nextField takes one line and its continuation lines.
func nextField(block []byte) (field, rest []byte) {
	for at := 0; ; {
		end := bytes.IndexByte(block[at:], '\n')
		if end < 0 {
			return block, nil
		}
		at += end + 1
		if at == len(block) || (block[at] != ' ' && block[at] != '\t') {
			return block[:at], block[at:]
		}
	}
}

// isFieldName: printable ASCII but the colon (RFC 5322 §2.2).
func isFieldName(name []byte) bool {
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return len(name) > 0
}

// unfold removes line ends, not the white space after them (RFC 5322 §2.2.3).
func unfold(value []byte) string {
	return strings.TrimSpace(strings.NewReplacer("\r", "", "\n", "").Replace(string(value)))
}

var words = &mime.WordDecoder{CharsetReader: charset.Reader}

// decode undoes RFC 2047; what cannot be decoded stays as it is written.
func decode(value string) string {
	if decoded, err := words.DecodeHeader(value); err == nil {
		value = decoded
	}
	return valid(value)
}

// valid is UTF-8 without NUL, which neither Postgres nor a terminal likes.
func valid(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// clean is one line of valid UTF-8 of at most max bytes.
func clean(s string, max int) string {
	s = cut(strings.ToValidUTF8(s, "\uFFFD"), max)
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if isControl(r) {
			return ' '
		}
		return r
	}, s))
}

// cut shortens valid UTF-8 between two characters.
func cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return s[:max]
}

// first is the value of the first field of a name, in any case.
func first(list []mailbox.Header, name string) string {
	for _, h := range list {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

// messageID is the content of the first pair of angle brackets, else the value.
func messageID(value string) string {
	if _, after, ok := strings.Cut(value, "<"); ok {
		value, _, _ = strings.Cut(after, ">")
	}
	return strings.TrimSpace(value)
}

// addresses reads a list of addresses; ok is false where the field is there
// but not readable as one.
func addresses(raw string) (list []mailbox.Address, ok bool) {
	if raw == "" {
		return nil, true
	}
	parser := mail.AddressParser{WordDecoder: words}
	parsed, err := parser.ParseList(raw)
	if err != nil {
		return nil, false
	}
	for _, a := range parsed {
		list = append(list, mailbox.Address{Name: valid(a.Name), Email: valid(a.Address)})
	}
	return list, true
}

// Digest is what a list of messages shows of one.
type Digest struct {
	Subject, From, To, MessageID string
}

// Summary reads the columns of a list: each on one line, at most
// mailbox.SummaryBytes long. It reads the header only and never fails: what is
// rubbish comes out as rubbish or empty.
func Summary(raw []byte) Digest {
	list, _ := headers(raw)
	column := func(s string) string { return clean(s, mailbox.SummaryBytes) }
	return Digest{
		Subject: column(first(list, "Subject")), From: column(first(list, "From")), To: column(first(list, "To")),
		MessageID: column(messageID(first(list, "Message-ID"))),
	}
}
