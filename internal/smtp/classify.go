package smtp

import (
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// Waits that a kind of refusal calls for.
const (
	// mailboxFullWait is the least wait for a full mailbox: emptying takes time.
	mailboxFullWait = 30 * time.Minute
	// nextTransaction is the wait of recipients that did not fit into this one.
	nextTransaction = time.Second
	// relayWait is the wait of recipients that a relay's fault gave back.
	relayWait = 10 * time.Second
	// accountWait is the least wait while our account with a relay is over a limit.
	accountWait = 30 * time.Minute
)

// classify turns a refusing reply into an outcome and says whose fault it is. It is the
// one place where replies are judged; testdata/replies.tsv holds it to what servers
// say. accepts tells whose server it is: the same words about our address are a
// recipient's refusal from its own server, and a fault from a relay. An enhanced code
// (RFC 3463) that contradicts the basic one wins: the server that sends one has
// thought about it. Words win over both where they name the relay, our account, our
// address or the sender, because servers send 550 5.7.1 for any of these.
//
// A server that has our address on a list, or does not find the sender's domain authenticated,
// says nothing of the recipient: that is ip_blocked or unauthenticated, and waits (reputation.go).
//
// hard needs a reply that says that the mailbox or the domain does not exist. After RCPT only a code says
// so (x.1.x): the words may be about the message. Where that reply answers for several recipients it says
// of none that it does not exist (adjustForAll).
func classify(at Stage, accepts email.AcceptMeans, r email.Reply) (delivery.Outcome, Attribution) {
	class, enhanced := r.Code/100, r.Enhanced
	if c := firstDigit(enhanced); c == 4 || c == 5 {
		class = c
	}
	o := delivery.Outcome{Reply: r, Status: email.RecipientBounced}
	if class == 4 {
		o.Status = email.RecipientDeferred
	}
	words := lowerWords(r)
	if at == StageRcpt && tooMany(r) {
		// RFC 5321 section 4.5.3.1.10: 552 is to be read as temporary here.
		o.Status, o.RetryAfter, o.Uncounted = email.RecipientDeferred, nextTransaction, true
		return o, OfRecipient
	}
	if isRelayFault(at, accepts, r, words) {
		o.Status, o.Uncounted, o.RetryAfter = email.RecipientDeferred, true, max(relayWait, retryHint(r))
		if saysAccount.in(words) && class == 5 && (r.Enhanced == "5.4.5" || saysLongQuota.in(words)) {
			// A day's or a month's quota. A limit for a shorter time, as a rate a minute,
			// follows the relay's backoff.
			o.RetryAfter = max(accountWait, o.RetryAfter)
		}
		return o, OfRelay
	}
	if tooLarge(at, r) {
		o.Status, o.Reason = email.RecipientFailed, email.DetailTooLarge
		return o, OfSender
	}
	if fault := authFaultOf(at, r, words); fault != "" {
		return unauthenticated(o, fault), OfSender
	}
	if isIPBlocked(at, r, words) {
		o.Status, o.Reason = email.RecipientDeferred, email.DetailIPBlocked
		o.RetryAfter, o.AtLeast = retryHint(r), true
		return o, OfRecipient
	}
	if isSenderRefused(at, accepts, r, words) {
		if o.Status == email.RecipientBounced {
			o.Status = email.RecipientFailed
		}
		o.Reason = email.DetailSenderRejected
		if o.Status == email.RecipientDeferred {
			o.RetryAfter = retryHint(r)
		}
		return o, OfSender
	}
	if o.Status == email.RecipientBounced && saysAccount.in(words) && !saysReceiving.in(words) {
		// The recipient's own server takes no more from us for now.
		o.Status, o.RetryAfter, o.AtLeast = email.RecipientDeferred, accountWait, true
		return o, OfRecipient
	}
	if o.Status == email.RecipientDeferred {
		deferral(&o)
		return o, OfRecipient
	}
	o.Reason = bounce(at, r, words)
	o.Suppress = o.Reason == email.DetailHard
	return o, OfRecipient
}

// isRelayFault: the relay takes no mail at all now, or none of ours.
func isRelayFault(at Stage, accepts email.AcceptMeans, r email.Reply, words string) bool {
	switch {
	case at == StageSession, r.Code == 421 && at != StageFinal && !(accepts == email.AcceptsFinal && namesUs(at, r, words)):
		return true
	case r.Code == 421 && accepts == email.AcceptsRelay:
		return !saysContent.in(words) && !saysGreylisting.in(words)
	case accepts == email.AcceptsFinal && namesList(r, words):
		return false // as one that refuses our address in other words, below
	case at == StageMail && isTemporary(r):
		return !namesSender(r, words)
	case in(r.Enhanced, "5.7.8", "5.7.9", "4.7.8", "4.7.9"):
		// After the message these are used for what was found in it.
		return at != StageFinal || !saysContent.in(words) && !saysPolicy.in(words)
	case at == StageMail && r.Code == 503 && in(r.Enhanced, "", "5.5.0", "5.5.1"):
		return true // a bad sequence of commands: it is about the session
	case outOfService(r), accepts == email.AcceptsRelay && refusesCommand(at, r): // before a footer's words are read
		return true
	case r.Code == 530 && saysSender.in(words):
		return false
	case r.Code == 530 || r.Code == 535 || r.Code == 538, strings.HasPrefix(r.Enhanced, "4.3."):
		return true
	case saysMessageAuth.in(words), saysByRecipient.in(words):
		return false
	case saysRelaying.in(words):
		return saysCredentials.in(words) || !saysSender.in(words)
	case at == StageFinal && saysContent.in(words) && !saysAccount.in(words):
		return false
	case saysCredentials.in(words), speaksOfServer(r, words):
		return true
	}
	// A recipient's own server that refuses our address speaks for its recipients only.
	if accepts == email.AcceptsFinal || isSenderRefused(at, accepts, r, words) && !saysAccount.in(words) {
		return false
	}
	return r.Enhanced == "5.4.5" || saysAccount.in(words) && !saysReceiving.in(words) || blamesClient(r, words)
}

// namesUs: the reply is about our address, its reputation, or the authentication of the sender's domain. A
// recipient's own server may say so with 421: it takes other mail, and another connection gets the same reply.
func namesUs(at Stage, r email.Reply, words string) bool {
	return isIPBlocked(at, r, words) || authFaultOf(at, r, words) != ""
}

// isTemporary: the reply says that another try may fare better. Where the codes
// contradict each other the enhanced one wins, as in classify.
func isTemporary(r email.Reply) bool {
	if c := firstDigit(r.Enhanced); c == 4 || c == 5 {
		return c == 4
	}
	return r.Code/100 == 4
}

// namesSender: a refusal of MAIL says that it is about the return-path or the
// sender's domain. Any other is about the server, which takes no mail for now.
//
// A 4.3.x speaks of the server, and so does a reason that is about the service:
// "<a@x.test>: Sender address rejected: Server configuration problem".
func namesSender(r email.Reply, words string) bool {
	if strings.HasPrefix(r.Enhanced, "4.3.") || outOfService(r) {
		return false
	}
	return in(r.Enhanced, "4.1.7", "4.1.8", "5.1.7", "5.1.8") || saysSender.in(words) || saysMessageAuth.in(words) || authFaultOf(StageMail, r, words) != "" || saysDomainList.in(words) ||
		onList(words) == "sender address" || saysGreylisting.in(words)
}

// MayBeOfOneSender reports whether a relay's fault at MAIL may be about this return-path, or
// this size, alone: it closed the connection, or the reply is temporary and neither code nor
// words say that it is about us. Words about the server may be meant for one sender:
// Postfix says "Service unavailable" for a milter that puts one sender off. A return path of our own host may
// also be refused for good, or named with any words.
func MayBeOfOneSender(from string, r email.Reply) bool {
	own := delivery.IsReturnPath(from)
	// Another process that shares a reply has masked the address.
	if r.Code == 0 || saysNothing(r) || own && (namesReturnPath(from, r) || strings.Contains(r.Text, "***")) {
		return true
	}
	words := lowerWords(r)
	return (own || isTemporary(r)) && !faultCounts(StageRcpt, r) && r.Code != 454 &&
		!blamesClient(r, words) && !saysAccount.in(words) && !saysCredentials.in(words) && !saysRelaying.in(words)
}

// isPermanent: there is a reply, and it says that another try will fare no better.
func isPermanent(r email.Reply) bool { return r.Code != 0 && !isTemporary(r) }

// ofOneSender is the outcome where a relay that takes other mail puts off a return-path, or a
// size. A reply about the relay itself is a reason to go to another relay.
func ofOneSender(r email.Reply, alternative bool) delivery.Outcome {
	o := delivery.Outcome{Status: email.RecipientDeferred, RetryAfter: retryHint(r), Reply: r}
	if isPermanent(r) {
		o.Status = email.RecipientFailed
	}
	switch ofServer := r.Code == 0 || r.Code == 421 || strings.HasPrefix(r.Enhanced, "4.3.") || speaksOfServer(r, lowerWords(r)); {
	case ofServer && alternative:
		o.Status = email.RecipientDeferred
		o.RelayFault, o.Elsewhere, o.Uncounted, o.RetryAfter = true, true, true, relayWait
	case !ofServer, o.Status == email.RecipientFailed:
		o.Reason = email.DetailSenderRejected
	}
	return o
}

// saysNothing: a permanent refusal of MAIL that names neither the sender nor the client. It may
// be meant for everybody. A Postfix that is set to reject while its milter is away answers all
// with "550 5.5.0 Service unavailable". A milter that rejects says "5.7.1 Command rejected".
func saysNothing(r email.Reply) bool {
	words := lowerWords(r)
	if isTemporary(r) || r.Code/100 != 5 || !slices.Contains([]int{550, 554}, r.Code) || namesSender(r, words) || saysUnknown.in(words) {
		return false
	}
	return strings.HasPrefix(r.Enhanced, "5.7.") || in(r.Enhanced, "5.0.0", "5.3.0", "5.3.2", "5.5.0") || r.Text == "" || outOfService(r)
}

// mayMeanUs reports whether a refusal of MAIL that classify takes for the sender's may be meant
// for everybody. A recipient's own server speaks for its recipients only.
func mayMeanUs(accepts email.AcceptMeans, r email.Reply) bool {
	return accepts == email.AcceptsRelay && saysNothing(r)
}

// speaksOfServer: a temporary refusal says in words what 4.3.x says as a code: the server
// is full, busy or not in service. That alone, and nothing else, a permanent one may say too.
//
// A temporary refusal of a recipient is a deferral of that recipient, as by a policy service.
func speaksOfServer(r email.Reply, words string) bool {
	if isTemporary(r) && reasonOf(r).refused == "recipient address" {
		return false
	}
	return outOfService(r) || isTemporary(r) && saysServer.in(words) && !saysGreylisting.in(words) && !in(r.Enhanced, "4.2.1", "4.2.2")
}

// outOfService: the whole reason is that a service is not available, or in Postfix's form
// that something of the server does not work, or both. A temporary one of
// these is a recipient's deferral where the reply refuses the recipient.
func outOfService(r email.Reply) bool {
	why := reasonOf(r)
	fault := why.is(saysOutOfService) || why.refused != "" && why.isAllOf(saysOutOfService, saysServerFault)
	return fault && (why.refused != "recipient address" || !isTemporary(r))
}

// blamesClient: the reply is about our address, name or reputation, and does not say
// that a mailbox is unknown by words and code.
func blamesClient(r email.Reply, words string) bool {
	switch onList(words) {
	case "client host", "helo command":
		return true
	case "sender address", "recipient address":
		return false
	}
	if saysUnknownByCode(r, words) {
		return false
	}
	return (saysClient.in(words) || saysClientURL.in(urlsOf(r))) && !saysDomainList.in(words) && !saysListedContent.in(words)
}

// isSenderRefused: the reply is about the return-path or the sender's domain. A
// reply about SPF before the message is about these.
func isSenderRefused(at Stage, accepts email.AcceptMeans, r email.Reply, words string) bool {
	switch {
	case in(r.Enhanced, "5.1.7", "5.1.8", "4.1.7", "4.1.8"):
		return true
	case at == StageMail:
		return !blamesClient(r, words) || accepts == email.AcceptsFinal
	case saysByRecipient.in(words), onList(words) != "" && onList(words) != "sender address":
		return false
	case saysMessageAuth.in(words):
		return at == StageRcpt && accepts == email.AcceptsRelay
	case at == StageRcpt && (saysDomainList.in(words) || onList(words) == "sender address"):
		return accepts == email.AcceptsRelay
	}
	return saysSender.in(words)
}

// tooMany: the reply is about the number of recipients of a transaction (RFC 3463
// X.5.3). Servers say so with any code.
func tooMany(r email.Reply) bool {
	words := lowerWords(r)
	return (strings.HasSuffix(r.Enhanced, ".5.3") || saysTooMany.in(words) && !saysAccount.in(words)) && !saysRelaying.in(words)
}

// saysUnknownByCode: code and words say that a mailbox is unknown, and no words say anything else.
func saysUnknownByCode(r email.Reply, words string) bool {
	return in(r.Enhanced, "5.1.1", "5.1.10") && saysUnknown.in(words) && !saysBlocked.in(words)
}

// saysUnknownMailbox: the reply names a mailbox or domain that does not exist, and no other reason. "Mailbox
// unavailable" is RFC 5321's text of any 550 (section 4.2.3): servers put a policy behind it. In Postfix's
// form the reason has to say so: "address rejected: service unavailable" does not.
func saysUnknownMailbox(r email.Reply, words string) bool {
	if saysUnknownAtMicrosoft.in(strings.ToLower(r.Text)) {
		return true
	}
	if saysBlocked.in(words) {
		return false
	}
	if why := reasonOf(r); why.refused != "" { // without a footer: it may say "if the mailbox is unknown"
		return why.speaksOf(saysUnknown) && !why.speaksOf(saysOurs)
	}
	return saysUnknown.in(words) && !saysOurs.in(words)
}

// saysFullMailbox: the mailbox exists, and takes nothing now. A policy service of Postfix
// that says 5.7.x (authorisation, RFC 3463 section 3.8) may mean a quota of ours: its reason
// has to name a mailbox.
func saysFullMailbox(r email.Reply, words string) bool {
	if why := reasonOf(r); why.refused != "" && strings.HasPrefix(r.Enhanced, "5.7.") && !why.speaksOf(saysMailbox) {
		return false
	}
	return saysFull.in(words) || saysReceiving.in(words)
}

// tooLarge: the message, not a mailbox, is over a limit. A 552 whose enhanced
// code speaks of a mailbox (x.2.x), of content (x.6.x) or of policy (x.7.x) means
// that instead.
func tooLarge(at Stage, r email.Reply) bool {
	if in(r.Enhanced, "5.3.4", "5.2.3") {
		return true
	}
	if at == StageRcpt || r.Code != 552 {
		return false
	}
	words := lowerWords(r)
	return (r.Enhanced == "" || in(r.Enhanced[:3], "5.0", "5.3", "5.5")) && !tooMany(r) && !saysFull.in(words)
}

// refusesCommand: a relay refuses DATA or the end of the data itself, as Postfix does by
// smtpd_data_restrictions=reject and smtpd_end_of_data_restrictions=reject: the reply says
// nothing of the message, its sender or a mailbox.
func refusesCommand(at Stage, r email.Reply) bool {
	why := reasonOf(r)
	switch {
	case at == StageData && (why.refused == "data command" || why.is(saysCommandRejected)):
	case at == StageFinal && why.refused == "end-of-data":
	default:
		return false
	}
	return !slices.ContainsFunc([]topic{saysContent, saysSender, saysMessageAuth, saysDomainList, saysByRecipient, saysTooLarge}, why.speaksOf) &&
		!(why.speaksOf(saysFull) && why.speaksOf(saysMailbox))
}

// faultCounts says whether a relay's fault closes it for all mail at once: without a connection,
// credentials or MAIL no mail goes there. Any other fault may be about one recipient or message.
// So may a closed connection: if the relay is really gone, the next dial shows it.
func faultCounts(at Stage, r email.Reply) bool {
	return at == StageSession || at == StageMail || in(r.Enhanced, "5.7.8", "5.7.9") || slices.Contains([]int{530, 535, 538}, r.Code)
}

// mayBeOfOneMail reports whether a relay may have this fault at one recipient or message
// and take all others: it closed the connection, or answered 421, 4.3.x or in words that say
// as much, as when its filter fails.
func mayBeOfOneMail(at Stage, r email.Reply) bool {
	words := lowerWords(r)
	return !faultCounts(at, r) && (r.Code == 0 || r.Code == 421 || strings.HasPrefix(r.Enhanced, "4.3.") || speaksOfServer(r, words) || refusesCommand(at, r))
}

// deferral fills in when to try again.
func deferral(o *delivery.Outcome) {
	if h := retryHint(o.Reply); h > 0 {
		o.RetryAfter = h
		return
	}
	if o.Enhanced == "4.2.2" || (o.Code == 452 && o.Enhanced == "") {
		o.RetryAfter, o.AtLeast = mailboxFullWait, true
	}
}

// bounce tells kinds of permanent refusals apart.
func bounce(at Stage, r email.Reply, words string) email.Detail {
	unknown := saysUnknownMailbox(r, words)
	unsaid := r.Enhanced == "" || in(r.Enhanced, "5.0.0", "5.0.1", "5.3.0", "5.5.0")
	refused := blamesClient(r, words) || saysMessageAuth.in(words) || saysDomainList.in(words) || saysByRecipient.in(words) || saysContent.in(words) || saysBlocked.in(words) ||
		saysPolicy.in(words) && (unsaid || in(r.Enhanced[:min(4, len(r.Enhanced))], "5.1.", "5.2.", "5.7."))
	switch {
	case at != StageRcpt && tooMany(r):
		return email.DetailOther
	case r.Enhanced == "5.2.2" || saysFullMailbox(r, words) && r.Enhanced != "5.1.1":
		return email.DetailSoft
	case r.Code == 521 && !unknown:
		return email.DetailBlock
	case in(r.Enhanced, "5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1") && !blamesClient(r, words) && (unknown || !saysMessageAuth.in(words) && !saysContent.in(words) && !saysBlocked.in(words)):
		return email.DetailHard
	case unknown && !blamesClient(r, words) && (at == StageRcpt || strings.HasPrefix(r.Enhanced, "5.1.")):
		// Behind RCPT only a code says that the words are about a mailbox.
		return email.DetailHard
	case r.Code == 552 && r.Enhanced == "" && !refused:
		return email.DetailSoft
	case strings.HasPrefix(r.Enhanced, "5.7."), r.Code == 554 && unsaid, refused:
		return email.DetailBlock
	case at == StageRcpt && r.Enhanced == "" && words == "" && slices.Contains([]int{550, 551, 553, 556}, r.Code), r.Code == 556 && at == StageRcpt:
		return email.DetailHard
	}
	return email.DetailOther
}

func firstDigit(enhanced string) int {
	if enhanced == "" {
		return 0
	}
	return int(enhanced[0] - '0')
}

func in(s string, list ...string) bool { return slices.Contains(list, s) }
