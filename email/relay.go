package email

import (
	"errors"
	"time"
)

// ErrNoRelay says that no configured relay takes mail of a stream and sender's domain. It
// is in the chain of a RelayError.
var ErrNoRelay = errors.New("no relay takes this mail: see streams= and domains= in POSTRIDER_SMTP_URLS")

// RelayBackoff is how long a relay is left alone after so many failures in a row: 10,
// 20, 40, 80, 160 s, then 5 min each time.
func RelayBackoff(failures int) time.Duration {
	return min(RelayBackoffFirst<<min(max(failures-1, 0), 10), RelayBackoffMost)
}

// The first and the longest backoff of a relay.
const (
	RelayBackoffFirst = 10 * time.Second
	RelayBackoffMost  = 5 * time.Minute
)

// RelayState is what all processes know of a relay that fails.
type RelayState struct {
	// Name is the relay's; Address, as host:port, tells relays of one name apart.
	Name    string
	Address string
	// Failures in a row; 0 means that the relay works.
	Failures int
	// Since is when the first of them happened.
	Since time.Time
	// RetryAfter is how long the relay is still left alone; 0 means that it may be
	// probed now.
	RetryAfter time.Duration
	// NextProbeAt is the same as a time of the database's clock.
	NextProbeAt time.Time
	// Reply is the relay's answer; without one, Text says in one line what happened.
	Reply Reply
	// Shared: the fault is the same from every process: the relay refused a transaction
	// or our credentials. Without it, only the process that met it leaves the relay alone.
	Shared bool
	// Mail is the refused MAIL command; nil where MAIL was not what failed.
	Mail *MailCommand
}

// MailCommand is what a MAIL command says of an e-mail (RFC 5321 section 4.1.1.2, RFC 1870).
type MailCommand struct {
	// From is the return-path.
	From string
	// Bytes is the size of the message, or a lower bound of it; 0 is not known.
	Bytes int64
}

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
