package email

import (
	"errors"
	"time"
)

// Lease is how long the owner of an attempt may be silent before the attempt
// is taken for abandoned. Owners renew it every LeaseRenewal.
const (
	Lease        = 30 * time.Second
	LeaseRenewal = 10 * time.Second
)

// ErrSuperseded says that an attempt has another owner now, or has ended:
// whoever gets it closes its socket hard and says nothing more.
var ErrSuperseded = errors.New("the attempt has another owner")

// OpenRequest asks for one attempt on behalf of one execution of SendSMTP.
type OpenRequest struct {
	EmailID string
	Attempt int
	// Owner is this execution, a UUID; only it may take the attempt further.
	Owner string
	Relay Relay
}

// Verdict says what the gate decided.
type Verdict string

// The verdicts.
const (
	// VerdictOpened: the attempt is the owner's, from the start; nothing of it
	// has reached the final dot.
	VerdictOpened Verdict = "opened"
	// VerdictBusy: another owner has written the mark before the final dot and
	// its lease is alive; ask again later.
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
	State State
	// Relay and Reply are what was recorded, when recorded.
	Relay Relay
	Reply Reply
	// The rest is set when opened. Date is the Date header of every attempt.
	Date time.Time
	// From is the reverse-path.
	From       string
	Recipients []EnvelopeRecipient
}

// Obstacle is what keeps an attempt that is due from beginning. The zero value is
// none.
type Obstacle struct {
	// RelayDown: no relay for the e-mail takes mail. Relay names the last one tried.
	RelayDown bool
	Relay     string
	// NoRelay: no configured relay takes mail of its stream and sender's domain.
	NoRelay bool
	// ThrottledUntil is when the rate of the relay, ThrottledBy, lets it through.
	ThrottledUntil time.Time
	ThrottledBy    ThrottledBy
}

// Mark is the note before the final dot.
type Mark struct {
	EmailID string
	Attempt int
	Owner   string
	Relay   Relay
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
	Relay      Relay
	Outcomes   []Outcome
	Transcript []Step
}

// Attempt is one attempt as the journal knows it.
type Attempt struct {
	Number       int
	Phase        JournalPhase
	Relay        Relay
	RecipientIDs []string
	// OpenedAt, DataSentAt and DoneAt are when the phases began; zero for one that
	// it has not reached.
	OpenedAt, DataSentAt, DoneAt time.Time
	// MessageSHA256 and MessageBytes are of what went out before the final dot.
	MessageSHA256 string
	MessageBytes  int64
	// Transcript is empty until it is done, and where its process died.
	Transcript []Step
}

// Recorded is where an e-mail stands after an attempt was projected.
type Recorded struct {
	State State
	// Webhooks is how many of its deliveries wait.
	Webhooks int
}

// An attachment that could not be fetched is tried again after FetchWaitFirst, then after
// twice as long each time, at most FetchWaitMost.
const (
	FetchWaitFirst = 5 * time.Second
	FetchWaitMost  = 5 * time.Minute
)

// Plan is what the first step of a run needs to know of an e-mail.
type Plan struct {
	State            State
	Route            Route
	CustomerID       string
	RecipientDomains []string
	// Attachments counts them all; Unresolved are those not stored yet.
	Attachments int
	Unresolved  []Attachment
	// Room is how many bytes the message's limit leaves for these.
	Room int64
	// ExpiresAt is the e-mail's own, zero if it has none; Now is the time that Postgres
	// compares it with.
	ExpiresAt, Now time.Time
}

// Start is an e-mail, or a batch of them, that needs a run.
type Start struct {
	EmailID    string
	WorkflowID string
	CustomerID string
	Stream     Stream
	// BatchID is set where the run is that of a batch; EmailID is then one of its
	// e-mails, or empty.
	BatchID string
}

// RunOf is how an e-mail's run is started and found.
func RunOf(e Email) Start {
	s := Start{EmailID: e.ID, WorkflowID: e.WorkflowID, CustomerID: e.CustomerID, Stream: e.Stream}
	if e.BatchID != "" && e.WorkflowID == BatchWorkflowIDPrefix+e.BatchID {
		s.BatchID = e.BatchID
	}
	return s
}

// RunOfBatch is how a batch's run is started and found.
func RunOfBatch(b Batch) Start {
	return Start{BatchID: b.ID, WorkflowID: b.WorkflowID, CustomerID: b.CustomerID}
}

// Action is what somebody wants done with an e-mail. REST, signals and updates
// all mean the same by it.
type Action string

// The actions. One that is in force already changes nothing and is no error; one
// that comes too late is a Failure with CodeConflict that names the state.
const (
	// ActionCancel ends what has not been sent. While an attempt is open it is
	// remembered: what the server accepts stays accepted.
	ActionCancel Action = "cancel"
	// ActionHold keeps further attempts from beginning.
	ActionHold Action = "hold"
	// ActionResume ends a hold.
	ActionResume Action = "resume"
	// ActionRetryNow makes deferred recipients due at once.
	ActionRetryNow Action = "retry_now"
	// ActionReschedule moves the first attempt; only before it.
	ActionReschedule Action = "reschedule"
)

// Actions lists them.
func Actions() []Action {
	return []Action{ActionCancel, ActionHold, ActionResume, ActionRetryNow, ActionReschedule}
}

// Control asks for an action.
type Control struct {
	Action Action
	// SendAt is the new time of the first attempt, for ActionReschedule.
	SendAt time.Time
}
