package inbound

import (
	"bytes"
	"strings"

	"github.com/postrider/postrider/internal/mailbox"
	"github.com/postrider/postrider/internal/mailread"
	"github.com/postrider/postrider/internal/plaintext"
)

// Caps of the header that is shown. The raw message has the rest.
const (
	maxShownHeaderBytes = 256 << 10
	maxShownHeaders     = 1000
)

// header is the header of a message, up to the caps.
type header struct {
	fields []mailread.Field
	shown  []mailbox.Header // decoded
	// charset is what the message declares for its text. Bytes above 127 that no
	// encoded word encodes are read as it.
	charset string
	odd     bool // some lines are no fields
	capped  bool
}

// readHeader reads the fields at the start of a message. It takes anything.
func readHeader(raw []byte) header {
	block := raw[:min(len(raw), maxShownHeaderBytes)]
	fields, body, odd := mailread.Fields(block)
	h := header{fields: fields, odd: odd, capped: body == len(block) && len(block) < len(raw)}
	_, params := mailread.Params(mailread.First(fields, "Content-Type"))
	h.charset = params["charset"].Value
	if len(fields) > maxShownHeaders {
		h.fields, h.capped = fields[:maxShownHeaders], true
	}
	for _, f := range h.fields {
		h.shown = append(h.shown, mailbox.Header{Name: f.Name, Value: plaintext.Valid(mailread.Words(mailread.Unfold(f.Value), h.charset))})
	}
	return h
}

// all are the values of the fields of a name, unfolded but not decoded. There
// should be one (RFC 5322 §3.6); of From and Reply-To the first counts.
func (h header) all(name string) string {
	var values []string
	for _, f := range h.fields {
		if !strings.EqualFold(f.Name, name) {
			continue
		}
		values = append(values, mailread.Unfold(f.Value))
		if name == "From" || name == "Reply-To" {
			break
		}
	}
	return strings.Join(values, ", ")
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

// Digest is what a list of messages shows of one.
type Digest struct {
	Subject, From, To, MessageID string
}

// Summary reads the columns of a list: each on one line, at most
// mailbox.SummaryBytes long. It reads the header only and never fails: what is
// rubbish comes out as rubbish or empty.
func Summary(raw []byte) (d Digest) {
	defer func() {
		if recover() != nil {
			d = Digest{} // a fault of the reader's must not refuse mail
		}
	}()
	// Lines changes what it is given, and raw is stored as it is.
	head, _ := mailread.Lines(bytes.Clone(raw[:min(len(raw), maxShownHeaderBytes)]))
	list := readHeader(head).shown
	column := func(s string) string { return plaintext.Line(s, mailbox.SummaryBytes) }
	return Digest{
		Subject: column(first(list, "Subject")), From: column(first(list, "From")), To: column(first(list, "To")),
		MessageID: column(messageID(first(list, "Message-ID"))),
	}
}
