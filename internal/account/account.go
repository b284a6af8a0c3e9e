// Package account is the domain of who uses an installation: customers, the
// users and access keys that act for them, and the sender domains they have
// proven to be theirs.
package account

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"time"
)

// Status of a customer.
type Status string

// A suspended customer's requests are refused; its accepted mail goes on.
const (
	StatusActive    Status = "active"
	StatusSuspended Status = "suspended"
)

// Customer owns e-mails, keys, domains, mailboxes and endpoints. Every query
// of the API is bounded by one.
type Customer struct {
	ID     string
	Name   string
	Detail string
	Email  string
	Status Status
	// WebhookURI receives the events of all e-mails; empty means none.
	WebhookURI    string
	WebhookMethod string
	// DefaultSource serves where a request leaves the sender out; nil means none.
	DefaultSource *Source
	CreatedAt     time.Time
	UpdatedAt     time.Time
	DeletedAt     time.Time
}

// Source is a sender address.
type Source struct {
	Email string `json:"email"`
	Name  string `json:"name,omitempty"`
}

// User signs in with a password and acts for one customer.
type User struct {
	ID         string
	CustomerID string
	Username   string
	CreatedAt  time.Time
}

// AccessKey acts for one customer. Its token is shown once, at creation.
type AccessKey struct {
	ID          string
	CustomerID  string
	Name        string
	Detail      string
	TokenPrefix string
	// Scopes widen what the key may do; none is its customer's own affairs.
	Scopes []Scope
	// ExpiresAt is zero for a key that does not expire.
	ExpiresAt time.Time
	CreatedAt time.Time
	UpdatedAt time.Time
	DeletedAt time.Time
}

// Scope is something a credential may do.
type Scope string

// ScopeAdmin is the operator's: what concerns the whole installation.
const ScopeAdmin Scope = "admin"

// Scopes lists them.
func Scopes() []Scope { return []Scope{ScopeAdmin} }

// Grant is what a credential stands for.
type Grant struct {
	Customer Customer
	Scopes   []Scope
}

// Domain is a domain that a customer sends from.
type Domain struct {
	ID         string
	CustomerID string
	Name       string
	// VerifiedAt is zero while nobody has shown that the domain is the customer's.
	VerifiedAt time.Time
	CreatedAt  time.Time
}

// tokenPrefix marks an access key's token, so that it is told from a JWT and
// found by secret scanners.
const tokenPrefix = "pr_"

// NewToken makes an access key's token: "pr_" and 256 random bits.
func NewToken() string {
	var b [32]byte
	rand.Read(b[:]) // crypto/rand.Read never fails
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// IsToken reports whether a credential is shaped like an access key's token.
func IsToken(s string) bool { return strings.HasPrefix(s, tokenPrefix) }

// HashToken is what is stored of a token. A fast hash is enough for 256 random bits.
func HashToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// TokenPrefix is the part of a token that is shown in lists.
func TokenPrefix(token string) string { return token[:min(len(token), len(tokenPrefix)+8)] }
