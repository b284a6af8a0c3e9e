package smtp

import (
	"context"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// Transaction is what Send needs.
type Transaction struct {
	Envelope delivery.Envelope
	// Message is rendered, with CRLF line ends.
	Message []byte
	// Mark is called right before the final dot, with the outcomes that hold if nothing more
	// is heard. The dot is written only if it returns nil.
	Mark func(context.Context, []delivery.Outcome) error
	// History is what is known of the server; nil is nothing.
	History History
	// Others says what other relays may take the mail.
	Others OtherRelays
	// Refuses is what the server has refused of late although EHLO did not say so. It is not
	// tried where Others has a relay to wait for.
	Refuses Limits
	// OneByOne: the server has shown that it does not hold PIPELINING, so no command is sent
	// before the reply to the one before is read.
	OneByOne bool
	// Reused: the session was idle, so its server may have closed the connection meanwhile.
	Reused bool
}

// OtherRelays says what becomes of mail that this server does not take.
type OtherRelays struct {
	// Exist: another relay takes mail of this route.
	Exist bool
	// MayTakeIt: Exist, and not all of them are known not to take the whole message.
	MayTakeIt bool
	// AfterFault: MayTakeIt, and no relay's fault ended the attempt before. Without it, relays
	// that all put mail off would hand it on without end.
	AfterFault bool
	// AskAgainIn is when a relay that may take what this server cannot is asked again; 0:
	// there is none.
	AskAgainIn time.Duration
}

// Result is what a transaction came to.
type Result struct {
	delivery.Exchange
	// Took is the time from its beginning to the last answer.
	Took time.Duration
	// Verdict is what it shows about the server. Doubtful: the fault may be this mail's alone.
	Verdict  RelayVerdict
	Doubtful bool
	// Fault is the server's reply that the verdict is about; the zero Reply where none came. Cause says
	// which command it answers, or where the connection ended.
	Fault email.Reply
	Cause string
	// Blocked counts the different replies that refuse our address, or the sender's domain, for its reputation.
	// BlockedReply is one of them.
	Blocked      int
	BlockedReply email.Reply
	// RefusedMail: the server's fault ended MAIL.
	RefusedMail bool
	// RefusesPath: it refused the return path, one of our own host, and takes other mail. The e-mail waits,
	// and the server shows no fault.
	RefusesPath bool
	// Delivered are the recipients for whom the server took the message. Closing: it closes
	// the connection all the same.
	Delivered int
	Closing   bool
	// RecipientLimit is how many recipients a transaction may have, as LimitReply says; 0 if
	// the server said nothing of a limit.
	RecipientLimit int
	LimitReply     email.Reply
	// Refuses is what the server does not take although EHLO did not say so.
	Refuses Limits
	// BreaksPipelining: the server offers PIPELINING, did not answer a group of commands, and
	// answered them one by one.
	BreaksPipelining bool
	// Aborted is why we ended it before the final dot; nil if we did not.
	Aborted error
	// Unanswered is why the answer to the final dot could not be read; nil if it was read.
	Unanswered error
	// Redialed: the session has another connection. AskOthersIn is Others.AskAgainIn, or
	// longer.
	Redialed    bool
	AskOthersIn time.Duration
}

// Faulty reports whether the server had a fault, at the transaction or at a recipient.
func (r Result) Faulty() bool {
	if r.RelayFault {
		return true
	}
	for _, o := range r.Outcomes {
		if o.RelayFault {
			return true
		}
	}
	return false
}

// Limits are limits that a server does not state in EHLO: its refusals show them.
type Limits struct {
	// Bytes is the size of the smallest message refused for its size; 0: none was.
	Bytes int64
	// UTF8: SMTPUTF8 was offered, and refused.
	UTF8 bool
}
