package smtp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// rejectedWholly ends a transaction that the server refused as a whole.
func (x *exchange) rejectedWholly(at Stage, code int, text string) {
	rep := reply(code, text)
	if !refusal(code) {
		x.connectionLost(at.String(), unexpectedReply(rep))
		return
	}
	o, who := classifyFor(x.env.From, at, x.server.Accepts, rep)
	x.noteCannotTake(&o)
	x.out.Final = rep
	switch {
	case who == OfRelay:
		x.attributeToRelay(at, rep, &o)
	case at == StageMail && o.Reason == email.DetailSenderRejected && mayMeanUs(x.server.Accepts, rep):
		o = delivery.Outcome{Status: email.RecipientDeferred, Uncounted: true, RetryAfter: relayWait, Reply: rep}
		x.attributeToRelay(at, rep, &o)
	}
	x.adjustForAll(rep, &o)
	x.decideRest(o)
	if code == 421 {
		x.closeHard()
		return
	}
	if x.skipReplies() == nil {
		x.reset()
	}
}

func unexpectedReply(rep email.Reply) error {
	return fmt.Errorf("an answer that does not belong there: %d %s", rep.Code, rep.Text)
}

// connectionLost ends a transaction before the dot because the connection did: nothing was
// sent, and what the socket would say next is not known.
func (x *exchange) connectionLost(where string, err error) {
	if x.ctx.Err() != nil {
		x.abortOurs(where, context.Cause(x.ctx))
		return
	}
	if where == "MAIL FROM" {
		if f := lostConnectionVerdict(err); f == VerdictDown || !x.isOwnMailFault(email.Reply{}) {
			x.refusedMail = true
			x.finishWith(VerdictDown, where, err)
			return
		}
		x.closeHard()
		x.out.Final = lostConnectionReply(where, err)
		x.decideRest(ofOneSender(x.out.Final, x.others.AfterFault))
		return
	}
	// The message may be the reason: the same one does not come every 10 s.
	x.finishWith(lostConnectionVerdict(err), where, err)
	for _, i := range x.accepted {
		x.out.Outcomes[i].Accepted = x.out.Outcomes[i].RelayFault
	}
	own := x.verdict == VerdictRefused && x.history.OwnFault(StageFinal, 0, false)
	if own {
		x.verdict = VerdictNone
	}
	for i := range x.out.Outcomes {
		switch o := &x.out.Outcomes[i]; {
		case o.RetryAfter != relayWait:
		case own:
			makeOrdinaryDeferral(o)
		default:
			o.RetryAfter = lostConnectionWait
		}
	}
}

// lostConnectionVerdict judges a connection that ended in a transaction: one that was closed may
// be for this mail alone, and if the relay is gone the next dial says so; one that
// was silent until our time ran out is not tried with all the others.
func lostConnectionVerdict(err error) RelayVerdict {
	if isTimeout(err) {
		return VerdictDown
	}
	return VerdictRefused
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// lostConnectionWait is how long a message waits whose transaction was cut off.
const lostConnectionWait = time.Minute

// abortOurs ends a transaction before the dot for a reason of our own. It touches no
// recipient. The reason is for the operator: Result.Aborted has it, and no outcome.
func (x *exchange) abortOurs(where string, err error) {
	x.closeHard()
	x.verdict, x.out.Aborted = VerdictOurs, fmt.Errorf("at %s: %w", where, err)
	x.out.Final = email.Reply{Text: "Postrider ended the transaction before the message was sent; it tries again"}
	x.decideRest(delivery.Outcome{Status: email.RecipientDeferred, Uncounted: true, Unasked: true, RetryAfter: relayWait, Reply: x.out.Final})
}

// finishWith ends a transaction before the dot for a fault of the relay.
func (x *exchange) finishWith(v RelayVerdict, where string, err error) {
	x.closeHard()
	x.verdict = v
	x.out.Final = lostConnectionReply(where, err)
	x.noteFault(x.out.Final, where)
	x.decideRest(delivery.Outcome{Status: email.RecipientDeferred, Uncounted: true, RetryAfter: relayWait, Reply: x.out.Final,
		RelayFault: true, Elsewhere: x.others.MayTakeIt})
}

// lostConnectionReply says where the connection ended, and why. Customers read it, so it names no
// address of the socket.
func lostConnectionReply(where string, err error) email.Reply {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	return email.Reply{Text: Printable(fmt.Sprintf("the connection ended at %s: %v", where, err))}
}

func (x *exchange) decide(i int, o delivery.Outcome) {
	o.RecipientID = x.env.Recipients[i].ID
	x.out.Outcomes[i], x.decided[i] = o, true
}

// decideRest decides everybody who has no answer of their own.
func (x *exchange) decideRest(o delivery.Outcome) {
	for i := range x.env.Recipients {
		if !x.decided[i] {
			x.decide(i, o)
		}
	}
}
