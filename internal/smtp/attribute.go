package smtp

import (
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// attributeToRelay notes that the relay is at fault. If the relay has the fault with this mail alone,
// the outcome is the mail's own.
func (x *exchange) attributeToRelay(at Stage, rep email.Reply, o *delivery.Outcome) {
	x.out.Final = rep
	if at == StageMail && x.isOwnMailFault(rep) {
		if x.out.RefusesPath = isOfOwnPath(x.env.From, rep); x.out.RefusesPath {
			o.RelayFault, o.Elsewhere, x.refusedMail = true, x.others.MayTakeIt, true
			return
		}
		*o = ofOneSender(rep, x.others.AfterFault)
		return
	}
	// Where a permanent refusal of the command is this mail's own, it is a refusal by policy.
	byPolicy := refusesCommand(at, rep) && isPermanent(rep)
	ofPath := delivery.IsReturnPath(x.env.From) && namesReturnPath(x.env.From, rep)
	if at > StageRcpt && !ofPath && mayBeOfOneMail(at, rep) && x.history.OwnFault(at, 0, byPolicy) {
		if makeOrdinaryDeferral(o); byPolicy {
			o.Status, o.Reason = email.RecipientBounced, email.DetailBlock
		}
		return
	}
	x.noteFault(rep, at.String())
	o.RelayFault, o.Elsewhere, o.AtRcpt, o.Accepted = true, x.others.MayTakeIt, at == StageRcpt, at > StageRcpt
	if faultCounts(at, rep) {
		x.verdict = VerdictDown
		return
	}
	x.verdict = max(x.verdict, VerdictRefused)
}

// noteFault notes what shows a fault of the relay: its reply to a command, or, without a code, the text
// of lostConnectionReply.
func (x *exchange) noteFault(rep email.Reply, command string) {
	x.out.Fault, x.out.Cause = rep, "it refused "+command
	if rep.Code == 0 {
		x.out.Fault, x.out.Cause = email.Reply{}, rep.Text
	}
}

// isOwnMailFault notes that the relay refused MAIL, or closed the connection there, and reports
// whether it does so to this return-path, or this size, alone.
//
// A refusal of our own return path ends no e-mail, so it need not last.
func (x *exchange) isOwnMailFault(rep email.Reply) bool {
	x.perhapsMail = MayBeOfOneSender(x.env.From, rep)
	own := x.perhapsMail && x.history.OwnFault(StageMail, 0, isPermanent(rep) && !isOfOwnPath(x.env.From, rep))
	x.refusedMail = !own
	return own
}

// makeOrdinaryDeferral turns a relay's fault into a deferral as any other, because the relay takes
// other mail.
func makeOrdinaryDeferral(o *delivery.Outcome) {
	o.RelayFault, o.Elsewhere, o.AtRcpt, o.Accepted, o.Uncounted, o.RetryAfter = false, false, false, false, false, retryHint(o.Reply)
}
