package delivery

import (
	"errors"
	"time"

	"github.com/postrider/postrider/email"
)

// Lease is how long the owner of an attempt may be silent before its lease is recalled. Owners renew
// it every LeaseRenewal. An owner that is silent for RecallTime more has abandoned the attempt: if
// Postgres was away for as long as the lease, owners write as soon as it is back.
const (
	Lease        = 30 * time.Second
	LeaseRenewal = 10 * time.Second
	RecallTime   = 10 * time.Second
)

// ErrSuperseded says that an attempt has another owner now, or has ended. The caller
// closes its socket without QUIT and writes nothing more.
var ErrSuperseded = errors.New("the attempt has another owner")

// OpenRequest asks for one attempt on behalf of one execution of SendSMTP.
type OpenRequest struct {
	EmailID string
	Attempt int
	// Owner is this execution, a UUID; only it may take the attempt further.
	Owner string
	Relay email.Relay
}

// Verdict says what the gate decided.
type Verdict string

// The verdicts.
const (
	// VerdictOpened: the attempt is the owner's, from the start; nothing of it
	// has reached the final dot.
	VerdictOpened Verdict = "opened"
	// VerdictBusy: another owner has written the mark before the final dot and
	// has not abandoned the attempt; ask again later.
	VerdictBusy Verdict = "busy"
	// VerdictRecorded: the attempt has ended; its outcomes wait to be projected.
	VerdictRecorded Verdict = "recorded"
	// VerdictClosed: there is nothing to attempt; State says why.
	VerdictClosed Verdict = "closed"
)

// Opening is the gate's answer.
type Opening struct {
	Verdict Verdict
	// State is set when closed.
	State email.State
	// Relay and Reply are what was recorded, when recorded.
	Relay email.Relay
	Reply email.Reply
	// The rest is set when opened.
	Settled
	// From is the reverse-path.
	From       string
	Recipients []EnvelopeRecipient
	// Bounced is Envelope.Bounced.
	Bounced []BounceReply
}

// Envelope is that of the attempt, where opened.
func (o Opening) Envelope() Envelope {
	return Envelope{ID: o.EmailID, From: o.From, Recipients: o.Recipients, Bounced: o.Bounced}
}

// Obstacle is what keeps an attempt that is due from beginning. The zero value is
// none.
type Obstacle struct {
	// RelayDown: no relay for the e-mail takes mail. Relay names the last one tried.
	RelayDown bool
	Relay     string
	// NoRelay: no configured relay takes mail of its stream and sender's domain.
	NoRelay bool
	// RefusedPath: that relay takes other mail, and refuses the return path; nil: it does not.
	RefusedPath *RefusedPath
	// ThrottledUntil is when the rate of the relay, ThrottledBy, lets it through.
	ThrottledUntil time.Time
	ThrottledBy    email.ThrottledBy
}

// RefusedPath is a relay's reply to a return path, and how long mail with it waits for the next try.
type RefusedPath struct {
	Reply      email.Reply
	RetryAfter time.Duration
}

// PathProbe is how long an e-mail waits, again and again, while another one probes the return path of both.
const PathProbe = 5 * time.Second

// Checked is the gate's answer to a caller that has no relay to send with.
type Checked struct {
	// State is why no attempt is due; nil if one is.
	State *email.State
	// Open is the gate's answer for an attempt that is open already: VerdictBusy, or VerdictRecorded
	// if it has ended. Its Verdict is empty where there is none.
	Open Opening
	// ExpiresIn is how long an e-mail that waits for a relay has until its expires_at; 0 if it
	// has none.
	ExpiresIn time.Duration
}

// Mark is the note before the final dot.
type Mark struct {
	EmailID string
	Attempt int
	Owner   string
	Relay   email.Relay
	// IfSilent is the outcome per recipient that is true if the server is never
	// heard of again: refusals as they were, ambiguous for the rest.
	IfSilent      []Outcome
	MessageSHA256 string
	MessageBytes  int64
}

// Ending is what an attempt came to.
type Ending struct {
	EmailID    string
	Attempt    int
	Owner      string
	Relay      email.Relay
	Outcomes   []Outcome
	Transcript []email.Step
}

// Recorded is where an e-mail stands after an attempt was projected.
type Recorded struct {
	State email.State
	// Webhooks is how many of its deliveries wait.
	Webhooks int
}

// Conclusion is what became of an Ending.
type Conclusion struct {
	// Ours: no other worker has taken the attempt over, and the journal has its outcomes.
	Ours bool
	// Recorded is where the e-mail stands. It is nil if the outcomes are still to be recorded.
	Recorded *Recorded
}

// An attachment that could not be fetched is tried again after FetchWaitFirst, then after
// twice as long each time, at most FetchWaitMost.
const (
	FetchWaitFirst = 5 * time.Second
	FetchWaitMost  = 5 * time.Minute
)

// Plan is what the first step of a run needs to know of an e-mail.
type Plan struct {
	State            email.State
	Route            Route
	CustomerID       string
	RecipientDomains []string
	// Attachments counts them all; Unresolved are those not stored yet.
	Attachments int
	Unresolved  []email.Attachment
	// BytesLeft is how many bytes the message's limit leaves for these.
	BytesLeft int64
	// ExpiresAt is the e-mail's own, zero if it has none; Now is the time that Postgres
	// compares it with.
	ExpiresAt, Now time.Time
}
