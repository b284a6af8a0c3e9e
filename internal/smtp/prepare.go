package smtp

import (
	"bytes"
	"fmt"

	"github.com/postrider/postrider/email"
)

// prepare decides what this relay cannot take and gives MAIL's parameters (RFC
// 1870, 6152, 6531, 3461). It reports whether anybody is left to send to.
func (x *exchange) prepare(message []byte) (parameters string, ok bool) {
	if at := bareLineEnd(message); at >= 0 {
		x.decideRest(unsendable(email.DetailUnsendable, "the message has a line end that is not CRLF at byte %d", at))
		return "", false
	}
	if breaksOut(x.env.From) {
		x.decideRest(unsendable(email.DetailUnsendable, "the return-path cannot be written into a MAIL command"))
		return "", false
	}
	if limit := x.sizeLimit(); limit > 0 && int64(len(message)) > limit {
		x.decideRest(unsendable(email.DetailTooLarge, "the message has %d bytes, the relay takes %d", len(message), limit))
		return "", false
	}
	_, offersUTF8 := x.extension("SMTPUTF8")
	header, _, _ := bytes.Cut(message, []byte("\r\n\r\n"))
	needsUTF8 := !ascii(x.env.From) || !ascii(header)
	if needsUTF8 && !offersUTF8 {
		x.decideRest(unsendable(email.DetailUnsendable, "the return-path or a header field is not ASCII, and the relay does not offer SMTPUTF8"))
		return "", false
	}
	left := false
	for i, r := range x.env.Recipients {
		switch {
		case breaksOut(r.Address):
			x.decide(i, unsendable(email.DetailUnsendable, "the address cannot be written into a RCPT command"))
			continue
		case ascii(r.Address):
		case offersUTF8:
			needsUTF8 = true
		default:
			x.decide(i, unsendable(email.DetailUnsendable, "the address is not ASCII, and the relay does not offer SMTPUTF8"))
			continue
		}
		left = true
	}
	return x.mailParameters(message, needsUTF8), left
}

func (x *exchange) mailParameters(message []byte, needsUTF8 bool) string {
	params := ""
	if _, ok := x.extension("SIZE"); ok {
		params += fmt.Sprintf(" SIZE=%d", len(message))
	}
	if _, ok := x.extension("8BITMIME"); ok && !ascii(message) {
		params += " BODY=8BITMIME"
	}
	if needsUTF8 {
		params += " SMTPUTF8"
	}
	if _, ok := x.extension("DSN"); ok && x.env.ID != "" {
		params += " RET=HDRS ENVID=" + xtext(x.env.ID)
	}
	return params
}

func unsendable(reason email.Detail, format string, args ...any) email.Outcome {
	return email.Outcome{Status: email.RecipientFailed, Reason: reason, Reply: email.Reply{Text: fmt.Sprintf(format, args...)}}
}
