// Package suppression has the rules of suppression lists: which entries there are, what each covers,
// and the key by which an address is found.
package suppression

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"time"

	"github.com/postrider/postrider/email"
)

// Scope is which mail an entry covers.
type Scope string

// The scopes. Stream and topic have a target: the stream, or the name of the topic.
const (
	ScopeAll    Scope = "all"
	ScopeStream Scope = "stream"
	ScopeTopic  Scope = "topic"
)

// Reason is why an address is suppressed.
type Reason string

// The reasons.
const (
	// HardBounce: a server has said that the address does not exist.
	HardBounce Reason = "hard_bounce"
	// SoftBounces: mail to the address has failed again and again; see SoftFailures.
	SoftBounces Reason = "soft_bounces"
	// Complaint: the recipient has called a message spam.
	Complaint Reason = "complaint"
	// Unsubscribe: the recipient does not want such mail.
	Unsubscribe Reason = "unsubscribe"
	// Manual: the customer has decided it.
	Manual Reason = "manual"
)

// Reasons lists them.
func Reasons() []Reason { return []Reason{HardBounce, SoftBounces, Complaint, Unsubscribe, Manual} }

// Source is who made an entry.
type Source string

// The sources.
const (
	// FromDelivery: the outcome of an attempt.
	FromDelivery Source = "delivery"
	// FromRecipient: the recipient has used the link of a message.
	FromRecipient Source = "recipient"
	// FromCustomer: a request, or an operator's command.
	FromCustomer Source = "manual"
	// FromImport: a file.
	FromImport Source = "import"
)

// Entry is a line of a customer's suppression list.
type Entry struct {
	ID         string
	CustomerID string
	// Key is the address's key; see Keys.
	Key string
	// Address has a local part as it was given and a domain in lower-case A-labels. It is empty if the
	// person's address was erased, and *@example.com for all addresses of a domain.
	Address string
	Scope   Scope
	// Target is the stream or the topic of the scope; empty for all mail.
	Target string
	Reason Reason
	Source Source
	// EmailID is the e-mail that was the reason; empty if none was.
	EmailID string
	// Note is the customer's, at most MaxNoteBytes.
	Note string
	// ExpiresAt ends it; zero means never.
	ExpiresAt time.Time
	CreatedAt time.Time
}

// MaxNoteBytes limits a note.
const MaxNoteBytes = 500

// Covers reports whether an entry is about the mail of a stream and topic.
func (e Entry) Covers(stream email.Stream, topic string) bool {
	switch e.Scope {
	case ScopeAll:
		return true
	case ScopeStream:
		return e.Target == string(stream)
	case ScopeTopic:
		return topic != "" && e.Target == topic
	}
	return false
}

// ScopeOf is what an unsubscription from a message covers: the message's topic, or all broadcast mail.
// Transactional mail without a topic goes on.
func ScopeOf(topic string) (Scope, string) {
	if topic != "" {
		return ScopeTopic, topic
	}
	return ScopeStream, string(email.StreamBroadcast)
}

// SoftFailures is the rule for SoftBounces. So many e-mails in a row have failed for an address, for a
// temporary reason of its own server. So long has passed between the first and the last. The entry covers
// broadcast mail and expires.
var SoftFailures = struct {
	InARow  int
	Over    time.Duration
	Expires time.Duration
}{5, 7 * 24 * time.Hour, 30 * 24 * time.Hour}

// Keys makes the keys of addresses: an HMAC-SHA-256, of which 128 bits are kept, in base64url. It finds an
// address, and does not tell it.
type Keys struct{ secret []byte }

// KeyBytes is the length of the secret.
const KeyBytes = 32

// NewKeys makes keys with a secret of KeyBytes.
func NewKeys(secret []byte) Keys { return Keys{secret} }

// Key is the key of an address. The domain counts in lower case, and the local part exactly as it is:
// only the receiving server knows which local parts mean the same mailbox (RFC 5321 section 2.4).
func (k Keys) Key(address string) string {
	at := strings.LastIndexByte(address, '@')
	mac := hmac.New(sha256.New, k.secret)
	mac.Write([]byte(address[:at+1]))
	mac.Write([]byte(strings.ToLower(address[at+1:])))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}

// Wildcard is the entry for all addresses of a domain.
func Wildcard(domain string) string { return wildcardPrefix + domain }

// wildcardPrefix begins the entries for all addresses of a domain.
const wildcardPrefix = "*@"
