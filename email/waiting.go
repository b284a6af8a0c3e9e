package email

// Waiting says what an e-mail's next attempt waits for. Empty means that it waits for
// nothing: the attempt is due or under way, or the e-mail has ended.
type Waiting string

// The values. State.NextAt is when the wait ends without an action; zero means never. An
// action, or a change of what it waits for, ends it earlier.
const (
	// WaitingRetry: an attempt has been made, and the next one is due at NextAt. A hold, a
	// pause or a rate may delay it further.
	WaitingRetry Waiting = "retry"
	// WaitingScheduled: the first attempt is due at NextAt.
	WaitingScheduled Waiting = "scheduled"
	// WaitingHeld: the holders in State.HeldBy hold the e-mail. It goes on when each of them
	// has resumed it. At NextAt it expires.
	WaitingHeld Waiting = "held"
	// WaitingPaused: a pause covers the e-mail, and it has no holder. At NextAt it expires.
	WaitingPaused Waiting = "paused"
	// WaitingThrottled: a rate or a warm-up plan, named by State.ThrottledBy, allows the
	// attempt at NextAt or later.
	WaitingThrottled Waiting = "throttled"
	// WaitingAcceptance: the message of a direct start is not stored yet, because Postgres is
	// unavailable. The next try is at NextAt. There is no e-mail yet.
	WaitingAcceptance Waiting = "acceptance"
)

// Waitings lists them.
func Waitings() []Waiting {
	return []Waiting{WaitingRetry, WaitingScheduled, WaitingHeld, WaitingPaused, WaitingThrottled, WaitingAcceptance}
}
