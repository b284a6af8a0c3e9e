package smtp

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// acceptedFirst is why recipients wait for the next transaction without a fault of the relay.
const acceptedFirst = "the message goes first to recipients at which the relay does not close the connection"

// atATime says that the relay takes n recipients in a transaction: it said so itself, or it closed a
// connection, which may have had another reason.
func atATime(n int, said bool) string {
	recipients := fmt.Sprintf("%d recipients", n)
	if n == 1 {
		recipients = "1 recipient"
	}
	if said {
		return "the relay takes " + recipients + " at a time"
	}
	return "the relay gets " + recipients + " at a time for now, because it closed a connection at a recipient"
}

// passOver decides a recipient that waits for another transaction, and says how far it came in
// this one.
func (x *exchange) passOver(i int, why string, wait time.Duration) {
	ignored := x.ignored[i]
	text := "not tried yet: " + why
	switch {
	case slices.Contains(x.accepted, i):
		text = delivery.AcceptedInVain + ": " + why
	case tooMany(ignored):
		x.decide(i, overLimitOutcome(ignored, wait))
		return
	case ignored.Code != 0:
		text = fmt.Sprintf("to be asked again, because its reply, %d %s, does not count: %s", ignored.Code, ignored.Text, why)
	case x.written[i]:
		text = "no reply yet: " + why
	}
	x.decide(i, overLimitOutcome(email.Reply{Text: Printable(text)}, wait))
}

// passOverUnasked passes over the recipients that are neither decided nor accepted: their RCPT was
// not, or need not be, tried.
func (x *exchange) passOverUnasked(why string, wait time.Duration) {
	for i := range x.env.Recipients {
		if !x.decided[i] && !slices.Contains(x.accepted, i) {
			x.passOver(i, why, wait)
		}
	}
}

// passOverRest passes over all recipients that are not decided, those accepted too.
func (x *exchange) passOverRest(why string, wait time.Duration) {
	for i := range x.env.Recipients {
		if !x.decided[i] {
			x.passOver(i, why, wait)
		}
	}
}

// noteLimit notes that the relay takes n recipients in a transaction.
func (x *exchange) noteLimit(rep email.Reply, n int) { x.out.RecipientLimit, x.out.LimitReply = n, rep }

// adjustForAll corrects what the answer to the message, or to DATA, means for the recipients
// accepted. One that counts them splits them. One that says that a mailbox does not
// exist does not say whose, unless there is only one.
func (x *exchange) adjustForAll(rep email.Reply, o *delivery.Outcome) {
	if len(x.accepted) < 2 {
		return
	}
	switch {
	case tooMany(rep):
		x.noteLimit(rep, len(x.accepted)/2)
		*o = overLimitOutcome(rep, nextTransaction)
	case o.Reason == email.DetailHard:
		o.Reason, o.Suppress = email.DetailOther, false
	}
}

// isAccountFault: the relay's reason is our account with it.
func isAccountFault(rep email.Reply) bool {
	return rep.Enhanced == "5.4.5" || saysAccount.in(lowerWords(rep))
}

// mayBeConnectionLimit reports whether a 421 to RCPT may be about the connection, which has had
// transactions before, and nothing has come of this one yet.
func (x *exchange) mayBeConnectionLimit() bool {
	return x.ctx.Err() == nil && x.transactions > 0 && len(x.accepted) == 0 && !x.restarted &&
		!slices.ContainsFunc(x.out.Outcomes, func(o delivery.Outcome) bool { return o.Code != 0 })
}

// restart begins the transaction anew on another connection.
func (x *exchange) restart() bool {
	x.restarted = true
	x.history.ClosedAtRcpt(RcptClose{Recipient: -1, OnConnection: x.recipients, Said421: true})
	if err := x.replace(); err != nil {
		x.connectionLost("RCPT TO", err)
		return false
	}
	clear(x.decided)
	return x.mail(x.message) && x.rcpt()
}

// noteSuspect remembers an answer to RCPT that may not mean what it says: a refusal of the
// recipient may be meant for us, and a fault of the relay may be the recipient's own.
func (x *exchange) noteSuspect(i int, o delivery.Outcome, who Attribution) {
	if who == OfRelay && mayBeOfOneMail(StageRcpt, o.Reply) {
		x.faulted = append(x.faulted, i)
	}
	if who != OfRecipient {
		return
	}
	if how := suspicionOf(x.server.Accepts, o); how != SuspicionNone {
		if x.suspects == nil {
			x.suspects = map[int]Suspicion{}
		}
		x.suspects[i] = how
	}
}

// settleFaults defers the recipients whose faults are their own: the relay accepted others
// in this transaction, or has taken other mail between their faults. A connection that it
// closed counts against it all the same, until it has taken other mail.
func (x *exchange) settleFaults() {
	failed := x.faulted
	x.faulted = nil // once, also where the transaction was begun anew
	cleared := len(failed) > 0
	for _, i := range failed {
		own := x.history.OwnFault(StageRcpt, i, false)
		cleared = cleared && (own || !x.closed)
		o := x.out.Outcomes[i]
		if x.decided[i] && o.RelayFault && (len(x.accepted) > 0 || own) {
			makeOrdinaryDeferral(&o)
			x.decide(i, o)
		}
	}
	if cleared && x.verdict == VerdictRefused && !slices.ContainsFunc(x.out.Outcomes, func(o delivery.Outcome) bool { return o.RelayFault }) {
		x.verdict = VerdictNone
	}
}

// refusedAsOthers reports whether every refusal that may be meant for us is one by which other
// recipients of the e-mail have bounced: the same reply, to the same domain. The
// words for clients without a login prove nothing: they do not depend on the recipient.
func (x *exchange) refusedAsOthers() bool {
	if len(x.env.Bounced) == 0 {
		return false
	}
	for i, how := range x.suspects {
		by := delivery.NewBounceReply(x.env.Recipients[i].Address, x.out.Outcomes[i].Reply)
		if how != SuspicionCode || !slices.Contains(x.env.Bounced, by) {
			return false
		}
	}
	return true
}

// settleSuspects decides the refusals that may be meant for us. They stand where the relay accepted
// others in this transaction, and where others of the e-mail have bounced by them. Otherwise it
// asks the history.
func (x *exchange) settleSuspects() {
	x.settleFaults()
	if len(x.accepted) > 0 || x.refusedAsOthers() {
		return
	}
	doubts := x.suspects
	x.suspects = nil // once, also where the transaction was begun anew
	for _, i := range slices.Sorted(maps.Keys(doubts)) {
		rep := x.out.Outcomes[i].Reply
		rule := x.history.Refused(i, rep, doubts[i])
		if rule.Final {
			continue
		}
		o := delivery.Outcome{Status: email.RecipientDeferred, Uncounted: true, Reply: rep}
		before := x.verdict
		if before != VerdictOurs {
			x.attributeToRelay(StageRcpt, rep, &o)
		}
		if rule.Accepts && !rule.Pattern { // most likely it is the recipient's own, so the relay stays up
			x.verdict = before
		}
		o.RetryAfter = rule.Wait
		if rule.Pattern && x.verdict != VerdictOurs {
			x.pattern = x.pattern || x.verdict != VerdictDown
			x.verdict = VerdictDown
		}
		x.decide(i, o)
	}
}
