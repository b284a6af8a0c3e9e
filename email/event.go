package email

import "time"

// EventType names something that happened to an e-mail or to one recipient of
// it. The names are published: webhooks carry them as their type.
type EventType string

// The events of an e-mail's life. Those from deferred to resubscribed are about
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
	// EventUnsubscribed: the recipient has unsubscribed by the link of the e-mail, and is on the suppression
	// list. EventResubscribed: it has undone that. Neither changes the status of the e-mail.
	EventUnsubscribed EventType = "email.unsubscribed"
	EventResubscribed EventType = "email.resubscribed"
	// EventAmbiguous: the server's reply to the message never came. The recipient's status
	// follows in an event of its own.
	EventAmbiguous EventType = "email.ambiguous"
	// EventCompleted is written once per e-mail, with the counts, when the last recipient is
	// finished.
	EventCompleted EventType = "email.completed"
	// EventCancelRequested: the e-mail was canceled while an attempt was open. Recipients that
	// the attempt defers will be canceled.
	EventCancelRequested EventType = "email.cancel_requested"
	// EventHeld and EventResumed: a customer or an operator held the e-mail or resumed it.
	EventHeld    EventType = "email.held"
	EventResumed EventType = "email.resumed"
	// EventDeleted: lists no longer have the e-mail; it can still be read by id.
	EventDeleted EventType = "email.deleted"
)

// Event is one entry in an e-mail's history.
type Event struct {
	ID         string
	EmailID    string
	CustomerID string
	// Sequence counts the events of one e-mail from 1, without gaps.
	Sequence int64
	Type     EventType
	// RecipientID is empty for an event of the whole e-mail.
	RecipientID string
	Attempt     int
	Reply
	Reason Detail
	// Holder is the holder of email.held and email.resumed. It is empty for other events, and
	// for holds of versions that did not store it.
	Holder Holder
	At     time.Time
}
