package smtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postrider/postrider/email"
)

// exchange is one transaction in progress.
type exchange struct {
	*Session
	env email.Envelope
	out email.Exchange
	// accepted are the indexes of the recipients the dot will stand for.
	accepted []int
	decided  []bool
}

// Send runs one transaction: MAIL, RCPT for each recipient, DATA for those
// accepted. It always answers with one outcome per recipient, in order.
//
// Before the final dot, mark is called with the outcomes that hold if the server
// is never heard of again. If it fails, or ctx ends before, the socket is closed
// hard and nothing was sent. After it, ctx is ignored: the answer is waited for.
func (s *Session) Send(ctx context.Context, env email.Envelope, message []byte, mark func(context.Context, []email.Outcome) error) email.Exchange {
	x := &exchange{Session: s, env: env, decided: make([]bool, len(env.Recipients))}
	x.out.Outcomes = make([]email.Outcome, len(env.Recipients))
	for i, r := range env.Recipients {
		x.out.Outcomes[i].RecipientID = r.ID
	}
	begin := time.Now()
	x.run(ctx, message, mark)
	s.messages++
	s.idle = time.Now()
	s.reused = false
	s.owner.observe(s.relay, time.Since(begin), x.out.RelayFault)
	return x.out
}

func (x *exchange) run(ctx context.Context, message []byte, mark func(context.Context, []email.Outcome) error) {
	parameters, unsendable := x.parameters(message)
	if unsendable != nil {
		x.decideRest(*unsendable)
		return
	}
	// Until the dot, the end of ctx cuts the socket.
	stop := context.AfterFunc(ctx, x.cutSocket)
	defer stop()
	if !x.mail(ctx, parameters) || !x.rcpt() || !x.data() || !x.body(message) {
		return
	}
	if err := mark(ctx, x.ifSilent()); err != nil {
		x.cut("final dot", err)
		return
	}
	if !stop() {
		x.cut("final dot", context.Cause(ctx))
		return
	}
	x.dot()
}

// parameters are MAIL's (RFC 1870, 6152, 6531, 3461), or the outcome of a
// message this relay cannot take.
func (x *exchange) parameters(message []byte) (string, *email.Outcome) {
	unsendable := func(reason email.Detail, format string, args ...any) *email.Outcome {
		return &email.Outcome{Status: email.RecipientFailed, Reason: reason, Reply: email.Reply{Text: fmt.Sprintf(format, args...)}}
	}
	if at := bareLineEnd(message); at >= 0 {
		return "", unsendable(email.DetailUnsendable, "the message has a line end that is not CRLF at byte %d", at)
	}
	params := ""
	if _, ok := x.extension("SIZE"); ok {
		if limit := x.sizeLimit(); limit > 0 && int64(len(message)) > limit {
			return "", unsendable(email.DetailTooLarge, "the message has %d bytes, the relay takes %d", len(message), limit)
		}
		params += fmt.Sprintf(" SIZE=%d", len(message))
	}
	eightBit := !ascii(message)
	if _, ok := x.extension("8BITMIME"); ok && eightBit {
		params += " BODY=8BITMIME"
	}
	if x.needsUTF8(message) {
		if _, ok := x.extension("SMTPUTF8"); !ok {
			return "", unsendable(email.DetailUnsendable, "an address of this message is not ASCII, and the relay does not offer SMTPUTF8")
		}
		params += " SMTPUTF8"
	}
	if _, ok := x.extension("DSN"); ok && x.env.ID != "" {
		params += " RET=HDRS ENVID=" + xtext(x.env.ID)
	}
	return params, nil
}

// needsUTF8: an address or a header field holds more than ASCII (RFC 6531).
func (x *exchange) needsUTF8(message []byte) bool {
	if !ascii([]byte(x.env.From)) {
		return true
	}
	for _, r := range x.env.Recipients {
		if !ascii([]byte(r.Address)) {
			return true
		}
	}
	header, _, _ := bytes.Cut(message, []byte("\r\n\r\n"))
	return !ascii(header)
}

// mail begins the transaction. A kept session whose server has closed it
// meanwhile is replaced once: nothing was said on it yet.
func (x *exchange) mail(ctx context.Context, parameters string) bool {
	code, text, err := x.step(x.timeouts.Command, "MAIL FROM:<%s>%s", x.env.From, parameters)
	if (err != nil || code == 421) && x.reused && ctx.Err() == nil && x.redial(ctx) == nil {
		code, text, err = x.step(x.timeouts.Command, "MAIL FROM:<%s>%s", x.env.From, parameters)
	}
	if err != nil {
		x.cut("MAIL FROM", err)
		return false
	}
	if code/100 != 2 {
		x.refused(stageMail, reply(code, text))
		return false
	}
	return true
}

func (x *exchange) rcpt() bool {
	for i, r := range x.env.Recipients {
		code, text, err := x.step(x.timeouts.Command, "RCPT TO:<%s>", r.Address)
		if err != nil {
			x.cut("RCPT TO", err)
			return false
		}
		rep := reply(code, text)
		if code/100 == 2 {
			x.accepted = append(x.accepted, i)
			x.out.Outcomes[i].Reply = rep
			continue
		}
		o, who := classify(stageRcpt, rep)
		x.decide(i, o)
		if who == blameRelay {
			x.out.RelayFault, x.out.Final = true, rep
		}
		if code == 421 { // the server is closing: those accepted so far have nothing
			x.accepted = nil
			x.decideRest(o)
			x.hangUp()
			return false
		}
	}
	if len(x.accepted) > 0 {
		return true
	}
	if x.out.Final.Code == 0 && len(x.out.Outcomes) > 0 {
		x.out.Final = x.out.Outcomes[0].Reply
	}
	x.reset()
	return false
}

func (x *exchange) data() bool {
	code, text, err := x.step(x.timeouts.DataInit, "DATA")
	if err != nil {
		x.cut("DATA", err)
		return false
	}
	if code != 354 {
		x.refused(stageData, reply(code, text))
		return false
	}
	return true
}

// body writes everything but the final dot.
func (x *exchange) body(message []byte) bool {
	if err := x.conn.SetDeadline(time.Now().Add(x.timeouts.DataBlock)); err != nil {
		x.cut("message", err)
		return false
	}
	begin := time.Now()
	err := writeStuffed(x.text.W, message)
	if err == nil {
		err = x.text.W.Flush()
	}
	if err != nil {
		x.cut("message", err)
		return false
	}
	x.out.Transcript = append(x.out.Transcript, email.Step{Command: fmt.Sprintf("message of %d bytes", len(message)), MS: time.Since(begin).Milliseconds()})
	return true
}

// ifSilent is what holds if nothing more is heard after the dot.
func (x *exchange) ifSilent() []email.Outcome {
	out := append([]email.Outcome(nil), x.out.Outcomes...)
	for _, i := range x.accepted {
		out[i] = email.Outcome{
			RecipientID: out[i].RecipientID, Status: email.RecipientDeferred, Reason: email.DetailAmbiguous, RetryAfter: ambiguousWait,
			Reply: email.Reply{Text: "the message was sent, and the relay's answer to it never came"},
		}
	}
	return out
}

// dot hands the message over and waits for the answer, whatever else happens.
func (x *exchange) dot() {
	silent := x.ifSilent()
	code, text, err := x.step(x.timeouts.Final, ".")
	if err != nil {
		x.out.Outcomes, x.out.RelayFault = silent, true
		x.hangUp()
		return
	}
	rep := reply(code, text)
	x.out.Final = rep
	if code/100 == 2 {
		for _, i := range x.accepted {
			x.decide(i, email.Outcome{Status: email.RecipientDelivered, Reply: rep})
		}
		return
	}
	o, who := classify(stageFinal, rep)
	x.out.RelayFault = who == blameRelay
	x.decideRest(o)
	if code == 421 {
		x.hangUp()
	}
}

// step runs one command and keeps it in the transcript.
func (x *exchange) step(timeout time.Duration, format string, args ...any) (int, string, error) {
	begin := time.Now()
	code, text, err := x.command(timeout, format, args...)
	st := email.Step{Command: fmt.Sprintf(format, args...), MS: time.Since(begin).Milliseconds(), Reply: reply(code, text)}
	if err != nil {
		st.Error = err.Error()
	}
	x.out.Transcript = append(x.out.Transcript, st)
	return code, text, err
}

// refused ends a transaction that the server refused as a whole.
func (x *exchange) refused(at stage, rep email.Reply) {
	o, who := classify(at, rep)
	x.out.Final, x.out.RelayFault = rep, who == blameRelay
	x.decideRest(o)
	if rep.Code == 421 {
		x.hangUp()
		return
	}
	x.reset()
}

// cut ends a transaction before the dot: nothing was sent, and what the socket
// would say next is not known.
func (x *exchange) cut(where string, err error) {
	x.hangUp()
	x.out.RelayFault = !errors.Is(err, email.ErrSuperseded) && !errors.Is(err, context.Canceled)
	x.decideRest(email.Outcome{
		Status: email.RecipientDeferred, Uncounted: true, RetryAfter: relayWait,
		Reply: email.Reply{Text: fmt.Sprintf("the connection ended at %s: %v", where, err)},
	})
}

func (x *exchange) decide(i int, o email.Outcome) {
	o.RecipientID = x.env.Recipients[i].ID
	x.out.Outcomes[i], x.decided[i] = o, true
}

// decideRest decides everybody who has no answer of their own.
func (x *exchange) decideRest(o email.Outcome) {
	for i := range x.env.Recipients {
		if !x.decided[i] {
			x.decide(i, o)
		}
	}
}

// reset makes the session good for the next transaction, or gives it up.
func (x *exchange) reset() {
	if code, _, err := x.command(x.timeouts.Reset, "RSET"); err != nil || code/100 != 2 {
		x.hangUp()
	}
}
