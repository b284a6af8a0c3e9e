package delivery

import (
	"crypto/rand"
	"encoding/base32"
	"regexp"
	"strings"
	"time"
)

// Settled is what the gate has settled for all attempts of an e-mail: each process
// renders and signs the same bytes.
type Settled struct {
	EmailID string
	// Date is the header Date, and the time of the signatures.
	Date time.Time
	// Token is in the header X-Postrider-Id. It is empty for an e-mail whose first attempt was made
	// by a version before migration 0030.
	Token string
	// DKIMKeys are the ids of the keys that sign, none if nothing is signed.
	DKIMKeys []string
	// UnsubscribeURL is the recipient's link to unsubscribe by, FeedbackID the value of Feedback-ID. Both
	// are empty for messages without Unsubscribe.
	UnsubscribeURL, FeedbackID string
}

// NewToken makes 80 random bits as 16 lower-case letters and digits. A return path with them is short
// enough for a forwarder that rewrites it (SRS), and means the same if a server changes its case.
func NewToken() string {
	var bits [10]byte
	_, _ = rand.Read(bits[:]) // it never fails
	return strings.ToLower(base32.StdEncoding.EncodeToString(bits[:]))
}

// ReturnPath is the reverse-path (RFC 5321, section 4.4) of an e-mail with a token. It has no "+" or "=",
// which some servers cut or change.
func ReturnPath(token, host string) string { return "b-" + token + "@" + host }

var ownReturnPath = regexp.MustCompile(`^b-[a-z2-7]{16}@`)

// IsReturnPath reports whether a reverse-path is one that ReturnPath has made.
func IsReturnPath(address string) bool { return ownReturnPath.MatchString(address) }

// LikeReturnPath is what the reverse-paths of a sender's e-mails have in common: our own ones have a token
// each, and are the same but for that.
func LikeReturnPath(address string) string {
	return ownReturnPath.ReplaceAllLiteralString(address, "b-*@")
}
