package smtp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/plaintext"
)

// MailProbe is what a server says to MAIL outside of a transaction.
type MailProbe struct {
	// Taken: the server takes mail. It may refuse this return-path all the same.
	Taken bool
	// Reply is the zero Reply where Err says that the connection ended.
	Reply email.Reply
	Err   error
	// Doubtful: the server may refuse this MAIL command alone.
	Doubtful bool
}

// ProbeMail finds out with MAIL and RSET whether the server takes mail: before an attempt is
// opened, so that no e-mail is touched where it does not. A refusal that is about the
// return-path shows that it does. Unless Taken, the session is closed.
//
// The error is ctx's.
func (s *Session) ProbeMail(ctx context.Context, m delivery.MailCommand, timeout time.Duration) (MailProbe, error) {
	stop := context.AfterFunc(ctx, s.cutSocket)
	parameters := ""
	if _, ok := s.extension("SIZE"); ok && m.Bytes > 0 {
		parameters = fmt.Sprintf(" SIZE=%d", m.Bytes)
	}
	from := m.From
	if _, ok := s.extension("SMTPUTF8"); ok && !plaintext.ASCII(from) {
		parameters += " SMTPUTF8"
	} else if !plaintext.ASCII(from) {
		from = ""
	}
	code, text, err := s.command(min(s.timeouts.Command, timeout), "MAIL FROM:<%s>%s", from, parameters)
	a := MailProbe{Reply: reply(code, text)}
	if !stop() {
		s.closeHard()
		return a, context.Cause(ctx)
	}
	relays := err != nil || (code/100 != 2 && !refusal(code))
	if !relays && refusal(code) {
		_, who := classifyFor(m.From, StageMail, s.server.Accepts, a.Reply)
		relays = who == OfRelay || mayMeanUs(s.server.Accepts, a.Reply)
	}
	if !relays {
		if s.reset(); !s.broken {
			a.Taken = true
			return a, nil
		}
		err = errors.New("the connection ended after MAIL FROM")
	}
	a.Doubtful = MayBeOfOneSender(m.From, a.Reply)
	if err != nil {
		a.Err = fmt.Errorf("the connection ended at MAIL FROM: %w", err)
		a.Doubtful = lostConnectionVerdict(err) != VerdictDown
		s.closeHard()
	} else {
		s.Quit()
	}
	return a, nil
}
