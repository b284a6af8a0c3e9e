package smtp

import (
	"fmt"
	"strings"
	"time"

	"github.com/postrider/postrider/email"
)

// Bounds of a group: the commands that are written before the first reply to them is read.
// RFC 2920 section 3.1: a group fits into the TCP window, which may have 4 KiB. With a larger
// one, client and server can wait for each other without end.
const (
	maxGroupBytes    = 4096
	maxGroupCommands = 100
)

// sentCommand is a MAIL or RCPT command that is written and whose reply is not read.
type sentCommand struct {
	line string
	// recipient is the index of the recipient that RCPT names; -1 at MAIL.
	recipient int
	// grouped: it was written together with another command.
	grouped bool
}

// pipelines reports whether commands may be written before the replies to earlier ones are
// read (RFC 2920).
func (s *Session) pipelines() bool {
	return s.uses("PIPELINING") && !s.server.NoPipelining && !s.oneByOne
}

// sendGroup writes the next commands: mail, unless it is empty, and RCPT for recipients of
// x.unnamed. A group has no more recipients than the relay's limit still allows. Without
// PIPELINING, and at a recipient that goes in no group, it is one command. An error shows when
// the replies are read.
func (x *exchange) sendGroup(mail string) {
	if mail != "" {
		x.inFlight = append(x.inFlight, sentCommand{line: mail, recipient: -1})
	}
	most := 1
	if x.pipelines() && len(x.unnamed) > x.alone {
		most = min(maxGroupCommands, len(x.inFlight)+len(x.unnamed)-x.alone)
	}
	if x.limit > 0 {
		most = min(most, len(x.inFlight)+x.limit-len(x.accepted))
	}
	size := len(mail)
	for len(x.unnamed) > 0 && len(x.inFlight) < most {
		i := x.unnamed[0]
		line := fmt.Sprintf("RCPT TO:<%s>", x.env.Recipients[i].Address)
		if size += len(line) + 2; size > maxGroupBytes && len(x.inFlight) > 0 {
			break
		}
		x.inFlight, x.unnamed = append(x.inFlight, sentCommand{line: line, recipient: i}), x.unnamed[1:]
		x.written[i] = true
	}
	var group strings.Builder
	for n := range x.inFlight {
		x.inFlight[n].grouped = len(x.inFlight) > 1
		group.WriteString(x.inFlight[n].line + "\r\n")
	}
	x.waitingSince = time.Now()
	x.sendErr = x.write(x.timeouts.Command, group.String())
}

// nextReply reads the reply to the oldest command in flight, and keeps both in the transcript.
func (x *exchange) nextReply(timeout time.Duration) (c sentCommand, code int, text string, err error) {
	c, x.inFlight = x.inFlight[0], x.inFlight[1:]
	// A server that closed the connection may have answered a part of the group before.
	if err = x.sendErr; err == nil || c.grouped && !isTimeout(err) {
		code, text, err = x.awaitReply(timeout)
	}
	now := time.Now()
	x.addStep(c.line, now.Sub(x.waitingSince), code, text, err)
	x.waitingSince = now
	return c, code, text, err
}

// skipReplies reads the replies to RCPT commands that went out with a refused MAIL. They are
// no recipient's verdict. Where one does not come, the connection is closed and it returns the error.
func (x *exchange) skipReplies() error {
	for len(x.inFlight) > 0 {
		if _, _, _, err := x.nextReply(x.timeouts.Reset); err != nil {
			x.closeHard()
			return err
		}
	}
	return nil
}

// readAcceptances reads the replies to the RCPT commands that are in flight when the
// transaction is to take no more recipients. An accepted recipient gets the message, because
// the server would deliver it. Every other reply is ignored: its recipient is asked again, as if
// it had not been named. After a 421 or 521 the replies may not come, so the wait is short.
func (x *exchange) readAcceptances() (sentCommand, error) {
	for len(x.inFlight) > 0 {
		timeout := x.timeouts.Command
		if x.closing.Code != 0 {
			timeout = x.timeouts.Reset
		}
		c, code, text, err := x.nextReply(timeout)
		rep := reply(code, text)
		switch {
		case err != nil:
			return c, err
		case code/100 == 2:
			x.addAccepted(c.recipient, rep)
		case !refusal(code):
			return c, unexpectedReply(rep)
		default:
			x.ignored[c.recipient] = rep
			if (code == 421 || code == 521) && x.closing.Code == 0 {
				x.closing, x.closingWait = rep, nextTransaction
			}
		}
	}
	return sentCommand{}, nil
}

// beginOneByOne begins the transaction anew, without PIPELINING and on another connection,
// where a reply to a grouped command is missing or out of step. The server may not hold
// PIPELINING although it offers it, and without it the reply means what it says. It reports
// false, and changes nothing, where the command was not grouped or no connection is to be had.
func (x *exchange) beginOneByOne(c sentCommand) bool {
	if !c.grouped || x.ctx.Err() != nil || x.replace() != nil {
		return false
	}
	x.oneByOne = true
	x.verdict, x.accepted, x.suspects, x.faulted = VerdictNone, nil, nil, nil
	x.closing, x.closingWait, x.accountWait = email.Reply{}, 0, 0
	x.out.Final, x.out.RecipientLimit, x.out.LimitReply = email.Reply{}, 0, email.Reply{}
	x.decided = make([]bool, len(x.env.Recipients))
	x.out.Outcomes = undecided(x.env)
	return true
}

// runOneByOne is MAIL and RCPT after beginOneByOne. Where RCPT now has its replies, the server
// does not hold PIPELINING.
func (x *exchange) runOneByOne() bool {
	if !x.mail(x.message) {
		return false
	}
	ok := x.rcpt()
	x.out.BreaksPipelining = ok || !x.broken
	return ok
}
