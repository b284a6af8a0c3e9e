package email

import "time"

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

	ActivityResolveAttachments = "ResolveAttachments"
	ActivitySendSMTP           = "SendSMTP"
	ActivityRecordStatus       = "RecordStatus"
	ActivityFireWebhooks       = "FireWebhooks"
	// ActivityControl carries out an action on behalf of a signal or a
	// cancellation; it stands in a history only where that happened.
	ActivityControl = "ControlEmail"
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

// SendEmailInput starts SendEmail for an e-mail that is stored already.
type SendEmailInput struct {
	EmailID string `json:"email_id"`
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
	// Waiting says in words what for: "held", "paused", "throttled", "scheduled",
	// "retry".
	// Empty means that an attempt is due.
	Waiting string `json:"waiting,omitempty"`
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
	Took
}

// SendBatchInput starts SendBatch for a batch that is stored already.
type SendBatchInput struct {
	BatchID string `json:"batch_id"`
	// Sent carries the counts over to a continued run.
	Sent BatchCounts `json:"sent,omitzero"`
}

// BatchCounts counts what a batch's run has sent: attempts by how each e-mail stood
// after it.
type BatchCounts struct {
	Delivered int `json:"delivered"`
	Bounced   int `json:"bounced,omitempty"`
	Failed    int `json:"failed,omitempty"`
	Canceled  int `json:"canceled,omitempty"`
	// Open are those that go on: deferred ones, in runs of their own.
	Open int `json:"open,omitempty"`
}

// Add adds other counts.
func (c *BatchCounts) Add(o BatchCounts) {
	c.Delivered += o.Delivered
	c.Bounced += o.Bounced
	c.Failed += o.Failed
	c.Canceled += o.Canceled
	c.Open += o.Open
}

// Attempted is how many attempts they stand for.
func (c BatchCounts) Attempted() int { return c.Delivered + c.Bounced + c.Failed + c.Canceled + c.Open }

// SendBatchResult is what the run did. The e-mails themselves say what became of them.
type SendBatchResult struct {
	BatchID string      `json:"batch_id"`
	Sent    BatchCounts `json:"sent"`
}

// PlanBatchResult is where a batch stands.
type PlanBatchResult struct {
	CustomerID string `json:"customer_id"`
	Stream     Stream `json:"stream"`
	Total      int    `json:"total"`
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
}

// SendChunkResult is what a chunk came to.
type SendChunkResult struct {
	Sent BatchCounts `json:"sent"`
	// HandedOver are those that go on in runs of their own.
	HandedOver int   `json:"handed_over,omitempty"`
	Relay      Relay `json:"relay,omitzero"`
	// More: there may be more due; call again.
	More bool `json:"more,omitempty"`
	// Turn is when the relay's rate lets the next one begin.
	Turn Turn `json:"turn,omitzero"`
	// Unrecorded are attempts whose ends could not be written: RecordBatchChunk writes
	// them, however long it takes.
	Unrecorded []UnrecordedAttempt `json:"unrecorded,omitempty"`
	Took
}

// UnrecordedAttempt is an Ending on its way through a history: without a transcript,
// its texts without addresses.
type UnrecordedAttempt struct {
	EmailID  string    `json:"email_id"`
	Attempt  int       `json:"attempt"`
	Owner    string    `json:"owner"`
	Relay    Relay     `json:"relay,omitzero"`
	Outcomes []Outcome `json:"outcomes"`
}

// RecordChunkInput asks to write attempts' ends.
type RecordChunkInput struct {
	BatchID  string              `json:"batch_id"`
	Attempts []UnrecordedAttempt `json:"attempts"`
}

// RecordChunkResult counts them.
type RecordChunkResult struct {
	Sent       BatchCounts `json:"sent"`
	HandedOver int         `json:"handed_over,omitempty"`
	Took
}

// ControlBatchInput asks for an action on all e-mails of a batch: cancel, hold or
// resume.
type ControlBatchInput struct {
	BatchID string `json:"batch_id"`
	Action  Action `json:"action"`
}
