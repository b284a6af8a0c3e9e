package email

import (
	"strings"
	"time"
)

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
	Stream Stream
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

// ThrottledBy names what an e-mail that is throttled waits for: a kind, a colon and
// a name.
type ThrottledBy string

// RelayRate is the rate of a relay.
func RelayRate(name string) ThrottledBy { return ThrottledBy("relay:" + name) }

// RecipientRate is the rate of the recipients' domain.
func RecipientRate(domain string) ThrottledBy { return ThrottledBy("recipients:" + domain) }

// WarmupOf is the warm-up plan of the sender's domain.
func WarmupOf(domain string) ThrottledBy { return ThrottledBy("warmup:" + domain) }

// IsWarmup reports whether it is a warm-up plan.
func (t ThrottledBy) IsWarmup() bool { return strings.HasPrefix(string(t), "warmup:") }

// String says it in words.
func (t ThrottledBy) String() string {
	kind, name, _ := strings.Cut(string(t), ":")
	switch kind {
	case "relay":
		return "the rate of relay " + name
	case "recipients":
		return "the rate for recipients at " + name
	case "warmup":
		return "the warm-up of " + name
	}
	return "a rate"
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
