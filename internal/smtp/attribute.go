package smtp

import (
	"github.com/postrider/postrider/email"
)

// attributeToRelay notes that the relay is at fault. Where it may be so for this mail alone,
// and no other relay takes it, the breaker does not hold it back for long: so the
// outcome does, or the same message would come every 10 s.
func (x *exchange) attributeToRelay(at Stage, rep email.Reply, o *email.Outcome) {
	x.out.Final = rep
	if at == StageMail && x.ownMail(rep) {
		*o = ofOneSender(rep, x.hasAnotherTry())
		return
	}
	if at > StageRcpt && mayBeOfOneMail(at, rep) && x.pool.guard.own(x.pool.opts.Now(), guardKey{emailID: x.env.ID}, false) {
		itsOwn(o)
		return
	}
	o.RelayFault, o.Elsewhere = true, x.hasAlternative()
	if faultCounts(at, rep) {
		x.verdict = VerdictDown
		return
	}
	x.verdict = max(x.verdict, VerdictRefused)
	if !x.alternative {
		o.RetryAfter = max(o.RetryAfter, lastBackoff)
	}
}

// ownMail notes that the relay refused MAIL, or closed the connection there, and reports
// whether it does so to this return-path, or this size, alone.
func (x *exchange) ownMail(rep email.Reply) bool {
	x.perhapsMail = mayBeOfOneSender(rep)
	own := x.perhapsMail && x.pool.guard.own(x.pool.opts.Now(), guardKey{address: string(keyOfMail(x.mailCommand()))}, isPermanent(rep))
	x.refusedMail = !own
	return own
}

// itsOwn turns a relay's fault into a deferral as any other, because the relay takes other
// mail.
func itsOwn(o *email.Outcome) {
	o.RelayFault, o.Elsewhere, o.Uncounted, o.RetryAfter = false, false, false, hint(o.Text)
}

// mailCommand is what MAIL says of this e-mail.
func (x *exchange) mailCommand() email.MailCommand {
	return email.MailCommand{From: x.env.From, Bytes: int64(len(x.message))}
}

// refusedCommand is the MAIL command that the relay's fault ended; nil if it ended another.
func (x *exchange) refusedCommand() *email.MailCommand {
	if !x.refusedMail {
		return nil
	}
	return new(x.mailCommand())
}

// forOthers removes this e-mail's addresses and domains from a reply, because other
// e-mails that wait for the same relay show it.
func (x *exchange) forOthers(r email.Reply) email.Reply {
	domains := []string{email.DomainOf(x.env.From)}
	for _, to := range x.env.Recipients {
		domains = append(domains, email.DomainOf(to.Address))
	}
	r.Text = email.MaskDomains(r.Text, domains...)
	return r
}
