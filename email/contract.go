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
	Waiting string `json:"waiting,omitempty"`
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

// Took says when a step began and how long it took. A local activity's marker
// shows neither, so each result carries them.
type Took struct {
	StartedAt time.Time `json:"started_at"`
	MS        int64     `json:"ms"`
}

// AcceptEmailResult is the e-mail that a direct start has come to.
type AcceptEmailResult struct {
	EmailID string `json:"email_id"`
	// Replayed: the e-mail was accepted by an earlier run, of the same message.
	Replayed bool `json:"replayed,omitempty"`
	// Owner is the workflow id of the run that sends the e-mail, where that is
	// another than this one, and is not finished with it.
	Owner string `json:"owner,omitempty"`
	Took
}

// FollowEmailInput names an e-mail that another run sends.
type FollowEmailInput struct {
	EmailID string `json:"email_id"`
	Owner   string `json:"owner"`
}

// ErrorDetails are the details of an application error that refuses an input.
type ErrorDetails struct {
	Errors []FieldError `json:"errors"`
}

// ResolveAttachmentsInput names the e-mail whose attachments are to become
// stored bytes.
type ResolveAttachmentsInput struct {
	EmailID string `json:"email_id"`
	// Inline: run as a local activity; nothing is fetched from elsewhere.
	Inline bool `json:"inline,omitempty"`
}

// ResolveAttachmentsResult says what is stored now and where the e-mail stands.
type ResolveAttachmentsResult struct {
	State State `json:"state"`
	Route Route `json:"route"`
	// RecipientDomains are distinct, at most 10, for the search attribute.
	RecipientDomains []string `json:"recipient_domains,omitempty"`
	CustomerID       string   `json:"customer_id,omitempty"`
	Stored           int      `json:"stored"`
	// Remote: something has to be fetched, which an inline step does not do;
	// call the activity again as a regular one.
	Remote bool `json:"remote,omitempty"`
	// Problem: an attachment cannot be had, for good. RecordStatus ends the
	// e-mail with it.
	Problem string `json:"problem,omitempty"`
	Took
}

// SendSMTPInput asks for one attempt.
type SendSMTPInput struct {
	EmailID string `json:"email_id"`
	// Attempt is the State's NextAttempt. Asking again for the same number
	// never sends twice: the journal knows.
	Attempt int   `json:"attempt"`
	Route   Route `json:"route"`
	// Inline: run as a local activity, within the inline budget.
	Inline bool `json:"inline,omitempty"`
	// RelayDown: the run says already that no relay takes mail. That is an error
	// then, which the server retries, and no result any more.
	RelayDown bool `json:"relay_down,omitempty"`
}

// SendSMTPResult is what one attempt yielded, or why there was none.
type SendSMTPResult struct {
	Attempt int   `json:"attempt"`
	Relay   Relay `json:"relay,omitzero"`
	Reply
	// Sent: an attempt with this number has ended; RecordStatus has outcomes to project.
	Sent bool `json:"sent,omitempty"`
	// Turn is when the relay's rate lets the attempt begin; nothing was sent.
	Turn Turn `json:"turn,omitzero"`
	// HandOver: the attempt does not fit the inline budget. It goes on where it
	// is; call the activity again as a regular one, which attaches to it.
	HandOver bool `json:"hand_over,omitempty"`
	// RelayDown, with HandOver: no relay takes mail, Text says why. Call again once
	// the run says so, with the same in the input.
	RelayDown bool `json:"relay_down,omitempty"`
	// NoRelay, with RelayDown: no configured relay takes mail like this.
	NoRelay bool `json:"no_relay,omitempty"`
	// Unrecorded holds the outcomes when the journal could not be written after
	// the server had answered: RecordStatus writes both, however long it takes.
	Unrecorded []Outcome `json:"unrecorded,omitempty"`
	// State is set when there was no attempt: the gate was closed.
	State *State `json:"state,omitempty"`
	Took
}

// RecordStatusInput asks to project an attempt's outcomes into the e-mail.
type RecordStatusInput struct {
	EmailID string `json:"email_id"`
	Attempt int    `json:"attempt"`
	// Relay and Unrecorded repeat SendSMTPResult when the journal lacks them.
	Relay      Relay     `json:"relay,omitzero"`
	Unrecorded []Outcome `json:"unrecorded,omitempty"`
	// Problem ends the e-mail as failed because of an attachment.
	Problem string `json:"problem,omitempty"`
}

// RecordStatusResult is where the e-mail stands after the projection.
type RecordStatusResult struct {
	State State `json:"state"`
	// Webhooks is how many deliveries of this e-mail are waiting.
	Webhooks int `json:"webhooks,omitempty"`
	Took
}

// ControlInput asks for an action on an e-mail.
type ControlInput struct {
	EmailID string    `json:"email_id"`
	Action  Action    `json:"action"`
	SendAt  time.Time `json:"send_at,omitzero"`
}

// RescheduleInput is the argument of the signal and the update "reschedule"; the
// other actions take none.
type RescheduleInput struct {
	SendAt time.Time `json:"send_at"`
}

// FireWebhooksInput names the e-mail whose deliveries are due.
type FireWebhooksInput struct {
	EmailID string `json:"email_id"`
	// Waiting is RecordStatusResult.Webhooks; 0 costs no query.
	Waiting int `json:"waiting,omitempty"`
}

// FireWebhooksResult counts what became of them. Pending ones belong to the
// endpoints' own runs.
type FireWebhooksResult struct {
	Delivered int `json:"delivered"`
	Pending   int `json:"pending,omitempty"`
	Took
}

// DeliverWebhooksInput starts DeliverWebhooks for one endpoint.
type DeliverWebhooksInput struct {
	EndpointID string `json:"endpoint_id"`
}

// DeliverWebhooksResult is one round of an endpoint's deliveries.
type DeliverWebhooksResult struct {
	Delivered int `json:"delivered"`
	Failed    int `json:"failed,omitempty"`
	Waiting   int `json:"waiting,omitempty"`
	// NextAt is when the next delivery is due; zero when none waits.
	NextAt time.Time `json:"next_at,omitzero"`
	// Host is where the endpoint is. Since and Why are set while it fails, and where it
	// is disabled, which Disabled says.
	Host     string    `json:"host,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	Why      string    `json:"why,omitempty"`
	Disabled bool      `json:"disabled,omitempty"`
	Took
}
