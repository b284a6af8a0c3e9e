package email

// Waiting says what an e-mail's next attempt waits for. Empty means that it waits for
// nothing: the attempt is due or under way, or the e-mail has ended.
type Waiting string

// What an attempt waits for. State.NextAt is when the wait ends by itself; zero means
// never. Each may end before, by an action or when something changes.
const (
	// WaitingRetry: an attempt has been made, and the next one is due at NextAt. No promise
	// that it is made then: a hold, a pause or a rate may come between.
	WaitingRetry Waiting = "retry"
	// WaitingScheduled: the first attempt is due at NextAt.
	WaitingScheduled Waiting = "scheduled"
	// WaitingHeld: somebody holds the e-mail, see State.HeldBy. It goes on when all of them
	// have resumed it. At NextAt it expires.
	WaitingHeld Waiting = "held"
	// WaitingPaused: an operator has paused mail like it, and nobody holds it besides. At
	// NextAt it expires.
	WaitingPaused Waiting = "paused"
	// WaitingThrottled: a rate or a warm-up plan, named by State.ThrottledBy, lets the
	// attempt through at NextAt or later.
	WaitingThrottled Waiting = "throttled"
	// WaitingAcceptance: the message of a direct start is not stored yet, because Postgres
	// does not answer; it is tried again at NextAt. There is no e-mail so far.
	WaitingAcceptance Waiting = "acceptance"
)

// Waitings lists them.
func Waitings() []Waiting {
	return []Waiting{WaitingRetry, WaitingScheduled, WaitingHeld, WaitingPaused, WaitingThrottled, WaitingAcceptance}
}
