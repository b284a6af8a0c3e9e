package delivery

import (
	"fmt"
	"time"

	"github.com/postrider/postrider/email"
)

// Turn is a slot of a relay's rate, or, of broadcast mail, the estimate of when one will be free.
type Turn struct {
	Relay string    `json:"relay"`
	At    time.Time `json:"at"`
}

// TurnPatience is how long mail holds its session for a slot of a relay's rate that is near. Mail that
// has to wait longer gives the session back, keeps its turn, and its status says so.
const TurnPatience = 2 * time.Second

// Throttled says that a transaction may not begin before its turn: come again
// with it then. No recipient was touched.
type Throttled struct{ Turn Turn }

func (e *Throttled) Error() string {
	return fmt.Sprintf("relay %s: not before %s, for its rate", e.Turn.Relay, e.Turn.At.UTC().Format(time.RFC3339))
}

// Demand asks for slots of a rate.
type Demand struct {
	// Queue names the rate, as ThrottledBy does.
	Queue string
	// N slots are taken together; the first one's time is returned.
	N int
	// Pace is the time from one slot to the next.
	Pace time.Duration
	// Stream: broadcast mail gets a slot only if the slot is near, and else an estimate. So
	// transactional mail finds slots free.
	Stream email.Stream
	// Returning says that the time of an earlier estimate has come.
	Returning bool
	// Sooner, above 0, takes no slot that is further off than that.
	Sooner time.Duration
}

// Slot is the answer to a Demand.
type Slot struct {
	// Wait is how long it is until the first slot.
	Wait time.Duration
	// Reserved: the slot is held. Otherwise it is an estimate: ask again then.
	Reserved bool
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
