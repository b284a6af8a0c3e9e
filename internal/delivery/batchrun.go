package delivery

import (
	"time"

	"github.com/postrider/postrider/email"
)

// PlanBatchResult is where a batch stands.
type PlanBatchResult struct {
	CustomerID string       `json:"customer_id"`
	Stream     email.Stream `json:"stream"`
	Total      int          `json:"total"`
	// Open are the e-mails that the run still answers for, Due those of them that can be
	// attempted now.
	Open   int       `json:"open"`
	Due    int       `json:"due,omitempty"`
	Held   bool      `json:"held,omitempty"`
	Routes []Route   `json:"routes,omitempty"`
	NextAt time.Time `json:"next_at,omitzero"`
	Took
}

// SendChunkInput asks for attempts at a batch's e-mails that go one way.
type SendChunkInput struct {
	BatchID string `json:"batch_id"`
	Route   Route  `json:"route"`
	// TellRelayDown: the run takes SendChunkResult.RelayDown, and does not say yet that
	// no relay is there. Without, that is an error, which the server retries.
	TellRelayDown bool `json:"tell_relay_down,omitempty"`
}

// SendChunkResult is what a chunk came to.
type SendChunkResult struct {
	Sent email.BatchCounts `json:"sent"`
	// HandedOver are those that go on in runs of their own.
	HandedOver int         `json:"handed_over,omitempty"`
	Relay      email.Relay `json:"relay,omitzero"`
	// More: there may be more due; call again.
	More bool `json:"more,omitempty"`
	// Turn is when the relay's rate lets the next one begin.
	Turn Turn `json:"turn,omitzero"`
	// ExpiresAt, with Turn, is BatchWaiting.LookAt of the batch's e-mails that wait for it:
	// call again then, if that is earlier. Zero if none of them expires.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// RelayDown: no relay takes the mail, in the words of why. Nothing was attempted. With
	// More, call again without TellRelayDown once the run says so.
	RelayDown string `json:"relay_down,omitempty"`
	// NoRelay, with RelayDown: no configured relay takes mail like this.
	NoRelay bool `json:"no_relay,omitempty"`
	// Unrecorded are attempts whose ends could not be written: RecordBatchChunk writes
	// them, however long it takes.
	Unrecorded []UnrecordedAttempt `json:"unrecorded,omitempty"`
	Took
}

// UnrecordedAttempt is an Ending on its way through a history: without a transcript,
// its texts without addresses.
type UnrecordedAttempt struct {
	EmailID  string      `json:"email_id"`
	Attempt  int         `json:"attempt"`
	Owner    string      `json:"owner"`
	Relay    email.Relay `json:"relay,omitzero"`
	Outcomes []Outcome   `json:"outcomes"`
}

// RecordChunkInput asks to write attempts' ends.
type RecordChunkInput struct {
	BatchID  string              `json:"batch_id"`
	Attempts []UnrecordedAttempt `json:"attempts"`
}

// RecordChunkResult counts them.
type RecordChunkResult struct {
	Sent       email.BatchCounts `json:"sent"`
	HandedOver int               `json:"handed_over,omitempty"`
	Took
}

// ControlBatchInput asks for an action on all e-mails of a batch: cancel, hold or
// resume.
type ControlBatchInput struct {
	BatchID string       `json:"batch_id"`
	Action  email.Action `json:"action"`
}
