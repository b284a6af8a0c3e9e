package smtp

import (
	"regexp"
	"slices"
	"strings"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// A return path of our own host (delivery.ReturnPath) is not the sender's. Where a server refuses it, mail
// waits until the relay takes it or the operator has changed it: no e-mail ends, and no try counts.

// classifyFor is classify for a reply to a transaction with a return-path.
func classifyFor(from string, at Stage, accepts email.AcceptMeans, r email.Reply) (delivery.Outcome, Attribution) {
	o, who := classify(at, accepts, r)
	if who == OfRelay || !delivery.IsReturnPath(from) || !refusesOwnPath(from, at, accepts, r, o) {
		return o, who
	}
	return delivery.Outcome{Status: email.RecipientDeferred, Uncounted: true, RetryAfter: max(relayWait, retryHint(r)), Reply: r}, OfRelay
}

// refusesOwnPath reports whether a refusal, of which classify makes o, is about our own return path. MAIL has
// no other address; there only a size is the message's own, and a list may have the client's address. After RCPT a server may also refuse the sender in
// the header, which is the customer's, so the reply has to name the return path. Greylisting, and a mailbox
// that is unknown or full, may be said of the two addresses of a transaction. A reply that says
// what was found in the message is about that.
func refusesOwnPath(from string, at Stage, accepts email.AcceptMeans, r email.Reply, o delivery.Outcome) bool {
	words := lowerWords(r)
	switch {
	case at == StageMail && accepts == email.AcceptsFinal && o.Reason == email.DetailIPBlocked:
		return namesReturnPath(from, r)
	case at == StageRcpt && accepts == email.AcceptsRelay && o.Auth == delivery.AuthSPF: // SPF is checked for the return path
		return true
	case at == StageMail && o.Reason != email.DetailTooLarge, at == StageRcpt && o.Reason == email.DetailSenderRejected:
		return true
	case at == StageRcpt && tooMany(r), saysGreylisting.in(words), at > StageRcpt && isOfMessage(from, r):
		return false
	case strings.Contains(strings.ToLower(r.Text), from) && (o.Reason == email.DetailSenderRejected || saysSender.in(words)):
		return true
	case (o.Reason == email.DetailHard || o.Reason == email.DetailSoft) && namesAnother(from, r):
		return false
	}
	return namesReturnPath(from, r)
}

// pathWord stands for our return path in a reply. It is one word of plain text to the rest of the package.
const pathWord = "our-return-path"

// pathIn matches a return path with its brackets, and its local part alone.
func pathIn(from string) *regexp.Regexp {
	local, _, _ := strings.Cut(from, "@")
	return regexp.MustCompile(`(?i)<?\b` + regexp.QuoteMeta(local) + `\b(?:@[a-z0-9.-]*[a-z0-9])?>?`)
}

// envelopeList is a footer that lists what the server knows of the transaction (Postfix's $sender, $recipient,
// $client_address …): "; from=<a@x.test> to=<b@y.test> proto=ESMTP". After a mark one entry is enough, also without
// a sign: " | sender a@x.test", ". Sender: <a@x.test>".
var envelopeList = regexp.MustCompile(`(?i)(?:[\s;,|(\[{](?:` + listedKey + `\s*[=:]\s*` + listedValue + `){2,}|` +
	`(?:[;|(\[{]|[.!] | - )\s*(?:` + listedKey + `(?:\s*[=:]\s*|\s+)` + listedValue + `)+)$`)

const (
	listedKey   = `(?:client|sender|from|mail[ _]from|recipient|to|rcpt(?:[ _]to)?|helo|proto|protocol|server|time|id|ip|size)(?:_address|_name)?`
	listedValue = `[<\[("]?[^\s,;|]+[\s,;|)\]}.]*`
)

// namesReturnPath reports whether a server says in its own words that a reply is about our return path. The
// address counts in any brackets, and its local part alone. A footer that an operator appends to all refusals,
// and a page in the net, may name it too. Only the page for a failed SPF check says that it is about it.
func namesReturnPath(from string, r email.Reply) bool {
	path, said := pathIn(from), saidByServer(r)
	if !path.MatchString(said) {
		return false
	}
	local, _, _ := strings.Cut(from, "@")
	if strings.Contains(strings.ToLower(said), "s=mfrom;id="+local) {
		return true
	}
	text := path.ReplaceAllLiteralString(said, pathWord)
	return strings.Contains(wordsIn(withoutEnvelopeList(text)), pathWord)
}

// withoutEnvelopeList cuts off an envelopeList.
func withoutEnvelopeList(text string) string {
	if at := envelopeList.FindStringIndex(text); at != nil {
		return text[:at[0]]
	}
	return text
}

// foundInMessage is a reply that begins with what was found in the message. A text after a mark is a footer.
var foundInMessage = regexp.MustCompile(`(?i)^[^.;|(\[!]*?(?:^|\b(?:is|like|as|contains?|found|detected)(?: \S+){0,3} )` +
	`(?:spam|a virus|virus|malware|phishing|junk(?: mail)?)\b[^.;|(\[!]*?(?:[.;!]| - | ?[|(\[])`)

// isOfMessage reports whether a reply says what was found in the message, and names our return path in a footer.
func isOfMessage(from string, r email.Reply) bool {
	found := foundInMessage.FindString(r.Text)
	return found != "" && !pathIn(from).MatchString(found)
}

// namesAnother reports whether a reply names another address than our return path.
func namesAnother(from string, r email.Reply) bool {
	path := pathIn(from)
	return slices.ContainsFunc(address.FindAllString(saidByServer(r), -1), func(a string) bool { return !path.MatchString(a) })
}

// isOfOwnPath reports whether a refusal of MAIL, which the relay gives to this MAIL command and not to others,
// is about our own return path. MAIL says nothing else of the e-mail than that and its size: a reply about
// room for the message is about the size.
func isOfOwnPath(from string, r email.Reply) bool {
	if !delivery.IsReturnPath(from) || r.Code == 0 {
		return false
	}
	ofSize := r.Code == 452 || r.Code == 552 || in(r.Enhanced, "4.3.1", "4.3.4", "5.3.4") || saysRoom.in(lowerWords(r))
	return !ofSize || namesReturnPath(from, r)
}

// saysRoom: the server has no room for a message of that size, or takes none of it.
var saysRoom = phrases(`\b(space|storage|disk)\b`, saysTooLarge.re.String())
