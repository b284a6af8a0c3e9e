package delivery

import (
	"fmt"
	"time"

	"github.com/postrider/postrider/email"
)

// Turn is a place in the queue of a relay that has a rate, or, of broadcast mail, an
// appointment for one.
type Turn struct {
	Relay string    `json:"relay"`
	At    time.Time `json:"at"`
}

// Throttled says that a transaction may not begin before its turn: come again
// with it then. No recipient was touched.
type Throttled struct{ Turn Turn }

func (e *Throttled) Error() string {
	return fmt.Sprintf("relay %s: not before %s, for its rate", e.Turn.Relay, e.Turn.At.UTC().Format(time.RFC3339))
}

// Demand asks for places in the queue of a rate.
type Demand struct {
	// Queue names it, as ThrottledBy does.
	Queue string
	// N places are taken together; the first is what counts.
	N int
	// Pace is the time from one place to the next.
	Pace time.Duration
	// Stream: broadcast mail gets a place only when it is near, and else an
	// appointment, so that transactional mail finds places free.
	Stream email.Stream
	// Came says that the appointment given before has come.
	Came bool
	// Sooner, above 0, takes nothing that would not come within that time.
	Sooner time.Duration
}

// Place is what a Demand got.
type Place struct {
	// Wait is how long it is until the first place.
	Wait time.Duration
	// Firm: it holds. Otherwise it is an appointment: ask again then.
	Firm bool
}

// Rates are the paces of recipients' domains, by domain; AnyDomain is for each of
// those not named.
type Rates map[string]time.Duration

// AnyDomain stands for every domain that Rates does not name.
const AnyDomain = "*"

// Of is the pace for a domain, in lower case; 0 is none.
func (r Rates) Of(domain string) time.Duration {
	if pace, ok := r[domain]; ok {
		return pace
	}
	return r[AnyDomain]
}
