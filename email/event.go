package email

import "time"

// EventType names something that happened to an e-mail or to one recipient of
// it. The names are published: webhooks carry them as their type.
type EventType string

// The events of an e-mail's life. Those from deferred to suppressed are about
// one recipient each.
const (
	EventQueued     EventType = "email.queued"
	EventScheduled  EventType = "email.scheduled"
	EventSending    EventType = "email.sending"
	EventDeferred   EventType = "email.deferred"
	EventDelivered  EventType = "email.delivered"
	EventBounced    EventType = "email.bounced"
	EventFailed     EventType = "email.failed"
	EventExpired    EventType = "email.expired"
	EventCanceled   EventType = "email.canceled"
	EventSuppressed EventType = "email.suppressed"
	// EventAmbiguous: the server's answer to the message never came. What becomes of
	// the recipient follows in an event of its own.
	EventAmbiguous EventType = "email.ambiguous"
	// EventCompleted is sent once per e-mail, with the counts, when the last
	// recipient has reached its end.
	EventCompleted EventType = "email.completed"
	// EventCancelRequested: canceled while an attempt was open; what that
	// attempt defers will be canceled.
	EventCancelRequested EventType = "email.cancel_requested"
	// EventHeld and EventResumed: somebody stopped further attempts, or let them go on.
	EventHeld    EventType = "email.held"
	EventResumed EventType = "email.resumed"
	// EventDeleted: gone from lists, still readable by id.
	EventDeleted EventType = "email.deleted"
)

// Event is one line of an e-mail's history.
type Event struct {
	ID         string
	EmailID    string
	CustomerID string
	// Sequence counts the events of one e-mail from 1, without gaps.
	Sequence int64
	Type     EventType
	// RecipientID is empty for what concerns the whole e-mail.
	RecipientID string
	Attempt     int
	Reply
	Reason Detail
	// Holder is whose hold email.held and email.resumed are about; empty for others, and for
	// holds of versions that did not know.
	Holder Holder
	At     time.Time
}
