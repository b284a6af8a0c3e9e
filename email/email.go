package email

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Email is a stored message with its state.
type Email struct {
	ID         string
	CustomerID string
	// WorkflowID is the workflow id of the run that sends the e-mail.
	WorkflowID string
	// BatchID is the batch that the e-mail belongs to; empty for none.
	BatchID string
	Message
	// TextCut is set in lists where Text is only the beginning of the text.
	TextCut bool

	Status Status
	Detail Detail
	// HeldBy are the holders that prevent attempts. Empty if the e-mail is not held, or if a
	// version held it that did not store the holder.
	HeldBy     []Holder
	Recipients []Recipient
	// Attempts is the number of the last attempt, 0 before the first.
	Attempts int
	// NextAttemptAt is zero if no attempt is due: the e-mail is finished, held or being sent.
	NextAttemptAt time.Time
	// ReturnPath is the reverse-path of its attempts, where bounces go (RFC 5321, section 4.4). Empty before
	// the first attempt.
	ReturnPath string
	// RelayFault is why no relay takes the e-mail; nil unless Detail is relay_down or no_relay.
	RelayFault *RelayFault

	CreatedAt time.Time
	// StatusAt is when the status last changed.
	StatusAt time.Time
	// DeletedAt is zero unless the e-mail was deleted.
	DeletedAt time.Time
}

// MaxListedText bounds the text of an e-mail in a list, in bytes.
const MaxListedText = 4 << 10

// CutText cuts a text for a list to at most MaxListedText bytes, between two characters. It
// reports whether it has cut.
func CutText(s string) (string, bool) {
	if len(s) <= MaxListedText {
		return s, false
	}
	end := MaxListedText
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return strings.Clone(s[:end]), true
}

// Recipient is one recipient of an e-mail with its own state.
type Recipient struct {
	ID   string
	Kind RecipientKind
	Address

	Status   RecipientStatus
	Reason   Detail
	Attempts int
	// Reply is the last SMTP reply for this recipient.
	Reply
	NextAttemptAt time.Time
	// AcceptedBy is the server that accepted the message; nil unless delivered.
	AcceptedBy *Acceptance
	StatusAt   time.Time
	// SuppressedBy is the id of the suppression that ended it; empty if none did.
	SuppressedBy string
}

// Acceptance is the positive reply of the next hop for one recipient.
type Acceptance struct {
	Host string `json:"host"`
	Reply
	At    time.Time   `json:"at"`
	Means AcceptMeans `json:"means"`
}

// AsAccepted is the e-mail as it was when it was accepted. The answer to a repeated request
// shows it.
func (e Email) AsAccepted() Email {
	due := e.CreatedAt
	e.Status, e.Detail = StatusQueued, ""
	if e.SendAt.After(e.CreatedAt) {
		due, e.Detail = e.SendAt, DetailScheduled
	}
	e.Attempts, e.NextAttemptAt, e.StatusAt, e.DeletedAt, e.HeldBy, e.ReturnPath = 0, due, e.CreatedAt, time.Time{}, nil, ""
	recipients, suppressed := make([]Recipient, len(e.Recipients)), 0
	for i, r := range e.Recipients {
		if r.Status == RecipientSuppressed && r.StatusAt.Equal(e.CreatedAt) {
			recipients[i] = r
			suppressed++
			continue
		}
		recipients[i] = Recipient{ID: r.ID, Kind: r.Kind, Address: r.Address, Status: RecipientQueued, NextAttemptAt: due, StatusAt: e.CreatedAt}
	}
	e.Recipients = recipients
	switch suppressed {
	case 0:
	case len(recipients):
		e.Status, e.Detail, e.NextAttemptAt = StatusBounced, DetailSuppressed, time.Time{}
	default:
		e.Detail = DetailPartial
	}
	return e
}

// Idempotency identifies a request of a client. A request with the same key and the same
// fingerprint is a repetition.
type Idempotency struct {
	// Key has 1 to 256 printable ASCII characters; empty means none.
	Key string
	// Fingerprint identifies the normalised message.
	Fingerprint string
}

// IdempotencyKept is how long a key is stored.
const IdempotencyKept = 7 * 24 * time.Hour

// Counts are the numbers of an e-mail's recipients by status.
type Counts struct {
	Total     int `json:"total"`
	Open      int `json:"open"`
	Delivered int `json:"delivered"`
	Bounced   int `json:"bounced"`
	Failed    int `json:"failed"`
	Canceled  int `json:"canceled"`
}

// Count counts recipients by status.
func Count(rs []Recipient) Counts {
	c := Counts{Total: len(rs)}
	for _, r := range rs {
		switch r.Status {
		case RecipientDelivered, RecipientComplained:
			c.Delivered++
		case RecipientBounced, RecipientSuppressed:
			c.Bounced++
		case RecipientFailed, RecipientExpired:
			c.Failed++
		case RecipientCanceled:
			c.Canceled++
		default:
			c.Open++
		}
	}
	return c
}

// Cursor is a position in a list that is ordered from new to old: the last row of a page.
type Cursor struct {
	// At is that row's time; zero is the beginning of the list.
	At time.Time
	// ID orders rows of the same time; empty means all rows older than At.
	ID string
}
