package email

import "time"

// Attempt is one attempt as it is in the journal.
type Attempt struct {
	Number       int
	Phase        JournalPhase
	Relay        Relay
	RecipientIDs []string
	// OpenedAt, DataSentAt and DoneAt are when the phases began; zero for a phase that the
	// attempt has not reached.
	OpenedAt, DataSentAt, DoneAt time.Time
	// MessageSHA256 and MessageBytes are those of the encoded message, before dot-stuffing.
	MessageSHA256 string
	MessageBytes  int64
	// Transcript is empty until the attempt is done. It stays empty if the process was killed.
	Transcript []Step
}

// Action is what a customer or an operator can do with an e-mail. REST, signals and updates
// have the same actions with the same meaning.
type Action string

// The actions. An action that is in force already changes nothing and is no error. One that
// comes too late is a Failure with CodeConflict that names the state.
const (
	// ActionCancel cancels the recipients that have not been sent to. While an attempt is
	// open, it applies to the recipients that the attempt does not deliver to.
	ActionCancel Action = "cancel"
	// ActionHold prevents further attempts until ActionResume.
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
