package delivery

import (
	"time"

	"github.com/postrider/postrider/email"
)

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

// ResolveAttachmentsInput names the e-mail whose attachments are to become
// stored bytes.
type ResolveAttachmentsInput struct {
	EmailID string `json:"email_id"`
	// Inline: run as a local activity; nothing is fetched from elsewhere.
	Inline bool `json:"inline,omitempty"`
}

// ResolveAttachmentsResult says what is stored now and where the e-mail stands.
type ResolveAttachmentsResult struct {
	State email.State `json:"state"`
	Route Route       `json:"route"`
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
	Attempt int         `json:"attempt"`
	Relay   email.Relay `json:"relay,omitzero"`
	email.Reply
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
	State *email.State `json:"state,omitempty"`
	Took
}

// RecordStatusInput asks to project an attempt's outcomes into the e-mail.
type RecordStatusInput struct {
	EmailID string `json:"email_id"`
	Attempt int    `json:"attempt"`
	// Relay and Unrecorded repeat SendSMTPResult when the journal lacks them.
	Relay      email.Relay `json:"relay,omitzero"`
	Unrecorded []Outcome   `json:"unrecorded,omitempty"`
	// Problem ends the e-mail as failed because of an attachment.
	Problem string `json:"problem,omitempty"`
}

// RecordStatusResult is where the e-mail stands after the projection.
type RecordStatusResult struct {
	State email.State `json:"state"`
	// Webhooks is how many deliveries of this e-mail are waiting.
	Webhooks int `json:"webhooks,omitempty"`
	Took
}

// ControlInput asks for an action on an e-mail.
type ControlInput struct {
	EmailID string       `json:"email_id"`
	Action  email.Action `json:"action"`
	SendAt  time.Time    `json:"send_at,omitzero"`
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

// CheckDomainInput names the sender domain to look at.
type CheckDomainInput struct {
	DomainID string `json:"domain_id"`
	// VerifyNow makes the check due now; a pending or failed domain's checks begin anew.
	VerifyNow bool `json:"verify_now,omitempty"`
}

// CheckDomainResult is where a sender domain stands.
type CheckDomainResult struct {
	// Deleted: the domain does not exist, or not any more.
	Deleted bool `json:"deleted,omitempty"`
	// Checked: the DNS was asked. Otherwise the check was not due, or Waits: it is due, and waits for
	// its turn among the checks of all domains. The run is woken then, at NextAt at the latest.
	Checked bool   `json:"checked,omitempty"`
	Waits   bool   `json:"waits,omitempty"`
	Domain  string `json:"domain,omitempty"`
	Status  string `json:"status,omitempty"`
	// Problem is a line on the first required record that is not verified.
	Problem string `json:"problem,omitempty"`
	// NextAt is when to look next; zero means never.
	NextAt time.Time `json:"next_at,omitzero"`
	Took
}
