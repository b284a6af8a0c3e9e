package smtp

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/email"
)

// stage is where in a transaction a reply came.
type stage int

const (
	// stageSession is everything before MAIL: connect, TLS, greeting, AUTH.
	stageSession stage = iota
	stageMail
	stageRcpt
	// stageData is the answer to the DATA command.
	stageData
	// stageFinal is the answer to the final dot.
	stageFinal
)

// blame says whose fault a refusal is, which decides how far it reaches.
type blame int

const (
	// blameRelay: ours or the relay's; no recipient's state suffers.
	blameRelay blame = iota
	// blameSender: all recipients share the fate.
	blameSender
	// blameRecipient: this recipient alone, or all the dot stood for.
	blameRecipient
)

// Waits that a kind of refusal calls for.
const (
	// mailboxFullWait is the least wait for a full mailbox: emptying takes time.
	mailboxFullWait = 30 * time.Minute
	// nextTransaction is the wait of recipients that did not fit into this one.
	nextTransaction = time.Second
	// relayWait is the wait of recipients that a relay's fault gave back.
	relayWait = 10 * time.Second
	// ambiguousWait is how long after an unanswered dot the mail is tried again.
	ambiguousWait = time.Minute
)

// relayTexts betray a relay that does not want us, whatever code it chose.
var relayTexts = regexp.MustCompile(`(?i)relay(ing)? (access )?(is )?(denied|prohibited|not (permitted|allowed))|(not permitted|unable|not allowed) to relay|do(es)? not relay|authentication (is )?required`)

// classify turns a refusing reply into an outcome and says whom to blame. It is
// the one place where replies are judged; the table is DESIGN's. An enhanced
// code (RFC 3463) that contradicts the basic one wins: the server that sends
// one has thought about it.
func classify(at stage, r email.Reply) (email.Outcome, blame) {
	class, enhanced := r.Code/100, r.Enhanced
	if c := firstDigit(enhanced); c == 4 || c == 5 {
		class = c
	}
	o := email.Outcome{Reply: r, Status: email.RecipientBounced}
	if class == 4 {
		o.Status = email.RecipientDeferred
	}
	if isRelayFault(at, r) {
		o.Status, o.Uncounted, o.RetryAfter = email.RecipientDeferred, true, max(relayWait, hint(r.Text))
		return o, blameRelay
	}
	if tooLarge(at, r) {
		o.Status, o.Reason = email.RecipientFailed, email.DetailTooLarge
		return o, blameSender
	}
	if at == stageMail || in(enhanced, "5.1.7", "5.1.8", "4.1.7", "4.1.8") {
		if o.Status == email.RecipientBounced {
			o.Status = email.RecipientFailed
		}
		o.Reason = email.DetailSenderRejected
		if o.Status == email.RecipientDeferred {
			o.RetryAfter = hint(r.Text)
		}
		return o, blameSender
	}
	if o.Status == email.RecipientDeferred {
		deferral(at, &o)
		return o, blameRecipient
	}
	o.Reason, o.Suppress = bounce(r)
	return o, blameRecipient
}

// isRelayFault: the relay would not have anybody's mail, or not ours.
func isRelayFault(at stage, r email.Reply) bool {
	switch {
	case at == stageSession, r.Code == 421 && at != stageFinal, in(r.Enhanced, "5.7.8", "5.7.9", "4.7.8", "4.7.9"):
		return true
	case strings.HasPrefix(r.Enhanced, "4.3."):
		return true
	}
	return r.Code == 530 || r.Code == 535 || r.Code == 538 || relayTexts.MatchString(r.Text)
}

// tooLarge: the message, not a mailbox, is over a limit. A 552 whose enhanced
// code speaks of a mailbox (x.2.x), of content (x.6.x) or of policy (x.7.x) means
// that instead.
func tooLarge(at stage, r email.Reply) bool {
	if in(r.Enhanced, "5.3.4", "5.2.3") {
		return true
	}
	if at == stageRcpt || r.Code != 552 {
		return false
	}
	return r.Enhanced == "" || in(r.Enhanced[:3], "5.0", "5.3", "5.5")
}

// faultCounts says whether a relay's fault closes it for all mail at once:
// without a connection, credentials or a sender nobody's mail goes there. Any
// other may be one recipient's or one message's bad luck, a closed connection too:
// if the relay is really gone, the next dial says so.
func faultCounts(at stage, r email.Reply) bool {
	return at == stageSession || at == stageMail || in(r.Enhanced, "5.7.8", "5.7.9") || slices.Contains([]int{530, 535, 538}, r.Code)
}

// deferral fills in when to try again.
func deferral(at stage, o *email.Outcome) {
	if at == stageRcpt && o.Code == 452 && (o.Enhanced == "4.5.3" || (o.Enhanced == "" && strings.Contains(strings.ToLower(o.Text), "too many recipients"))) {
		o.RetryAfter, o.Uncounted = nextTransaction, true
		return
	}
	if h := hint(o.Text); h > 0 {
		o.RetryAfter = h
		return
	}
	if o.Enhanced == "4.2.2" || (o.Code == 452 && o.Enhanced == "") {
		o.RetryAfter, o.AtLeast = mailboxFullWait, true
	}
}

// bounce tells kinds of permanent refusals apart, and whether the address is dead.
func bounce(r email.Reply) (email.Detail, bool) {
	switch {
	case in(r.Enhanced, "5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"):
		return email.DetailHard, true
	case r.Enhanced == "5.2.2" || (r.Code == 552 && r.Enhanced == ""):
		return email.DetailSoft, false
	case strings.HasPrefix(r.Enhanced, "5.7."), r.Code == 554 && r.Enhanced == "", r.Code == 521:
		return email.DetailBlock, false
	case r.Enhanced == "" && (r.Code == 550 || r.Code == 551 || r.Code == 553 || r.Code == 556):
		return email.DetailHard, true
	}
	return email.DetailOther, false
}

func firstDigit(enhanced string) int {
	if enhanced == "" {
		return 0
	}
	return int(enhanced[0] - '0')
}

func in(s string, list ...string) bool { return slices.Contains(list, s) }
