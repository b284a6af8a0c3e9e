package smtp

import (
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// Stage is the step of a transaction to which a reply belongs.
type Stage int

const (
	// StageSession is everything before MAIL: connect, TLS, greeting, AUTH.
	StageSession Stage = iota
	StageMail
	StageRcpt
	// StageData is the answer to the DATA command.
	StageData
	// StageFinal is the answer to the final dot.
	StageFinal
)

// String names the command that a reply answers.
func (s Stage) String() string {
	switch s {
	case StageMail:
		return "MAIL FROM"
	case StageRcpt:
		return "RCPT TO"
	case StageData:
		return "DATA"
	case StageFinal:
		return "the message"
	}
	return "the opening"
}

// Attribution says whose fault a refusal is: which recipients it concerns.
type Attribution int

const (
	// OfRelay: ours or the relay's. No recipient's state suffers.
	OfRelay Attribution = iota
	// OfSender: the refusal concerns all recipients.
	OfSender
	// OfRecipient: it concerns one recipient, or after DATA all accepted ones.
	OfRecipient
)

// RelayVerdict says what a transaction shows about the relay: whether other mail goes there.
type RelayVerdict int

const (
	// VerdictNone: the transaction shows no fault of the relay.
	VerdictNone RelayVerdict = iota
	// VerdictOurs: we ended the transaction. It shows nothing.
	VerdictOurs
	// VerdictRefused: the relay refused this mail, and perhaps refuses all mail.
	VerdictRefused
	// VerdictDown: the relay takes no mail from us now.
	VerdictDown
)

// Suspicion says how far a refusal of a recipient may be about us instead.
type Suspicion int

const (
	// SuspicionNone: the reply says what is wrong with the recipient.
	SuspicionNone Suspicion = iota
	// SuspicionCode: 5.7.x, which is about authorisation (RFC 3463 section 3.8), or a code
	// that says nothing, as 550 without an enhanced one.
	SuspicionCode
	// SuspicionWords: the words that Postfix has for clients without a login.
	SuspicionWords
)

// suspicionOf judges a reply to RCPT that classify takes for a refusal of the recipient.
func suspicionOf(accepts email.AcceptMeans, o delivery.Outcome) Suspicion {
	if accepts != email.AcceptsRelay || o.Status != email.RecipientBounced || (o.Reason != email.DetailBlock && o.Reason != email.DetailOther) {
		return SuspicionNone
	}
	words := lowerWords(o.Reply)
	switch {
	case saysByRecipient.in(words):
		return SuspicionNone
	case saysAccess.in(words):
		return SuspicionWords
	}
	return SuspicionCode
}
