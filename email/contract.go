package email

import (
	"encoding/json"
	"time"
)

// The names an outside Temporal client needs. They are published: a change
// here breaks programs that are not ours.
const (
	WorkflowSendEmail = "SendEmail"
	// WorkflowDeliverWebhooks is one run per endpoint that has deliveries
	// waiting; ours to start.
	WorkflowDeliverWebhooks = "DeliverWebhooks"
	// WorkflowSendBatch is one run per batch; ours to start.
	WorkflowSendBatch = "SendBatch"
	TaskQueue         = "postrider"

	// WorkflowIDPrefix and the e-mail's id make the workflow id of a mail that
	// came in over REST.
	WorkflowIDPrefix = "email-"
	// BatchWorkflowIDPrefix and the batch's id make that of SendBatch.
	BatchWorkflowIDPrefix = "batch-"
	// WebhookWorkflowIDPrefix and the endpoint's id make that of DeliverWebhooks.
	WebhookWorkflowIDPrefix = "webhook-"

	// NexusService and its operation NexusOperationSend are SendEmail for other
	// namespaces: input and result are a direct start's. Its workflow ids are
	// NexusWorkflowIDPrefix and the id of the request.
	NexusService          = "email"
	NexusOperationSend    = "send"
	NexusWorkflowIDPrefix = "nexus-"

	ActivityResolveAttachments = "ResolveAttachments"
	ActivitySendSMTP           = "SendSMTP"
	ActivityRecordStatus       = "RecordStatus"
	ActivityFireWebhooks       = "FireWebhooks"
	// ActivityControl carries out an action on behalf of a signal or a
	// cancellation; it stands in a history only where that happened.
	ActivityControl = "ControlEmail"
	// ActivityAccept accepts the message of a direct start; the first step of one.
	ActivityAccept = "AcceptEmail"
	// ActivityFollow waits for the end of an e-mail that another run sends; it
	// stands in the history of a direct start that repeats an earlier one.
	ActivityFollow = "FollowEmail"
	// ActivityDeliverWebhooks belongs to DeliverWebhooks.
	ActivityDeliverWebhooks = "DeliverDueWebhooks"

	// These belong to SendBatch.
	ActivityPlanBatch    = "PlanBatch"
	ActivitySendChunk    = "SendBatchChunk"
	ActivityRecordChunk  = "RecordBatchChunk"
	ActivityControlBatch = "ControlBatch"

	// SignalWake makes a run look at the e-mail's row again. It carries
	// nothing: what happened is in Postgres. One too many is harmless.
	SignalWake = "wake"
	// QueryStatus answers with a State.
	QueryStatus = "status"

	// SearchAttributeStatus holds the detail if there is one, else the status.
	SearchAttributeStatus     = "EmailStatus"
	SearchAttributeCustomerID = "EmailCustomerId"
	SearchAttributeStream     = "EmailStream"
	SearchAttributeRelay      = "EmailRelay"
	// SearchAttributeRecipientDomains is a keyword list.
	SearchAttributeRecipientDomains = "EmailRecipientDomains"
)

// SendEmailInput starts SendEmail: either for an e-mail that is stored already,
// named by EmailID alone, or with a message, under any workflow id (a direct start).
type SendEmailInput struct {
	EmailID string `json:"email_id,omitempty"`
	// CustomerID is on whose behalf the message is sent.
	CustomerID string `json:"customer_id,omitempty"`
	// Message is what POST /v1.0/emails takes, in either shape, at most
	// MaxDirectMessageBytes. It is kept as it is, so that the workflow never interprets it.
	Message json.RawMessage `json:"message,omitempty"`
	// IdempotencyKey is the caller's name for the message, as the header
	// Idempotency-Key. Empty means that the workflow id is the name.
	IdempotencyKey string `json:"idempotency_key,omitempty"`
}

// SendEmailResult is what became of the e-mail. What recipients' servers said
// is a result, never an error. Addresses are masked (MaskAddress).
type SendEmailResult struct {
	EmailID    string            `json:"email_id"`
	Status     Status            `json:"status"`
	Detail     Detail            `json:"status_detail,omitempty"`
	Recipients []RecipientResult `json:"recipients"`
}

// RecipientResult is one recipient's end.
type RecipientResult struct {
	ID       string          `json:"id"`
	Address  string          `json:"address"`
	Status   RecipientStatus `json:"status"`
	SMTPCode int             `json:"smtp_code,omitempty"`
	Enhanced string          `json:"enhanced_code,omitempty"`
	Text     string          `json:"text,omitempty"`
	Attempts int             `json:"attempts"`
}

// State is where an e-mail stands, as a workflow needs it: taken from Postgres
// by an activity, so that the workflow never counts anything itself.
type State struct {
	Status Status `json:"status"`
	Detail Detail `json:"status_detail,omitempty"`
	// Final: nothing will be attempted any more.
	Final bool `json:"final,omitempty"`
	// NextAttempt is the number to call SendSMTP with.
	NextAttempt int `json:"next_attempt,omitempty"`
	// Open is how many recipients are not at their end.
	Open int `json:"open,omitempty"`
	// NextAt is when the next attempt is due; zero with Waiting empty means now.
	NextAt time.Time `json:"next_at,omitzero"`
	// Waiting says in a word what for: "held", "paused", "throttled", "scheduled",
	// "retry", or "acceptance" before there is an e-mail. Empty means that an attempt is due.
	Waiting Waiting `json:"waiting,omitempty"`
	// HeldBy is who holds it, while it waits for that.
	HeldBy []Holder `json:"held_by,omitempty"`
	// ThrottledBy names what it waits for while throttled: "relay:NAME",
	// "recipients:DOMAIN" or "warmup:DOMAIN".
	ThrottledBy ThrottledBy `json:"throttled_by,omitempty"`
	// OnlyRelay names the relay that the next attempt goes to, because its answer to the
	// message never came. Empty means any.
	OnlyRelay string `json:"only_relay,omitempty"`
	// FaultyRelay names the relay that it waits for, because of the relay's fault.
	FaultyRelay string `json:"faulty_relay,omitempty"`
	// Last is the reply that best explains the wait, its addresses masked.
	Last Reply `json:"last,omitzero"`
	// Results is filled when Final, for the run's result.
	Results []RecipientResult `json:"results,omitempty"`
}

// ErrorDetails are the details of an application error that refuses an input.
type ErrorDetails struct {
	Errors []FieldError `json:"errors"`
}

// RescheduleInput is the argument of the signal and the update "reschedule"; the
// other actions take none.
type RescheduleInput struct {
	SendAt time.Time `json:"send_at"`
}

// DeliverWebhooksInput starts DeliverWebhooks for one endpoint.
type DeliverWebhooksInput struct {
	EndpointID string `json:"endpoint_id"`
}
