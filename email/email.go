package email

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Email is a stored message with its life so far.
type Email struct {
	ID         string
	CustomerID string
	// WorkflowID is the run that owns the mail; it is the authority on that.
	WorkflowID string
	// BatchID is the batch that it came in with; empty for none.
	BatchID string
	Message
	// TextCut is set in lists where Text is only the beginning of the text.
	TextCut bool

	Status Status
	Detail Detail
	// HeldBy is who keeps it from being attempted. Empty where nobody does, or where it was
	// held by a version that did not note who.
	HeldBy     []Holder
	Recipients []Recipient
	// Attempts is the number of the last attempt, 0 before the first.
	Attempts int
	// NextAttemptAt is zero when nothing is due: finished, held, or sending now.
	NextAttemptAt time.Time
	// RelayFault is why no relay takes it; nil unless Detail is relay_down or no_relay.
	RelayFault *RelayFault

	CreatedAt time.Time
	// StatusAt is when the status last changed.
	StatusAt time.Time
	// DeletedAt is zero unless the e-mail was deleted.
	DeletedAt time.Time
}

// MaxListedText is how many bytes of its text an e-mail has in a list.
const MaxListedText = 4 << 10

// CutText is a text as lists show it: at most MaxListedText bytes, cut between two
// characters, and whether it was cut.
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
	// Reply is the last one that concerned this recipient.
	Reply
	NextAttemptAt time.Time
	// AcceptedBy says who took the mail; nil unless delivered.
	AcceptedBy *Acceptance
	StatusAt   time.Time
}

// Acceptance is a next hop's promise for one recipient.
type Acceptance struct {
	Host string `json:"host"`
	Reply
	At    time.Time   `json:"at"`
	Means AcceptMeans `json:"means"`
}

// AsAccepted is the e-mail as the answer to its acceptance showed it: what has
// happened since is left out.
func (e Email) AsAccepted() Email {
	due := e.CreatedAt
	e.Status, e.Detail = StatusQueued, ""
	if e.SendAt.After(e.CreatedAt) {
		due, e.Detail = e.SendAt, DetailScheduled
	}
	e.Attempts, e.NextAttemptAt, e.StatusAt, e.DeletedAt, e.HeldBy = 0, due, e.CreatedAt, time.Time{}, nil
	recipients := make([]Recipient, len(e.Recipients))
	for i, r := range e.Recipients {
		recipients[i] = Recipient{ID: r.ID, Kind: r.Kind, Address: r.Address, Status: RecipientQueued, NextAttemptAt: due, StatusAt: e.CreatedAt}
	}
	e.Recipients = recipients
	return e
}

// Idempotency is a client's own name for a request: the same key and fingerprint
// is the same request, sent again.
type Idempotency struct {
	// Key has 1 to 256 printable ASCII characters; empty means none.
	Key string
	// Fingerprint identifies the normalised message.
	Fingerprint string
}

// IdempotencyKept is how long a key is remembered.
const IdempotencyKept = 7 * 24 * time.Hour

// Counts tallies an e-mail's recipients by where they stand.
type Counts struct {
	Total     int `json:"total"`
	Open      int `json:"open"`
	Delivered int `json:"delivered"`
	Bounced   int `json:"bounced"`
	Failed    int `json:"failed"`
	Canceled  int `json:"canceled"`
}

// Count tallies recipients.
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

// Cursor is a place in a list that runs from new to old: the last row seen.
type Cursor struct {
	// At is that row's time; zero is the beginning of the list.
	At time.Time
	// ID tells rows of the same time apart; empty means all that are older than At.
	ID string
}
