package email

import (
	"encoding/json"
	"time"
)

// The names that a Temporal client needs. They are published: a change here breaks programs of
// customers.
const (
	WorkflowSendEmail = "SendEmail"
	// WorkflowDeliverWebhooks is one run per endpoint that has deliveries waiting. Only
	// Postrider starts it.
	WorkflowDeliverWebhooks = "DeliverWebhooks"
	// WorkflowSendBatch is one run per batch. Only Postrider starts it.
	WorkflowSendBatch = "SendBatch"
	// WorkflowVerifyDomain is one run per sender domain whose DNS records are checked. Only
	// Postrider starts it.
	WorkflowVerifyDomain = "VerifyDomain"
	TaskQueue            = "postrider"

	// WorkflowIDPrefix and the e-mail's id are the workflow id of an e-mail that was accepted
	// over REST.
	WorkflowIDPrefix = "email-"
	// BatchWorkflowIDPrefix and the batch's id are the workflow id of SendBatch.
	BatchWorkflowIDPrefix = "batch-"
	// WebhookWorkflowIDPrefix and the endpoint's id are the workflow id of DeliverWebhooks.
	WebhookWorkflowIDPrefix = "webhook-"
	// DomainWorkflowIDPrefix and the domain's id are the workflow id of VerifyDomain.
	DomainWorkflowIDPrefix = "domain-"

	// NexusService and its operation NexusOperationSend start SendEmail from other namespaces.
	// Input and result are those of a direct start. The workflow id is NexusWorkflowIDPrefix
	// and the id of the request.
	NexusService          = "email"
	NexusOperationSend    = "send"
	NexusWorkflowIDPrefix = "nexus-"

	ActivityResolveAttachments = "ResolveAttachments"
	ActivitySendSMTP           = "SendSMTP"
	ActivityRecordStatus       = "RecordStatus"
	ActivityFireWebhooks       = "FireWebhooks"
	// ActivityControl carries out the action of a signal or update, or a cancellation.
	ActivityControl = "ControlEmail"
	// ActivityAccept stores the message of a direct start, as the run's first step.
	ActivityAccept = "AcceptEmail"
	// ActivityFollow waits until an e-mail that another run sends is finished: in the run of a
	// direct start that repeats an earlier one.
	ActivityFollow = "FollowEmail"
	// ActivityDeliverWebhooks is the activity of DeliverWebhooks.
	ActivityDeliverWebhooks = "DeliverDueWebhooks"

	// The activities of SendBatch.
	ActivityPlanBatch    = "PlanBatch"
	ActivitySendChunk    = "SendBatchChunk"
	ActivityRecordChunk  = "RecordBatchChunk"
	ActivityControlBatch = "ControlBatch"

	// ActivityCheckDomain is the activity of VerifyDomain.
	ActivityCheckDomain = "CheckDomain"

	// SignalVerifyNow is the signal and the update of VerifyDomain that make it look at the DNS
	// now, at most every 10 seconds. They have no input. The update answers with a
	// VerifyDomainResult after the look.
	SignalVerifyNow = "verify_now"

	// SignalWake makes a run read its e-mail's row again. It has no input: the state is in
	// Postgres. A needless signal is harmless.
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
	// CustomerID is the id of the customer that sends the message.
	CustomerID string `json:"customer_id,omitempty"`
	// Message is a body of POST /v1.0/emails, in either shape, of at most
	// MaxDirectMessageBytes. It is raw JSON, so that the workflow does not interpret it.
	Message json.RawMessage `json:"message,omitempty"`
	// IdempotencyKey identifies the message, as the header Idempotency-Key does. Empty means
	// that the workflow id does.
	IdempotencyKey string `json:"idempotency_key,omitempty"`
}

// SendEmailResult is the e-mail's final status. A refusal by a recipient's server is in the
// result, and is not an error. Addresses are masked (MaskAddress).
type SendEmailResult struct {
	EmailID    string            `json:"email_id"`
	Status     Status            `json:"status"`
	Detail     Detail            `json:"status_detail,omitempty"`
	Recipients []RecipientResult `json:"recipients"`
}

// RecipientResult is one recipient's final status.
type RecipientResult struct {
	ID       string          `json:"id"`
	Address  string          `json:"address"`
	Status   RecipientStatus `json:"status"`
	SMTPCode int             `json:"smtp_code,omitempty"`
	Enhanced string          `json:"enhanced_code,omitempty"`
	Text     string          `json:"text,omitempty"`
	Attempts int             `json:"attempts"`
}

// State is an e-mail's state as a workflow needs it. An activity reads it from Postgres, so
// that the workflow keeps no counts of its own.
type State struct {
	Status Status `json:"status"`
	Detail Detail `json:"status_detail,omitempty"`
	// Final: the e-mail is finished; no attempt follows.
	Final bool `json:"final,omitempty"`
	// NextAttempt is the number of the next attempt, for SendSMTP.
	NextAttempt int `json:"next_attempt,omitempty"`
	// Open is how many recipients are not finished.
	Open int `json:"open,omitempty"`
	// NextAt is when the next attempt is due; zero with Waiting empty means now.
	NextAt time.Time `json:"next_at,omitzero"`
	// Waiting is what the next attempt waits for. Empty means that an attempt is due.
	Waiting Waiting `json:"waiting,omitempty"`
	// HeldBy are the holders that keep the e-mail; empty unless it is held.
	HeldBy []Holder `json:"held_by,omitempty"`
	// ThrottledBy names the rate or plan that throttles the e-mail: "relay:NAME",
	// "recipients:DOMAIN" or "warmup:DOMAIN". Empty unless it is throttled.
	ThrottledBy ThrottledBy `json:"throttled_by,omitempty"`
	// OnlyRelay names the only relay that the next attempt may use, because that relay's reply
	// to the message never came. Empty means any relay.
	OnlyRelay string `json:"only_relay,omitempty"`
	// FaultyRelay names the relay whose fault ended the last attempt. Empty means none.
	FaultyRelay string `json:"faulty_relay,omitempty"`
	// Last is the reply that best explains the wait, with masked addresses.
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

// VerifyDomainInput starts VerifyDomain for one sender domain.
type VerifyDomainInput struct {
	DomainID string `json:"domain_id"`
}

// VerifyDomainResult is where a sender domain stands: the answer to the update verify_now, and the
// result of a run. A run ends when the domain is deleted, or has failed and is not looked at any more.
type VerifyDomainResult struct {
	DomainID string `json:"domain_id"`
	// Domain is its name.
	Domain string `json:"domain,omitempty"`
	// Status is pending, verified, warning or failed.
	Status string `json:"status,omitempty"`
	// Deleted: the domain does not exist, or not any more.
	Deleted bool `json:"deleted,omitempty"`
	// Problem says in a line why the domain is not verified: the record and what is wrong with it.
	Problem string `json:"problem,omitempty"`
	// NextCheckAt is zero if there is no next check.
	NextCheckAt time.Time `json:"next_check_at,omitzero"`
}
