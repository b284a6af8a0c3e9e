package email

import "time"

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
