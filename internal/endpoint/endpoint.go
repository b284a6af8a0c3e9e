// Package endpoint is the domain of webhooks: the endpoints, the deliveries to them,
// the retry schedule, and the meaning of an answer.
//
//  1. An Endpoint is a URL of a customer with the secrets that sign for it.
//  2. A Delivery is one event on its way to one endpoint. It is written in the
//     transaction that changed the status, and its body never changes.
//  3. Classify classifies the answer to an attempt. Schedule says when the next one is.
package endpoint

import (
	"slices"
	"time"
)

// Kind says where an endpoint comes from.
type Kind string

// The kinds.
const (
	// KindCustomer is a customer's own webhook_uri, of which there is one.
	KindCustomer Kind = "customer"
	// KindEndpoint was added by itself, with events of its own choice.
	KindEndpoint Kind = "endpoint"
	// KindCallback stands for the callback_url of messages: one per customer and URL.
	KindCallback Kind = "callback"
)

// Format is the form of the bodies.
type Format string

// The formats.
const (
	// FormatStandard is our own events.
	FormatStandard Format = "standard"
	// FormatVoIPBIN is VoIPBIN's email_created, email_updated and email_deleted, each with the
	// whole e-mail.
	FormatVoIPBIN Format = "voipbin"
)

// How long an endpoint may fail without a success between.
const (
	// DisableAfter is how long it fails until it is disabled, but not before LastWarning
	// has passed since the warning to its customer.
	DisableAfter = 5 * 24 * time.Hour
	// WarnAfter is how long it fails until its customer gets a warning. Another one follows
	// LastWarning before the end.
	WarnAfter   = 24 * time.Hour
	LastWarning = 24 * time.Hour
)

// DisablesAt is when an endpoint that goes on failing is disabled, at the earliest.
// warned is the last warning, zero if there was none yet.
func DisablesAt(failingSince, warned time.Time) time.Time {
	at := failingSince.Add(DisableAfter)
	if last := warned.Add(LastWarning); !warned.IsZero() && last.After(at) {
		return last
	}
	return at
}

// Escalate says what a failure at that time leads to. An endpoint is disabled only
// after a warning, however seldom it is called.
func Escalate(now, failingSince, warned time.Time) (warn, disable bool) {
	if !warned.IsZero() && !now.Before(DisablesAt(failingSince, warned)) && warned.Sub(failingSince) >= DisableAfter-LastWarning {
		return false, true
	}
	last := failingSince.Add(DisableAfter - LastWarning)
	return now.Sub(failingSince) >= WarnAfter && warned.IsZero() || !now.Before(last) && warned.Before(last), false
}

// Backoff is how long an endpoint is left alone after so many failures in a row: 5 s,
// doubling up to 5 minutes. Deliveries that wait for it burn no attempts.
func Backoff(failures int) time.Duration {
	return min(5*time.Second<<min(max(failures-1, 0), 10), 5*time.Minute)
}

// RotationOverlap is how long the previous secret goes on signing after a rotation.
const RotationOverlap = 24 * time.Hour

// Reasons of a disabled endpoint.
const (
	// ReasonGone: it answered 410.
	ReasonGone = "gone"
	// ReasonFailing: it failed for DisableAfter.
	ReasonFailing = "failing"
	// ReasonDeleted: a user deleted it.
	ReasonDeleted = "deleted"
)

// Endpoint is a URL that gets events.
type Endpoint struct {
	ID         string
	CustomerID string
	Kind       Kind

	URL string
	// Method is POST, PUT, GET or DELETE; the body goes with every one. Empty
	// means POST.
	Method string
	// Secrets are the ones that sign, newest first; all but the first have a
	// ValidUntil.
	Secrets []Secret
	Format  Format
	// Events are the types it gets, as "email.delivered".
	Events []string
	// Tags and Streams narrow the e-mails whose events it gets; none is all. Any of the
	// tags is enough.
	Tags    []string
	Streams []string

	// Disabled endpoints get nothing until a user enables them.
	Disabled       bool
	DisabledReason string
	// Failures in a row, since FailingSince; while BlockedUntil has not come it is left alone.
	Failures     int
	FailingSince time.Time
	BlockedUntil time.Time
	// WarnedAt is when the customer last got a warning that it fails, LastError why it does.
	WarnedAt  time.Time
	LastError string
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Wants reports whether the endpoint is to get an event of that type.
func (e Endpoint) Wants(eventType string) bool {
	return !e.Disabled && slices.Contains(e.Events, eventType)
}

// LiveSecrets are the secrets that sign at a given time, newest first.
func (e Endpoint) LiveSecrets(now time.Time) []Secret {
	var live []Secret
	for _, s := range e.Secrets {
		if s.IsZero() || !s.ValidUntil.IsZero() && !now.Before(s.ValidUntil) {
			continue
		}
		live = append(live, s)
	}
	return live
}

// Rotate puts a new secret before the present ones. The newest of those goes on
// for RotationOverlap, the others no longer than they would have.
func Rotate(secrets []Secret, fresh Secret, now time.Time) []Secret {
	until := now.Add(RotationOverlap)
	out := []Secret{fresh}
	for _, s := range secrets {
		if s.ValidUntil.IsZero() {
			s.ValidUntil = until
		}
		if now.Before(s.ValidUntil) {
			out = append(out, s)
		}
	}
	return out
}

// Status is where a delivery stands.
type Status string

// The states of a delivery.
const (
	// StatusPending: not delivered, and still tried.
	StatusPending Status = "pending"
	// StatusDelivered: the endpoint answered 2xx. It does not promise that it
	// did anything with it.
	StatusDelivered Status = "delivered"
	// StatusFailed: the schedule is used up, or the endpoint is gone.
	StatusFailed Status = "failed"
)

// TypeTest is the type of a delivery that tests an endpoint at a user's request.
const TypeTest = "webhook.test"

// TypeFailing and TypeDisabled tell a customer's other endpoints that one keeps
// failing, and that one was disabled.
const (
	TypeFailing  = "endpoint.failing"
	TypeDisabled = "endpoint.disabled"
)

// The types of a sender domain's verification. Each tells that the domain has entered the state.
const (
	// TypeDomainVerified: the customer may send from the domain, for the first time or again.
	TypeDomainVerified = "domain.verified"
	// TypeDomainWarning: a check has missed a required record. The domain still sends.
	TypeDomainWarning = "domain.warning"
	// TypeDomainFailed: new mail from the domain is refused. Accepted mail goes on.
	TypeDomainFailed = "domain.failed"
)

// The types of a sender domain's reputation. Each tells that the domain has entered the band from a
// better one, or from none.
const (
	TypeReputationWarning  = "reputation.warning"
	TypeReputationCritical = "reputation.critical"
)

// DeliveryIDPrefix begins the id of every delivery.
const DeliveryIDPrefix = "msg_"

// Delivery is one event on its way to one endpoint.
type Delivery struct {
	// ID is "msg_…", the same on every attempt: receivers tell repetitions by it.
	// It holds no full stop, because the signature joins its parts with one.
	ID         string
	EndpointID string
	// EmailID is empty for what is not about an e-mail.
	EmailID string
	Type    string
	// Body is what every attempt sends, byte by byte.
	Body []byte

	// Attempts counts those that have ended.
	Attempts int
	// NextAttemptAt is zero unless pending.
	NextAttemptAt time.Time
	Status        Status
	// LastCode is the last HTTP status, 0 if there was none.
	LastCode  int
	LastError string
	CreatedAt time.Time
	// Log has the attempts, oldest first, where they were asked for.
	Log []Attempt
}

// Attempt is one call.
type Attempt struct {
	Number int
	At     time.Time
	// Code is the HTTP status, 0 if no answer came.
	Code     int
	Duration time.Duration
	Error    string
	// Answer is its beginning, at most 1 KiB.
	Answer string
}

// Backlog is what waits for an endpoint.
type Backlog struct {
	Waiting int
	// NextAt is when the next of it may be attempted; zero when none waits.
	NextAt time.Time
	// Endpoint has its URL and how it fares. A disabled one has nothing waiting.
	Endpoint Endpoint
}

// Due is a delivery that its holder is to attempt now.
type Due struct {
	Endpoint Endpoint
	Delivery Delivery
}

// Result is what one attempt came to.
type Result struct {
	Verdict Verdict
	// Status is the HTTP status; 0 means that no answer came.
	Status int
	// RetryAfter is the least time the endpoint wants to be left alone; zero
	// means that it did not say.
	RetryAfter time.Duration
	// BodyExcerpt is the beginning of the answer, at most 1 KiB of valid UTF-8
	// without NUL. Empty where the answer is not for customers to read.
	BodyExcerpt string
	Duration    time.Duration
	// Error says in words why the attempt was no success; it holds nothing of
	// the URL but its host.
	Error string
}
