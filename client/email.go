package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/postrider/postrider/email"
)

// Time is one of the tm_ members, which have no zone and mean UTC. Zero is what has
// not happened.
type Time struct{ time.Time }

// UnmarshalJSON reads 2025-03-14 19:04:01.160250; the year 9999 is never.
func (t *Time) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	*t = Time{}
	if s == "" || s == "9999-01-01 00:00:00.000000" {
		return nil
	}
	at, err := time.Parse("2006-01-02 15:04:05.999999", s)
	if err != nil {
		return fmt.Errorf("a tm_ member: %w", err)
	}
	t.Time = at
	return nil
}

// Party is a sender or a recipient as answers show it.
type Party struct {
	Type       string `json:"type"`
	Target     string `json:"target"`
	TargetName string `json:"target_name"`
	Name       string `json:"name"`
	Detail     string `json:"detail"`
}

// Email is an accepted message with its life so far.
type Email struct {
	ID         string `json:"id"`
	CustomerID string `json:"customer_id"`
	// BatchID is the batch that it came in with; empty if it came alone.
	BatchID string `json:"batch_id"`
	// WorkflowID is the run in Temporal; WorkflowURL shows it, if the operator has a UI.
	WorkflowID  string `json:"workflow_id"`
	WorkflowURL string `json:"workflow_url"`

	// Status sums up Recipients; StatusDetail says what it leaves out. A customer with
	// the profile voipbin gets VoIPBIN's words for it, such as processed.
	Status       email.Status `json:"status"`
	StatusDetail email.Detail `json:"status_detail"`
	// HeldBy is who keeps it while StatusDetail is held: each has to lift what is its own.
	HeldBy []email.Holder `json:"held_by"`
	// NextAttemptAt is zero where no attempt is due.
	NextAttemptAt time.Time `json:"next_attempt_at"`
	// ReturnPath is the reverse-path of its attempts, to which bounces go; empty before the first.
	ReturnPath string `json:"return_path"`
	// RelayFault is why no relay takes it; nil unless StatusDetail is relay_down or no_relay.
	RelayFault *RelayFault  `json:"relay_fault"`
	Counts     email.Counts `json:"counts"`
	Recipients []Recipient  `json:"recipients"`

	Source       Party   `json:"source"`
	Destinations []Party `json:"destinations"`
	Cc           []Party `json:"cc"`
	Bcc          []Party `json:"bcc"`
	ReplyTo      []Party `json:"reply_to"`

	Subject string `json:"subject"`
	// Content is the text. In lists it has at most 4096 bytes, with ContentTruncated where
	// that is only the beginning, and ContentHTML is empty.
	Content          string `json:"content"`
	ContentTruncated bool   `json:"content_truncated,omitempty"`
	ContentHTML      string `json:"content_html"`
	// ContentCalendar is nil where there is no invitation, and in lists.
	ContentCalendar *Calendar      `json:"content_calendar,omitempty"`
	Attachments     []AttachedFile `json:"attachments"`

	Metadata  map[string]string `json:"metadata"`
	Tags      []string          `json:"tags"`
	SendAt    time.Time         `json:"send_at"`
	ExpiresAt time.Time         `json:"expires_at"`
	Stream    email.Stream      `json:"stream"`
	// Unsubscribe is nil if the recipient has no link to unsubscribe by.
	Unsubscribe *Unsubscribe `json:"unsubscribe"`
	// CallbackURL is the message's own; empty if it has none.
	CallbackURL string `json:"callback_url"`
	// IgnoreSuppressions says that it is sent to suppressed addresses, too.
	IgnoreSuppressions bool `json:"ignore_suppressions"`

	TmCreate Time `json:"tm_create"`
	// TmUpdate is when the status last changed.
	TmUpdate Time `json:"tm_update"`
	TmDelete Time `json:"tm_delete"`

	raw json.RawMessage
}

// UnmarshalJSON also keeps the answer as it came.
func (e *Email) UnmarshalJSON(data []byte) error {
	type plain Email
	if err := json.Unmarshal(data, (*plain)(e)); err != nil {
		return err
	}
	e.raw = bytes.Clone(data)
	return nil
}

// JSON is the answer as it came, with what this package does not know.
func (e Email) JSON() json.RawMessage { return e.raw }

// RelayFault says why no relay takes an e-mail at the moment.
type RelayFault struct {
	// Relay is the name of the last one tried; empty where none is configured for the e-mail.
	Relay string `json:"relay"`
	// Since is when it began to fail; zero where that is not known.
	Since time.Time `json:"since"`
	// SMTPCode and EnhancedCode are the relay's answer; 0 if there was none. Text has its
	// words, or what happened.
	SMTPCode     int    `json:"smtp_code"`
	EnhancedCode string `json:"enhanced_code"`
	Text         string `json:"text"`
	// NextAttemptAt is when it is tried again; zero where none is configured.
	NextAttemptAt time.Time `json:"next_attempt_at"`
}

// Recipient is one recipient with its own state.
type Recipient struct {
	ID      string                `json:"id"`
	Kind    email.RecipientKind   `json:"kind"`
	Address string                `json:"address"`
	Status  email.RecipientStatus `json:"status"`
	Reason  email.Detail          `json:"reason"`
	// SMTPCode, EnhancedCode and Text are the last reply; 0 if there is none.
	SMTPCode      int       `json:"smtp_code"`
	EnhancedCode  string    `json:"enhanced_code"`
	Text          string    `json:"text"`
	Attempts      int       `json:"attempts"`
	NextAttemptAt time.Time `json:"next_attempt_at"`
	// AcceptedBy is nil unless delivered.
	AcceptedBy *Acceptance `json:"accepted_by"`
	// SuppressedBy is the id of the suppression that ended it; empty if none did.
	SuppressedBy string `json:"suppressed_by"`
}

// Acceptance says which server took the mail, and what its word means.
type Acceptance struct {
	Host  string            `json:"host"`
	Code  int               `json:"code"`
	Text  string            `json:"text"`
	At    time.Time         `json:"at"`
	Means email.AcceptMeans `json:"means"`
}

// AttachedFile is an attachment as answers show it, without its content.
type AttachedFile struct {
	ReferenceType email.ReferenceType `json:"reference_type"`
	ReferenceID   string              `json:"reference_id"`
	URL           string              `json:"url"`
	Filename      string              `json:"filename"`
	Type          string              `json:"type"`
	Size          int64               `json:"size"`
	SHA256        string              `json:"sha256"`
	ContentID     string              `json:"content_id"`
	Optional      bool                `json:"optional"`
	// Problem says why an optional one was left out; empty otherwise.
	Problem string `json:"problem"`
}
