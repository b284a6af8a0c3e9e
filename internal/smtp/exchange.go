package smtp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// exchange is one transaction in progress.
type exchange struct {
	*Session
	// ctx is Send's: an exchange lives within one call of it.
	ctx     context.Context
	env     delivery.Envelope
	message []byte
	history History
	others  OtherRelays
	refuses Limits
	// reused: nothing was said on the connection since it was idle.
	reused bool

	// unnamed are the indexes of the recipients that no RCPT has named, in order. The last alone
	// of them go in no group. stages are named after them, if none is accepted.
	unnamed []int
	alone   int
	stages  []namingStage
	// limit is how many recipients the transaction may have, 0 is no limit. limitSaid: the relay
	// said so itself.
	limit     int
	limitSaid bool
	// inFlight are the commands whose replies are to come. sendErr is the error of writing
	// them. waitingSince is when the last reply was read, or they were written.
	inFlight     []sentCommand
	sendErr      error
	waitingSince time.Time

	out     Result
	verdict RelayVerdict
	// accepted are the indexes of the recipients that get the message.
	accepted []int
	decided  []bool
	// written are the recipients whose RCPT is written. ignored are the replies that count for
	// no recipient, because the transaction was to take no more of them.
	written []bool
	ignored map[int]email.Reply
	// saidUTF8: MAIL has the parameter SMTPUTF8.
	saidUTF8 bool
	// refusedMail: the relay's fault ended MAIL. perhapsMail: it may be about this MAIL alone.
	refusedMail, perhapsMail bool
	// suspects are the indexes of recipients whose refusals may be meant for us.
	suspects map[int]Suspicion
	// faulted are the indexes of recipients at whom the relay had a fault that may be
	// theirs alone.
	faulted []int
	// closing is the 421 or 521 to RCPT after which DATA is tried all the same. closingWait is
	// how long recipients wait that do not get the message because of it.
	closing     email.Reply
	closingWait time.Duration
	// closer is the recipient at whose RCPT the relay closed the connection. spared are the
	// recipients who have no reply because of that.
	closer int
	spared []int
	// closed: the relay closed that connection by 421 or without a reply. The reason may be us.
	closed bool
	// accountWait is how long those wait whom the relay refused because of our account.
	accountWait time.Duration
	// pattern: the relay is down because it refused recipients who have nothing in common.
	pattern bool
	// restarted: the transaction has been begun anew on another connection.
	restarted bool
}

// Send runs one transaction: MAIL, RCPT for each recipient, DATA for those
// accepted. It always answers with one outcome per recipient, in order.
//
// Before the final dot, Mark is called with the outcomes that hold if the server
// is never heard of again. If it fails, or ctx ends before, the socket is closed
// hard and nothing was sent. After it, ctx is ignored: the answer is waited for.
func (s *Session) Send(ctx context.Context, t Transaction) Result {
	x := &exchange{
		Session: s, ctx: ctx, env: t.Envelope, message: t.Message, history: t.History, others: t.Others, refuses: t.Refuses, reused: t.Reused,
		decided: make([]bool, len(t.Envelope.Recipients)),
	}
	if x.history == nil {
		x.history = noHistory{}
	}
	x.out.Outcomes = undecided(x.env)
	s.oneByOne = s.oneByOne || t.OneByOne
	begin := time.Now()
	x.run(t.Message, t.Mark)
	s.transactions++
	x.out.Took = time.Since(begin)
	x.out.Verdict = x.verdict
	x.out.RelayFault = x.verdict == VerdictRefused || x.verdict == VerdictDown || x.out.RefusesPath
	x.out.Doubtful = x.verdict == VerdictRefused || x.pattern || x.perhapsMail
	x.out.RefusedMail, x.out.AskOthersIn = x.refusedMail, x.others.AskAgainIn
	x.out.Blocked, x.out.BlockedReply = blockedReplies(x.out.Outcomes)
	return x.out
}

// undecided is one outcome for each recipient, without a verdict.
func undecided(env delivery.Envelope) []delivery.Outcome {
	out := make([]delivery.Outcome, len(env.Recipients))
	for i, r := range env.Recipients {
		out[i].RecipientID = r.ID
	}
	return out
}

func (x *exchange) run(message []byte, mark func(context.Context, []delivery.Outcome) error) {
	// Until the dot, the end of ctx cuts the socket. That may be later than the next reply: no command
	// follows the end.
	stop := context.AfterFunc(x.ctx, x.cutSocket)
	sent := x.mail(message) && x.rcpt() && x.data() && x.writeMessage(message)
	var err error
	if sent {
		err = mark(x.ctx, x.outcomesIfUnanswered())
	}
	undisturbed := stop() && x.ctx.Err() == nil
	switch {
	case !undisturbed && !sent: // decided, but the socket is gone or going
		x.closeHard()
	case !undisturbed:
		x.abortOurs("the final dot", context.Cause(x.ctx))
	case !sent:
	case err != nil:
		x.abortOurs("the final dot", err)
	default:
		x.sendFinalDot()
	}
	if x.closing.Code != 0 {
		x.closeHard()
	}
}

// mail begins the transaction. A session whose server has closed it meanwhile, or does
// not expect MAIL on it, is replaced once: nothing was said on it yet. So is one whose server
// closes it at MAIL with RCPT behind it: it may not hold PIPELINING.
func (x *exchange) mail(message []byte) bool {
	c, code, text, ok, err := x.sayMail(message)
	stale := x.reused && (err != nil || code == 421)
	// 503: the server has forgotten that it was greeted, or expects something else.
	if ok && (stale || code == 503) && x.ctx.Err() == nil && x.replace() == nil {
		// The new server may offer less than the old one.
		clear(x.decided)
		c, code, text, ok, err = x.sayMail(message)
	}
	if ok && (err != nil && !isTimeout(err) || err == nil && code/100 != 2 && !refusal(code)) && x.beginOneByOne(c) {
		_, code, text, ok, err = x.sayMail(message)
		x.out.BreaksPipelining = ok && err == nil && (code/100 == 2 || refusal(code) && code != 421)
	}
	if !ok {
		return false
	}
	switch {
	case err != nil:
		x.connectionLost("MAIL FROM", err)
	case code/100 == 2:
		x.history.TookMail()
		return true
	default:
		x.rejectedWholly(StageMail, code, text)
	}
	return false
}

// replace goes on with another connection.
func (x *exchange) replace() error {
	if err := x.redial(x.ctx); err != nil {
		return err
	}
	x.reused, x.out.Redialed, x.inFlight = false, true, nil
	if x.others.Exist {
		x.others.AskAgainIn = max(x.others.AskAgainIn, time.Second) // the new server may offer less
	}
	return nil
}

// rcpt names the recipients. It reports whether any was accepted.
func (x *exchange) rcpt() bool {
	defer x.settleReplies()
	for len(x.inFlight) > 0 || len(x.unnamed) > 0 || len(x.stages) > 0 {
		if len(x.inFlight) == 0 && x.limit > 0 && len(x.accepted) >= x.limit {
			x.passOverUnasked(atATime(x.limit, x.limitSaid), nextTransaction)
			break
		}
		if len(x.inFlight) == 0 && len(x.unnamed) == 0 {
			if len(x.accepted) > 0 {
				x.passOverUnasked(acceptedFirst, nextTransaction)
				break
			}
			x.beginStage()
		}
		if len(x.inFlight) == 0 {
			if x.hasEnded(StageRcpt.String()) {
				return false
			}
			x.sendGroup("")
		}
		c, code, text, err := x.nextReply(x.timeouts.Command)
		i, rep := c.recipient, reply(code, text)
		switch {
		case err == nil && code/100 == 2:
			x.addAccepted(i, rep)
			continue
		case (err != nil || !refusal(code)) && x.beginOneByOne(c):
			return x.runOneByOne()
		case err != nil:
			x.connectionLostAtRcpt(i, err)
			return false
		case !refusal(code):
			x.connectionLost("RCPT TO", unexpectedReply(rep))
			return false
		}
		o, who := classifyFor(x.env.From, StageRcpt, x.server.Accepts, rep)
		if code == 421 && !isOfUs(o) && x.mayBeConnectionLimit() {
			return x.restart()
		}
		switch {
		case who == OfRelay:
			x.attributeToRelay(StageRcpt, rep, &o)
		case o.Status == email.RecipientBounced && outOfStep(rep):
			if x.beginOneByOne(c) {
				return x.runOneByOne()
			}
			x.closeHard()
			x.verdict = max(x.verdict, VerdictRefused)
			x.out.Final = rep
			x.noteFault(rep, StageRcpt.String())
			x.decide(i, delivery.Outcome{Status: email.RecipientDeferred, Reply: rep})
			x.passOverRest(closedBy(rep), relayWait)
			return false
		}
		if full := o.Uncounted && who == OfRecipient; full {
			// The rest does not fit either, and asking would count as errors. Where no
			// recipient fitted, the next transaction would fare no better.
			if n := len(x.accepted); n > 0 {
				x.noteLimit(rep, n)
				x.decide(i, overLimitOutcome(rep, o.RetryAfter))
				if c, err := x.readAcceptances(); err != nil && x.closing.Code == 0 {
					if x.beginOneByOne(c) {
						return x.runOneByOne()
					}
					x.connectionLostAtRcpt(c.recipient, err)
					return false
				} else if err != nil {
					x.closeHard()
				}
				x.passOverUnasked(atATime(n, true), nextTransaction)
				break
			}
			o.RetryAfter, o.Uncounted = 0, false
		}
		if code == 421 || code == 521 { // RFC 5321 section 3.8, RFC 7504 section 3
			x.decide(i, o)
			x.noteSuspect(i, o, who)
			return x.endByClosingReply(i, rep)
		}
		if who == OfRelay && isAccountFault(rep) {
			x.accountWait = max(x.accountWait, o.RetryAfter)
		}
		x.decide(i, o)
		x.noteSuspect(i, o, who)
	}
	if len(x.accepted) > 0 {
		return true
	}
	x.settleCannotTake()
	if x.out.Final.Code == 0 {
		x.out.Final = x.out.Outcomes[len(x.out.Outcomes)-1].Reply
	}
	x.reset()
	return false
}

// addAccepted notes that the server accepted a recipient.
func (x *exchange) addAccepted(i int, rep email.Reply) {
	x.accepted = append(x.accepted, i)
	x.out.Outcomes[i].Reply = rep
	x.recipients++
	x.history.Accepted(i)
}

func (x *exchange) data() bool {
	if x.hasEnded(StageData.String()) {
		return false
	}
	if x.broken && x.closing.Code != 0 && x.ctx.Err() == nil {
		x.passOverRest(closedBy(x.closing), x.closingWait)
		return false
	}
	code, text, err := x.runCommand(x.timeouts.DataInit, "DATA")
	switch {
	case x.closing.Code != 0 && (err != nil || refusal(code)) && x.ctx.Err() == nil:
		x.passOverRest(closedBy(x.closing), x.closingWait)
	case err != nil:
		x.connectionLost("DATA", err)
	case code == 354:
		return true
	case code/100 == 2:
		// It answers an earlier command. So did the answers to RCPT: none of them counts.
		for i, o := range x.out.Outcomes {
			x.decided[i] = x.decided[i] && o.Code == 0
		}
		x.connectionLost("DATA", unexpectedReply(reply(code, text)))
	default:
		x.rejectedWholly(StageData, code, text)
	}
	return false
}

// hasEnded reports whether ctx has ended before a step, and ends the transaction then.
func (x *exchange) hasEnded(where string) bool {
	if x.ctx.Err() == nil {
		return false
	}
	x.abortOurs(where, context.Cause(x.ctx))
	return true
}

// earlyAnswer is how long a server that stopped reading the message is given to
// say why.
const earlyAnswer = time.Second

// writeMessage writes everything but the final dot.
func (x *exchange) writeMessage(message []byte) bool {
	if x.hasEnded(StageFinal.String()) {
		return false
	}
	begin := time.Now()
	err := writeStuffed(blockWriter{w: x.text.W, conn: x.conn, each: x.timeouts.DataBlock}, message)
	if err == nil {
		err = x.text.W.Flush()
	}
	st := email.Step{Command: fmt.Sprintf("message of %d bytes", len(message)), MS: time.Since(begin).Milliseconds()}
	if err == nil {
		x.out.Transcript = append(x.out.Transcript, st)
		return true
	}
	st.Error = err.Error()
	defer x.closeHard() // half a message has been sent, so no reply makes it usable again
	if x.ctx.Err() == nil && x.conn.SetReadDeadline(time.Now().Add(earlyAnswer)) == nil {
		if code, text, rerr := readReply(x.text.R); rerr == nil && refusal(code) {
			st.Reply = reply(code, text)
		}
	}
	x.out.Transcript = append(x.out.Transcript, st)
	if st.Code == 0 || st.Code == 421 {
		x.connectionLost("the message", err)
		return false
	}
	o, who := classifyFor(x.env.From, StageFinal, x.server.Accepts, st.Reply)
	x.noteCannotTake(&o)
	x.out.Final = st.Reply
	if who == OfRelay {
		x.attributeToRelay(StageFinal, st.Reply, &o)
	}
	x.decideRest(o)
	return false
}

// outcomesIfUnanswered is what holds if nothing more is heard after the dot.
func (x *exchange) outcomesIfUnanswered() []delivery.Outcome {
	out := append([]delivery.Outcome(nil), x.out.Outcomes...)
	for _, i := range x.accepted {
		out[i] = delivery.Outcome{
			RecipientID: out[i].RecipientID, Status: email.RecipientDeferred, Reason: email.DetailAmbiguous,
			Reply: email.Reply{Text: fmt.Sprintf("the message was sent to relay %s, and its answer never came", x.server.Name)},
		}
	}
	return out
}

// sendFinalDot hands the message over and waits for the reply. The end of ctx does not interrupt it.
func (x *exchange) sendFinalDot() {
	silent := x.outcomesIfUnanswered()
	code, text, err := x.runCommand(x.timeouts.Final, ".")
	rep := reply(code, text)
	if code != 0 && (errors.Is(err, errReplyTooLong) || errors.Is(err, errReplyEndless)) {
		defer x.quitMidReply()
		err = nil // the code decides, however long the text
	}
	if err == nil && code/100 != 2 && !refusal(code) {
		err = unexpectedReply(rep)
	}
	if err != nil {
		x.out.Outcomes, x.verdict = silent, lostConnectionVerdict(err)
		x.out.Unanswered = err
		x.noteFault(lostConnectionReply("the final dot", err), "")
		x.closeHard()
		return
	}
	x.out.Final = rep
	if code/100 == 2 {
		// It has taken mail: what it said of some recipient was about that one.
		x.verdict = VerdictNone
		x.out.Delivered, x.out.Closing = len(x.accepted), x.closing.Code != 0
		for _, i := range x.accepted {
			x.decide(i, delivery.Outcome{Status: email.RecipientDelivered, Reply: rep})
		}
		return
	}
	o, who := classifyFor(x.env.From, StageFinal, x.server.Accepts, rep)
	x.noteCannotTake(&o)
	if who == OfRelay {
		x.attributeToRelay(StageFinal, rep, &o)
	}
	x.adjustForAll(rep, &o)
	x.decideRest(o)
	if code == 421 {
		x.closeHard()
	}
}

// runCommand runs one command and keeps it in the transcript, behind what opened the session.
func (x *exchange) runCommand(timeout time.Duration, format string, args ...any) (int, string, error) {
	begin := time.Now()
	code, text, err := x.command(timeout, format, args...)
	x.addStep(fmt.Sprintf(format, args...), time.Since(begin), code, text, err)
	return code, text, err
}

// addStep adds a command to the transcript, behind what opened the session.
func (x *exchange) addStep(command string, took time.Duration, code int, text string, err error) {
	st := email.Step{Command: command, MS: took.Milliseconds(), Reply: reply(code, text)}
	if err != nil {
		st.Error = Printable(err.Error())
	}
	x.out.Transcript = append(append(x.out.Transcript, x.log.take()...), st)
}
