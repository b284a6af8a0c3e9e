package email

import "time"

// RelayFault tells an e-mail's owner why no relay takes it.
type RelayFault struct {
	// Relay is the last relay tried; empty where none is configured for the e-mail.
	Relay string
	// Since is when the relay began to fail; zero where that is not known.
	Since time.Time
	Reply Reply
	// NextAttemptAt is when the e-mail is tried next; never in the past.
	NextAttemptAt time.Time
}
