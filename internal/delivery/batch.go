package delivery

import (
	"time"

	"github.com/postrider/postrider/email"
)

// BatchPlan is where a batch stands, as its run needs it.
type BatchPlan struct {
	CustomerID string
	Stream     email.Stream
	// Total counts its e-mails, Open those that the run still answers for. Due counts the open
	// ones that can be attempted now, and Routes is where to.
	Total, Open, Due int
	Held             bool
	Routes           []Route
	// NextAt is when the next one is due that is not yet; zero when none is.
	NextAt time.Time
}

// BatchWaiting describes the e-mails of a batch that wait on one route.
type BatchWaiting struct {
	// Due: one of them can be attempted now.
	Due bool
	// LookAt is when the first of them expires, or the first lease of an open attempt ends, if that is
	// sooner. LookIn is the time until then. Both are zero if there is neither.
	LookAt time.Time
	LookIn time.Duration
}

// BatchOpenRequest asks the gate for attempts at e-mails of a batch that are due.
type BatchOpenRequest struct {
	BatchID string
	Owner   string
	Relay   email.Relay
	Route   Route
	// Limit bounds how many are opened.
	Limit int
}

// BatchThrottle is the rate that the due e-mails of a batch wait for.
type BatchThrottle struct {
	// Relay names the relay.
	Relay string
	// First is the next slot that the batch gets. Zero is the one after Taken slots from now on.
	First time.Time
	Taken int
	// Pace is the time from one slot to the next.
	Pace time.Duration
}

// BatchOpening is the gate's answer for one of them.
type BatchOpening struct {
	EmailID string
	Attempt int
	// Bytes is the size of the message before encoding.
	Bytes int64
	Opening
}

// BatchRecorded is what the recording of attempts left to do.
type BatchRecorded struct {
	// HandedOver are the e-mails that go on in runs of their own.
	HandedOver int
	// Endpoints have deliveries that wait.
	Endpoints []string
	// Statuses counts the e-mails that were recorded by where they stand.
	Statuses email.StatusCounts
	// Left have their outcomes in the journal only: another transaction has their e-mails locked.
	Left []Ending
}
