package smtp

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/plaintext"
)

// prepare decides what this relay cannot take and gives MAIL's parameters (RFC
// 1870, 6152, 6531, 3461). It reports whether a recipient is left.
func (x *exchange) prepare(message []byte) (parameters string, ok bool) {
	if at := bareLineEnd(message); at >= 0 {
		x.decideRest(unsendable(email.DetailUnsendable, "the message has a line end that is not CRLF at byte %d", at))
		return "", false
	}
	if breaksOutOfCommand(x.env.From) {
		x.decideRest(unsendable(email.DetailUnsendable, "the return-path cannot be written into a MAIL command"))
		return "", false
	}
	if limit := x.sizeLimit(); limit > 0 && int64(len(message)) > limit {
		x.decideRest(x.cannotTake(email.DetailTooLarge, "the message has %d bytes, the relay takes %d", len(message), limit))
		return "", false
	}
	// The server is not asked again for what it has refused of late, while another may take it.
	wait := x.others.AskAgainIn > 0
	if limit := x.refuses.Bytes; wait && limit > 0 && int64(len(message)) >= limit {
		x.decideRest(x.cannotTake(email.DetailTooLarge, "the message has %d bytes, and the relay has refused one of %d", len(message), limit))
		return "", false
	}
	offersUTF8 := x.uses("SMTPUTF8") && !(wait && x.refuses.UTF8)
	utf8 := needsUTF8(x.env.From, message)
	if _, offered := x.extension("8BITMIME"); wait && !offered && !offersUTF8 && !plaintext.ASCII(message) {
		x.decideRest(x.cannotTake(email.DetailUnsendable, "the message has 8-bit text, and the relay does not take 8BITMIME"))
		return "", false
	}
	if utf8 && !offersUTF8 {
		x.decideRest(x.cannotTake(email.DetailUnsendable, "the return-path or a header field is not ASCII, and the relay does not take SMTPUTF8"))
		return "", false
	}
	left := false
	for i, r := range x.env.Recipients {
		switch {
		case breaksOutOfCommand(r.Address):
			x.decide(i, unsendable(email.DetailUnsendable, "the address cannot be written into a RCPT command"))
			continue
		case plaintext.ASCII(r.Address):
		case offersUTF8:
			utf8 = true
		default:
			x.decide(i, x.cannotTake(email.DetailUnsendable, "the address is not ASCII, and the relay does not take SMTPUTF8"))
			continue
		}
		left = true
	}
	x.saidUTF8 = utf8
	return x.mailParameters(message, utf8), left
}

// sayMail names the sender, and where the server offers PIPELINING recipients as well, whose
// replies rcpt reads. Parameters that the relay refuses although it offered their extensions
// are left out at once. c is the MAIL command; ok is false where there was nothing to say.
func (x *exchange) sayMail(message []byte) (c sentCommand, code int, text string, ok bool, err error) {
	for {
		parameters, ok := x.prepare(message)
		if !ok || x.hasEnded(StageMail.String()) {
			return c, 0, "", false, nil
		}
		x.stages = x.namingStages()
		x.beginStage()
		x.written, x.ignored = make([]bool, len(x.env.Recipients)), map[int]email.Reply{}
		x.limit, x.limitSaid = x.history.RecipientLimit(x.recipients)
		x.sendGroup(fmt.Sprintf("MAIL FROM:<%s>%s", x.env.From, parameters))
		c, code, text, err = x.nextReply(x.timeouts.Command)
		if err != nil || !refusesParameters(reply(code, text)) || !x.dropParameters(parameters, text) {
			return c, code, text, true, err
		}
		if err := x.skipReplies(); err != nil {
			return c, 0, "", true, err
		}
	}
}

func (x *exchange) mailParameters(message []byte, utf8 bool) string {
	params := ""
	if x.uses("SIZE") {
		params += fmt.Sprintf(" SIZE=%d", len(message))
	}
	if x.uses("8BITMIME") && !plaintext.ASCII(message) {
		params += " BODY=8BITMIME"
	}
	if utf8 {
		params += " SMTPUTF8"
	}
	if x.uses("DSN") && x.env.ID != "" {
		params += " RET=HDRS ENVID=" + xtext(x.env.ID)
	}
	return params
}

func (s *Session) uses(extension string) bool {
	_, offered := s.extension(extension)
	return offered && !s.refusedExtensions[extension]
}

// refusesParameters: an answer to MAIL that is about its parameters (RFC 5321 section
// 4.1.1.11; RFC 3463 X.5.4), and not about the address.
func refusesParameters(r email.Reply) bool {
	return (r.Code == 555 || r.Code == 501 || r.Code == 504) && in(r.Enhanced, "", "5.5.4")
}

// dispensable are the parameters of MAIL that mail arrives without: SIZE and DSN's tell the
// relay something, and a relay that offered 8BITMIME takes eight bits.
var dispensable = []struct {
	extension string
	names     []string
}{{"SIZE", []string{"SIZE"}}, {"DSN", []string{"DSN", "RET", "ENVID"}}, {"8BITMIME", []string{"8BITMIME", "BODY"}}}

// dropParameters does without what a relay refused: what its text names, or all that was said. It
// reports false where nothing is left to do without.
func (x *exchange) dropParameters(parameters, text string) bool {
	var said, named []string
	words := strings.FieldsFunc(strings.ToUpper(text), func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) })
	for _, d := range dispensable {
		if !slices.ContainsFunc(d.names, func(name string) bool { return strings.Contains(parameters, " "+name+"=") }) {
			continue
		}
		said = append(said, d.extension)
		if slices.ContainsFunc(d.names, func(name string) bool { return slices.Contains(words, name) }) {
			named = append(named, d.extension)
		}
	}
	if utf8 := strings.Contains(parameters, " SMTPUTF8"); utf8 && (slices.Contains(words, "SMTPUTF8") || len(said) == 0) {
		// The recipients that need it get nothing; the others do.
		named = append(named, "SMTPUTF8")
		x.out.Refuses.UTF8 = true
		if x.others.MayTakeIt {
			x.others.AskAgainIn = max(x.others.AskAgainIn, nextTransaction)
		}
	}
	if len(named) == 0 {
		named = said
	}
	for _, extension := range named {
		if x.refusedExtensions == nil {
			x.refusedExtensions = map[string]bool{}
		}
		x.refusedExtensions[extension] = true
	}
	return len(named) > 0
}

// outOfStep: an answer to RCPT that is about the session, not about the recipient. The
// server has no transaction, or did not read a command.
func outOfStep(r email.Reply) bool {
	switch r.Code {
	case 500, 502, 503:
		return in(r.Enhanced, "", "5.5.0", "5.5.1", "5.5.2")
	case 501:
		return r.Enhanced == "5.5.2"
	}
	return false
}

// cannotTake is what becomes of mail that this relay does not take: it fails, or waits for
// a relay that may.
func (x *exchange) cannotTake(reason email.Detail, format string, args ...any) delivery.Outcome {
	o := unsendable(reason, format, args...)
	if x.others.AskAgainIn > 0 {
		o.Status, o.Reason, o.Uncounted, o.RetryAfter = email.RecipientDeferred, "", true, x.others.AskAgainIn
		o.RelayFault = true
		o.Reply.Text += "; another relay, which may take it, cannot be asked now"
	}
	return o
}

func unsendable(reason email.Detail, format string, args ...any) delivery.Outcome {
	return delivery.Outcome{Status: email.RecipientFailed, Reason: reason, Reply: email.Reply{Text: fmt.Sprintf(format, args...)}}
}

// noteCannotTake is called where the relay refuses a message for its size that EHLO did not
// speak of, or its UTF-8 although EHLO offered SMTPUTF8. If another relay may take it, the
// recipients wait for that one.
func (x *exchange) noteCannotTake(o *delivery.Outcome) {
	switch {
	case o.Status == email.RecipientFailed && o.Reason == email.DetailTooLarge:
		x.out.Refuses.Bytes = int64(len(x.message))
	case x.saidUTF8 && refusesUTF8(o.Reply):
		x.out.Refuses.UTF8 = true
	default:
		return
	}
	if x.others.MayTakeIt || x.others.AskAgainIn > 0 {
		*o = delivery.Outcome{Status: email.RecipientDeferred, Uncounted: true, RelayFault: true,
			RetryAfter: max(nextTransaction, x.others.AskAgainIn), RecipientID: o.RecipientID, Reply: o.Reply}
	}
}

// settleCannotTake is called where the relay has accepted no recipient. A refusal of one for
// the message's size or UTF-8 is then the relay's, and not that recipient's.
func (x *exchange) settleCannotTake() {
	for i := range x.out.Outcomes {
		if o := x.out.Outcomes[i]; x.decided[i] && o.Enhanced != "5.2.3" { // that is one mailbox's limit
			if x.noteCannotTake(&o); o.RelayFault && !x.out.Outcomes[i].RelayFault {
				delete(x.suspects, i)
				x.decide(i, o)
			}
		}
	}
}

// refusesUTF8: a permanent refusal because of UTF-8 in an address or a header field. The relay,
// or a system behind it, does not take it (RFC 3463 section 3.7, RFC 6531).
func refusesUTF8(r email.Reply) bool {
	return in(r.Enhanced, "5.6.1", "5.6.2", "5.6.3", "5.6.7", "5.6.8", "5.6.9")
}
