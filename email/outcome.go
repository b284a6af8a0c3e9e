package email

import (
	"fmt"
	"time"
)

// Reply is what an SMTP server answered (RFC 5321 section 4.2, RFC 3463).
type Reply struct {
	// Code is the three-digit reply code; 0 means that no reply came.
	Code int `json:"code,omitempty"`
	// Enhanced is the enhanced status code, as "5.1.1"; empty if the server gave none.
	Enhanced string `json:"enhanced_code,omitempty"`
	// Text is the rest, lines joined by spaces, at most MaxReplyText bytes.
	Text string `json:"text,omitempty"`
}

// MaxReplyText bounds the text kept of one reply, in bytes.
const MaxReplyText = 1024

// Outcome is the verdict of one attempt for one recipient.
type Outcome struct {
	RecipientID string `json:"id"`
	// Status is delivered, deferred, bounced or failed: what closing the
	// attempt makes of the recipient.
	Status RecipientStatus `json:"status"`
	// Reason refines a status that is not delivered.
	Reason Detail `json:"reason,omitempty"`
	Reply
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

// AcceptMeans says what a relay's 250 stands for.
type AcceptMeans string

// A relay that is the recipient's own server answers for the mailbox; any
// other only promises to try.
const (
	AcceptsFinal AcceptMeans = "final"
	AcceptsRelay AcceptMeans = "relay"
)

// Relay names the server an attempt went to.
type Relay struct {
	Name    string      `json:"name,omitempty"`
	Host    string      `json:"host,omitempty"`
	Accepts AcceptMeans `json:"accepts,omitempty"`
}

// Route is what the choice of a relay depends on.
type Route struct {
	Stream       Stream `json:"stream,omitempty"`
	SenderDomain string `json:"sender_domain,omitempty"`
	// Bytes is the size of the message before encoding.
	Bytes int64 `json:"bytes,omitempty"`
	// Relay names the only relay that the message may go to, if there is one of that name;
	// empty means any.
	Relay string `json:"relay,omitempty"`
	// Avoid names the relay whose fault ended the last attempt; empty means none. Relays that
	// work and others go before it.
	Avoid string `json:"avoid,omitempty"`
	// For names the e-mail to be sent, or ForBatch the batch whose e-mails are. A relay that is
	// down because it refused other mail lets through what it has not refused yet; what has no
	// name waits with the others.
	For      string `json:"-"`
	ForBatch string `json:"-"`
	// Turn is the place in a relay's queue that an earlier call was given.
	Turn Turn `json:"turn,omitzero"`
}

// EnvelopeRecipient is one RCPT TO of a transaction.
type EnvelopeRecipient struct {
	ID      string
	Address string
}

// Envelope is what MAIL and RCPT carry; it has nothing to do with the header.
type Envelope struct {
	// ID becomes the DSN envelope id (RFC 3461 section 4.4) where the relay
	// offers DSN: xtext-safe, at most 100 characters.
	ID string
	// From is the reverse-path; empty means the null one, <>.
	From       string
	Recipients []EnvelopeRecipient
}

// Step is one exchange of the transcript. Credentials never appear in it.
type Step struct {
	Command string `json:"command"`
	Reply
	// MS is how long the answer took, in milliseconds.
	MS int64 `json:"ms"`
	// Error is set when no answer came.
	Error string `json:"error,omitempty"`
}

// Exchange is all that one SMTP transaction yielded. It always holds one
// outcome per recipient of the envelope.
type Exchange struct {
	Outcomes []Outcome
	// Final is the answer to the final dot, or the one that ended the
	// transaction before it.
	Final Reply
	// RelayFault: the relay was the reason, not a recipient.
	RelayFault bool
	Transcript []Step
}

// JournalPhase is how far an attempt has come, as far as Postgres knows.
type JournalPhase string

// The phases of an attempt. What happened between data_sent and done is known
// only to the server at the other end: that is the ambiguous stretch.
const (
	PhaseOpened   JournalPhase = "opened"
	PhaseDataSent JournalPhase = "data_sent"
	PhaseDone     JournalPhase = "done"
)

// RelayError says that no relay could be reached, or would talk to us, before
// a transaction began: no recipient was touched.
type RelayError struct {
	// Relay is the last one tried.
	Relay Relay
	Reply Reply
	// RetryAfter is when it makes sense to try again: the relays' own backoff.
	RetryAfter time.Duration
	Err        error
}

func (e *RelayError) Error() string {
	s := "relay " + e.Relay.Name
	if e.Reply.Code != 0 {
		s += fmt.Sprintf(": %d %s %s", e.Reply.Code, e.Reply.Enhanced, e.Reply.Text)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Turn is a place in the queue of a relay that has a rate, or, of broadcast mail, an
// appointment for one.
type Turn struct {
	Relay string    `json:"relay"`
	At    time.Time `json:"at"`
}

// Throttled says that a transaction may not begin before its turn: come again
// with it then. No recipient was touched.
type Throttled struct{ Turn Turn }

func (e *Throttled) Error() string {
	return fmt.Sprintf("relay %s: not before %s, for its rate", e.Turn.Relay, e.Turn.At.UTC().Format(time.RFC3339))
}

// Unwrap gives the cause.
func (e *RelayError) Unwrap() error { return e.Err }
