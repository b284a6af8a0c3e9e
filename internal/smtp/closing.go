package smtp

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/postrider/postrider/email"
)

// order is the order in which recipients are named. Those at whom the relay had a fault, or
// whom it refused, are named last: it may have closed the connection there, and do so again.
func (x *exchange) order() []int {
	var first, last []int
	for i := range x.env.Recipients {
		switch {
		case x.decided[i]:
		case x.pool.guard.remembers(x.guardKey(i)):
			last = append(last, i)
		default:
			first = append(first, i)
		}
	}
	return append(first, last...)
}

// lost ends a transaction whose connection ended while the i-th recipient was named. It may
// be the reason, or the relay does so to everybody: the guard knows.
func (x *exchange) lost(i int, err error) {
	if x.ctx.Err() != nil {
		x.abandon("RCPT TO", context.Cause(x.ctx))
		return
	}
	x.hangUp()
	rep := email.Reply{Text: printable(fmt.Sprintf("the connection ended at RCPT TO: %v", err))}
	o := email.Outcome{Status: email.RecipientDeferred, Uncounted: true, Reply: rep}
	x.blame(stageRcpt, rep, &o)
	wait := x.pool.rcpts.cut(x.pool.opts.Now(), len(x.accepted), x.recipients, false)
	o.RetryAfter = wait
	x.fault = max(x.fault, cutFault(err))
	x.decide(i, o)
	x.doubt(i, o, blameRelay)
	x.closed = true
	x.spare(i, rep, wait)
}

// close handles a 421 (RFC 5321 section 3.8) or 521 (RFC 7504) to RCPT, the i-th recipient's
// own, that is decided. After a 421 the next transactions have fewer recipients. Where some
// were accepted and the connection lives, these get the message; it reports whether DATA
// may be tried.
func (x *exchange) close(i int, rep email.Reply) bool {
	wait := nextTransaction
	if rep.Code == 421 {
		wait = x.pool.rcpts.cut(x.pool.opts.Now(), len(x.accepted), x.recipients, true)
		if o := &x.out.Outcomes[i]; o.RelayFault { // all of the e-mail together
			o.RetryAfter = max(wait, hint(o.Text))
		}
	}
	x.closed = rep.Code == 421
	if len(x.accepted) == 0 {
		x.spare(i, rep, wait)
		x.hangUp()
		return false
	}
	x.closing, x.closingWait = rep, wait
	x.decideUnasked(notTried(rep, wait))
	return true
}

// spare decides those who have no answer of their own because the connection ended at
// closer's.
func (x *exchange) spare(closer int, why email.Reply, wait time.Duration) {
	x.closer = closer
	for i := range x.env.Recipients {
		if !x.decided[i] {
			x.spared = append(x.spared, i)
		}
	}
	x.decideRest(notTried(why, wait))
}

func notTried(why email.Reply, wait time.Duration) email.Outcome {
	text := strings.TrimSpace(fmt.Sprintf("not tried: the relay closed the connection at another recipient: %d %s", why.Code, why.Text))
	if why.Code == 0 {
		text = "not tried: " + why.Text + ", at another recipient"
	}
	return email.Outcome{Status: email.RecipientDeferred, Uncounted: true, RetryAfter: wait, Reply: email.Reply{Text: printable(text)}}
}

// settle rules on all that may not mean what it says, once every recipient named has an
// answer.
func (x *exchange) settle() {
	x.settleDoubts()
	spared := x.spared
	x.spared = nil
	if len(spared) == 0 || !x.out.Outcomes[x.closer].RelayFault {
		return
	}
	for _, i := range spared { // the relay's fault is theirs to wait for as well
		o := x.out.Outcomes[i]
		o.RelayFault, o.Elsewhere = true, x.hasAlternative()
		o.Unasked = !x.closed // after a 521 they follow without the one who got it
		x.decide(i, o)
	}
}
