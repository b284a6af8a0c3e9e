package delivery

import (
	"time"

	"github.com/postrider/postrider/email"
)

// Outcome is the verdict of one attempt for one recipient.
type Outcome struct {
	RecipientID string `json:"id"`
	// Status is delivered, deferred, bounced or failed: what closing the
	// attempt makes of the recipient.
	Status email.RecipientStatus `json:"status"`
	// Reason refines a status that is not delivered.
	Reason email.Detail `json:"reason,omitempty"`
	// Auth, with DetailUnauthenticated: what the sender's domain lacks.
	Auth AuthFault `json:"auth,omitempty"`
	email.Reply
	// RetryAfter is what the server asked for, or what the kind of refusal
	// calls for; zero means the schedule.
	RetryAfter time.Duration `json:"retry_after,omitempty"`
	// AtLeast makes RetryAfter a floor of the schedule instead of its replacement.
	AtLeast bool `json:"at_least,omitempty"`
	// Uncounted: the relay or we ourselves were at fault, so the attempt does
	// not move the recipient along its schedule.
	Uncounted bool `json:"uncounted,omitempty"`
	// RelayFault: the relay refused its business with us, not this recipient. The
	// recipient returns to the state that it had before the attempt, without an event.
	RelayFault bool `json:"relay_fault,omitempty"`
	// AtRcpt, with RelayFault: Reply is the relay's answer to this recipient's RCPT, or says that
	// the connection ended there. The recipient shows it.
	AtRcpt bool `json:"at_rcpt,omitempty"`
	// Accepted, with RelayFault: the relay had accepted this recipient, and Reply ended the transaction at
	// DATA, in the message or at the final dot.
	Accepted bool `json:"accepted,omitempty"`
	// Elsewhere, with RelayFault: another relay takes the e-mail, and the next attempt goes
	// there.
	Elsewhere bool `json:"elsewhere,omitempty"`
	// Unasked, with RelayFault: the relay was not spoken to, because it is left alone. The
	// e-mail follows as soon as the relay is tried again.
	//
	// Unasked, with RecipientDeferred alone: the recipient waits for its turn, because it did
	// not fit into the transaction or was not named in it. It returns to the state that it had
	// before the attempt, without an event, and the attempt is none of its own.
	Unasked bool `json:"unasked,omitempty"`
	// Suppress: the address does not exist; further mail to it harms the sender.
	Suppress bool `json:"suppress,omitempty"`
}

// EnvelopeRecipient is one RCPT TO of a transaction.
type EnvelopeRecipient struct {
	ID      string
	Address string
	// Group is when the recipient is named: those of a group are named only if the relay accepted
	// none of a lower one. Otherwise they wait for the next transaction. See NamingGroups.
	Group int
}

// Envelope is what MAIL and RCPT carry; it has nothing to do with the header.
type Envelope struct {
	// ID becomes the DSN envelope id (RFC 3461 section 4.4) where the relay
	// offers DSN: xtext-safe, at most 100 characters.
	ID string
	// From is the reverse-path; empty means the null one, <>.
	From       string
	Recipients []EnvelopeRecipient
	// Bounced are the replies by which other recipients of the e-mail have bounced, each once.
	Bounced []BounceReply
}

// BounceReply is a reply by which a relay refused recipients of one domain, with their addresses
// masked in its text.
type BounceReply struct {
	Domain string
	email.Reply
}

// NewBounceReply is the BounceReply of a recipient.
func NewBounceReply(address string, r email.Reply) BounceReply {
	domain := email.DomainOf(address)
	r.Text = email.MaskText(email.MaskDomains(r.Text, domain), address)
	return BounceReply{Domain: domain, Reply: r}
}

// Exchange is all that one SMTP transaction yielded. It always holds one
// outcome per recipient of the envelope.
type Exchange struct {
	Outcomes []Outcome
	// Final is the answer to the final dot, or the one that ended the
	// transaction before it.
	Final email.Reply
	// RelayFault: the relay was the reason, not a recipient.
	RelayFault bool
	Transcript []email.Step
}

// ShowingFault is the outcome, of those that an attempt ended with, that shows best the relay's fault: its
// reply has a code, or else its recipient was asked. It is nil if the relay was not at fault.
func ShowingFault(outcomes []Outcome) (best *Outcome) {
	rank := func(o *Outcome) int {
		switch {
		case o.Code != 0:
			return 2
		case !o.Unasked:
			return 1
		}
		return 0
	}
	for i := range outcomes {
		if o := &outcomes[i]; o.RelayFault && (best == nil || rank(o) > rank(best)) {
			best = o
		}
	}
	return best
}
