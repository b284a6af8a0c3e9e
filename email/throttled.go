package email

import "strings"

// ThrottledBy names the rate or plan that throttles an e-mail: a kind, a colon and a name.
type ThrottledBy string

// RelayRate is the rate of a relay.
func RelayRate(name string) ThrottledBy { return ThrottledBy("relay:" + name) }

// RecipientRate is the rate of the recipients' domain.
func RecipientRate(domain string) ThrottledBy { return ThrottledBy("recipients:" + domain) }

// WarmupOf is the warm-up plan of the sender's domain.
func WarmupOf(domain string) ThrottledBy { return ThrottledBy("warmup:" + domain) }

// IsWarmup reports whether it is a warm-up plan.
func (t ThrottledBy) IsWarmup() bool { return strings.HasPrefix(string(t), "warmup:") }

// String describes it for an operator.
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
