package smtp

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// namingStage are recipients of one EnvelopeRecipient.Group, in the order in which they are named.
type namingStage struct {
	recipients []int
	// alone of them, the last ones, go in no group of commands.
	alone int
}

// namingStages are the recipients to be named. In each stage those at which the relay had a fault, or
// which it refused, are named last: it may have closed the connection there, and do so again. They
// go in no group of commands, so that the replies to all others are read before.
func (x *exchange) namingStages() []namingStage {
	first, last := map[int][]int{}, map[int][]int{}
	groups := map[int]bool{}
	for i, r := range x.env.Recipients {
		if x.decided[i] {
			continue
		}
		groups[r.Group] = true
		if x.history.NameLast(i) {
			last[r.Group] = append(last[r.Group], i)
		} else {
			first[r.Group] = append(first[r.Group], i)
		}
	}
	var stages []namingStage
	for _, g := range slices.Sorted(maps.Keys(groups)) {
		stages = append(stages, namingStage{append(first[g], last[g]...), len(last[g])})
	}
	return stages
}

// beginStage goes on with the recipients of the next stage.
func (x *exchange) beginStage() {
	x.unnamed, x.alone, x.stages = x.stages[0].recipients, x.stages[0].alone, x.stages[1:]
}

// connectionLostAtRcpt ends a transaction whose connection ended while the i-th recipient was
// named. That recipient may be the reason, or the relay does so to everybody: the history knows.
func (x *exchange) connectionLostAtRcpt(i int, err error) {
	if x.ctx.Err() != nil {
		x.abortOurs("RCPT TO", context.Cause(x.ctx))
		return
	}
	x.closeHard()
	rep := lostConnectionReply("RCPT TO", err)
	o := delivery.Outcome{Status: email.RecipientDeferred, Uncounted: true, Reply: rep}
	x.attributeToRelay(StageRcpt, rep, &o)
	wait, cause := x.noteClosedAt(i, false)
	o.RetryAfter = wait
	x.verdict = max(x.verdict, lostConnectionVerdict(err))
	x.decide(i, o)
	x.noteSuspect(i, o, OfRelay)
	x.attributeToLimit(i, cause, wait)
	x.closed = true
	x.deferRest(i, rep, wait)
}

// endByClosingReply handles a 421 (RFC 5321 section 3.8) or 521 (RFC 7504) to the RCPT of the i-th
// recipient, which is decided. After a 421 the next transactions have fewer recipients, unless its words
// give another reason (isOfUs). Where some
// were accepted and the connection lives, these get the message; it reports whether DATA
// may be tried.
func (x *exchange) endByClosingReply(i int, rep email.Reply) bool {
	wait := nextTransaction
	mayBeLimit := rep.Code == 421 && !isOfUs(x.out.Outcomes[i])
	if mayBeLimit {
		var cause CloseCause
		wait, cause = x.noteClosedAt(i, true)
		if o := &x.out.Outcomes[i]; o.RelayFault { // all of the e-mail together
			o.RetryAfter = max(wait, retryHint(o.Reply))
		}
		x.attributeToLimit(i, cause, max(wait, retryHint(rep)))
	}
	x.closed = mayBeLimit
	if len(x.accepted) == 0 {
		x.deferRest(i, rep, wait)
		x.closeHard()
		return false
	}
	x.closing, x.closingWait = rep, wait
	if _, err := x.readAcceptances(); err != nil {
		x.closeHard()
	}
	x.passOverUnasked(closedBy(rep), wait)
	return true
}

// isOfUs reports whether the recipient's server gave our address or the sender's domain as its reason: then a
// 421 says nothing of a limit.
func isOfUs(o delivery.Outcome) bool {
	return o.Reason == email.DetailIPBlocked || o.Reason == email.DetailUnauthenticated
}

// noteClosedAt notes what a connection that was closed at the i-th recipient says of the relay's
// limits. Where the relay refused all before it because of our account, it may have closed the
// connection for its number of refusals: the rest waits for the account.
func (x *exchange) noteClosedAt(i int, said421 bool) (wait time.Duration, cause CloseCause) {
	wait, cause = x.history.ClosedAtRcpt(RcptClose{
		Recipient: i, Accepted: len(x.accepted), Refused: x.refusedForGood(i), Wanted: len(x.env.Recipients), OnConnection: x.recipients,
		Redialed: x.restarted && len(x.accepted) == 0, Said421: said421,
	})
	if len(x.accepted) == 0 {
		wait = max(wait, x.accountWait)
	}
	return wait, cause
}

// refusedForGood counts the recipients other than i that the relay refused by 5xx.
func (x *exchange) refusedForGood(i int) (n int) {
	for j, o := range x.out.Outcomes {
		if j != i && x.decided[j] && o.Code/100 == 5 {
			n++
		}
	}
	return n
}

// attributeToLimit corrects the outcome of the i-th recipient, at which the connection was closed.
// Where others were accepted before it, and a limit of the relay is the cause, it did not fit.
func (x *exchange) attributeToLimit(i int, cause CloseCause, wait time.Duration) {
	o := x.out.Outcomes[i]
	if cause == CauseUnknown || len(x.accepted) == 0 || o.Status != email.RecipientDeferred {
		return
	}
	x.decide(i, overLimitOutcome(o.Reply, wait))
	if cause == CauseTransaction {
		x.faulted = slices.DeleteFunc(x.faulted, func(j int) bool { return j == i })
	}
}

// overLimitOutcome is the outcome of a recipient that did not fit into the transaction, in the
// relay's words.
func overLimitOutcome(rep email.Reply, wait time.Duration) delivery.Outcome {
	return delivery.Outcome{Status: email.RecipientDeferred, Uncounted: true, Unasked: true, RetryAfter: wait, Reply: rep}
}

// deferRest decides the recipients that have no reply of their own because the connection ended
// at closer's.
func (x *exchange) deferRest(closer int, why email.Reply, wait time.Duration) {
	x.closer = closer
	for i := range x.env.Recipients {
		if !x.decided[i] {
			x.spared = append(x.spared, i)
		}
	}
	x.passOverRest(closedBy(why), wait)
}

// closedBy says why a transaction ended at the RCPT of another recipient, whose reply is given.
func closedBy(rep email.Reply) string {
	switch {
	case rep.Code == 0:
		return rep.Text + ", at another recipient"
	case outOfStep(rep):
		return strings.TrimSpace(fmt.Sprintf("the relay answered out of step at another recipient: %d %s", rep.Code, rep.Text))
	}
	return strings.TrimSpace(fmt.Sprintf("the relay closed the connection at another recipient: %d %s", rep.Code, rep.Text))
}

// settleReplies decides the replies that may not mean what they say, once every recipient named
// has a reply.
func (x *exchange) settleReplies() {
	x.settleSuspects()
	spared := x.spared
	x.spared = nil
	if len(spared) == 0 || !x.out.Outcomes[x.closer].RelayFault {
		return
	}
	for _, i := range spared { // the relay's fault is theirs to wait for as well
		o := x.out.Outcomes[i]
		o.RelayFault, o.Elsewhere = true, x.others.MayTakeIt
		o.Unasked = !x.closed // after a 521 they follow without the one who got it
		x.decide(i, o)
	}
}
