package email

import "time"

// RelayFault is why no relay takes an e-mail, for its customer.
type RelayFault struct {
	// Relay is the last relay tried; empty if none is configured for the e-mail, and after the relays
	// were changed until its next try.
	Relay string
	// Since is when the relay began to fail, or when a relay first refused the e-mail if that was
	// earlier; zero if neither is known.
	Since time.Time
	Reply Reply
	// NextAttemptAt is when the e-mail is tried next; never in the past.
	NextAttemptAt time.Time
}
