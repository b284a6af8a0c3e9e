package delivery

import (
	"errors"
	"fmt"
	"time"

	"github.com/postrider/postrider/email"
)

// Route is what the choice of a relay depends on.
type Route struct {
	Stream       email.Stream `json:"stream,omitempty"`
	SenderDomain string       `json:"sender_domain,omitempty"`
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

// RelayError says that no relay could be reached, or would talk to us, before
// a transaction began: no recipient was touched.
type RelayError struct {
	// Relay is the last one tried.
	Relay email.Relay
	Reply email.Reply
	// RetryAfter is when it makes sense to try again: the relays' own backoff.
	RetryAfter time.Duration
	// Watched: each relay that would take the mail is probed without mail, and the mail is woken
	// when one works again. It need not try by itself.
	Watched bool
	// OfPath: the relay takes other mail, and refuses the return path of this one.
	OfPath bool
	Err    error
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

// Unwrap gives the cause.
func (e *RelayError) Unwrap() error { return e.Err }

// ErrNoRelay says that no configured relay takes mail of a stream and sender's domain. It
// is in the chain of a RelayError.
var ErrNoRelay = errors.New("no relay takes this mail: see streams= and domains= in POSTRIDER_SMTP_URLS")

// RelayWait is what e-mails have in common that wait for a relay.
type RelayWait struct {
	Stream       email.Stream
	SenderDomain string
	// Relay is the one that they wait for. It is empty with NoRelay, and after the relays were
	// changed until the next try.
	Relay string
	// NoRelay: no relay was configured for them when they were tried last.
	NoRelay bool
}

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

// RelayState is what all processes know of a relay that fails, or has failed.
type RelayState struct {
	// Name is the relay's; Address, as host:port, tells relays of one name apart.
	Name    string
	Address string
	// Failures in a row; 0 means that the relay works.
	Failures int
	// Since is when the first of them happened.
	Since time.Time
	// ChangedAt is when it last began to fail, or recovered, and SinceChange how long ago that is by
	// the database's clock.
	ChangedAt   time.Time
	SinceChange time.Duration
	// RetryAfter is how long the relay is still left alone; 0 means that it may be
	// probed now.
	RetryAfter time.Duration
	// NextProbeAt is the same as a time of the database's clock.
	NextProbeAt time.Time
	// Reply is the relay's answer; without one, Text says in one line what happened.
	Reply email.Reply
	// Cause says in one line, for an operator, what failed: which command Reply answers. Empty is not
	// known.
	Cause string
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
