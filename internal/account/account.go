// Package account is the domain of who uses an installation: customers, the
// users and access keys that act for them, and the sender domains they have
// proven to be theirs.
package account

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
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
	// Profile is how requests are read and answers written.
	Profile Profile
	// Credits are the recipients that may still be sent to; nil is without limit.
	Credits   *int64
	CreatedAt time.Time
	UpdatedAt time.Time
	DeletedAt time.Time
}

// Profile is a dialect of the API.
type Profile string

// The profiles.
const (
	ProfileDefault Profile = ""
	// ProfileVoIPBIN reads and answers as VoIPBIN does: POST with 200, its statuses,
	// unknown members ignored.
	ProfileVoIPBIN Profile = "voipbin"
)

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
	// Admin users act for the whole installation.
	Admin bool
	// TokenVersion is in each login token; a token with a lower one has ended.
	TokenVersion int
	CreatedAt    time.Time
}

// Limits of a password in bytes. The shortest is as NIST SP 800-63B 5.1.1 has it.
const (
	MinPasswordBytes = 8
	MaxPasswordBytes = 1024
)

// CheckPassword refuses a new password that is too short or too long.
func CheckPassword(password string) error {
	if len(password) < MinPasswordBytes || len(password) > MaxPasswordBytes {
		return fmt.Errorf("the password has %d bytes: give one of %d to %d", len(password), MinPasswordBytes, MaxPasswordBytes)
	}
	return nil
}

// Rights is the user's login as an access key that may do as much: who gives a user a
// password, or ends it, needs these rights.
func (u User) Rights() AccessKey {
	if u.Admin {
		return AccessKey{Scopes: []Scope{ScopeAdmin}}
	}
	return AccessKey{}
}

// AccessKey acts for one customer. Its token is shown once, at creation.
type AccessKey struct {
	ID          string
	CustomerID  string
	Name        string
	Detail      string
	TokenPrefix string
	// Scopes are what the key may do; none is all of its customer's own affairs.
	Scopes []Scope
	// SenderDomains are the only ones it sends from, and Networks the only ones it is
	// used from; none is any.
	SenderDomains []string
	Networks      []netip.Prefix
	// LastUsedAt is exact to a minute; zero means never.
	LastUsedAt time.Time
	// ExpiresAt is zero for a key that does not expire.
	ExpiresAt time.Time
	CreatedAt time.Time
	UpdatedAt time.Time
	DeletedAt time.Time
}

// Scope is something a credential may do.
type Scope string

// The scopes.
const (
	// ScopeSend accepts e-mails, previews them and uploads files for them.
	ScopeSend Scope = "emails:send"
	// ScopeRead reads e-mails, their events, attempts and counts.
	ScopeRead Scope = "emails:read"
	// ScopeManage steers and deletes e-mails.
	ScopeManage Scope = "emails:manage"
	// ScopeWebhooks manages webhook endpoints, which get the events of mail from then on.
	// To have past events sent, or to move an endpoint with what waits for it, it takes
	// ScopeRead besides.
	ScopeWebhooks Scope = "webhooks"
	// ScopeDomains manages sender domains: it adds and deletes them, has them verified and their
	// DKIM keys replaced.
	ScopeDomains Scope = "domains"
	// ScopeSuppressions reads and changes the suppression list.
	ScopeSuppressions Scope = "suppressions"
	// ScopeIgnoreSuppressions has e-mails sent to addresses on the suppression list, besides ScopeSend.
	ScopeIgnoreSuppressions Scope = "suppressions:ignore"
	// ScopeMailboxes reads received mail.
	ScopeMailboxes Scope = "mailboxes"
	// ScopeAdmin is the operator's: everything, for the whole installation.
	ScopeAdmin Scope = "admin"
)

// Scopes lists them.
func Scopes() []Scope {
	return []Scope{ScopeSend, ScopeRead, ScopeManage, ScopeWebhooks, ScopeDomains, ScopeSuppressions, ScopeIgnoreSuppressions, ScopeMailboxes, ScopeAdmin}
}

// Grant is what a credential stands for.
type Grant struct {
	Customer Customer
	// Actor names the key or the user, for the audit and for limits.
	Actor string
	// UserID is empty for a key. TokenVersion is the user's: a login token with another
	// one has ended.
	UserID       string
	TokenVersion int
	// Scopes, SenderDomains and Networks are the key's; none for a user.
	Scopes        []Scope
	SenderDomains []string
	Networks      []netip.Prefix
	// ExpiresAt is the key's end; zero for a user, and for a key that has none.
	ExpiresAt time.Time
}

// Admin reports whether it may act for the whole installation.
func (g Grant) Admin() bool { return slices.Contains(g.Scopes, ScopeAdmin) }

// Full reports whether it may do all that its customer may: make keys, above all,
// which would be a way out of any restriction.
func (g Grant) Full() bool {
	return (len(g.Scopes) == 0 || g.Admin()) && len(g.SenderDomains) == 0 && len(g.Networks) == 0
}

// May reports whether it may do something.
func (g Grant) May(s Scope) bool {
	return g.Admin() || s != ScopeAdmin && (len(g.Scopes) == 0 || slices.Contains(g.Scopes, s))
}

// MaySendFrom reports whether it may send from a domain.
func (g Grant) MaySendFrom(domain string) bool {
	return len(g.SenderDomains) == 0 || slices.Contains(g.SenderDomains, strings.ToLower(domain))
}

// MayComeFrom reports whether it may be used from an address.
func (g Grant) MayComeFrom(ip netip.Addr) bool {
	return len(g.Networks) == 0 || slices.ContainsFunc(g.Networks, func(p netip.Prefix) bool { return p.Contains(ip.Unmap()) })
}

// Exceeded names the first member of a key that allows more than this credential does,
// and says why. An empty member means that the credential allows all that the key does.
// It is the one rule of giving and taking: a credential makes, renews and ends only keys
// that it covers.
func (g Grant) Exceeded(k AccessKey) (member, why string) {
	if len(k.Scopes) == 0 && len(g.Scopes) > 0 && !g.Admin() {
		return "scopes", "a key without scopes may do more than this credential: name scopes that this credential has"
	}
	for _, s := range k.Scopes {
		if !g.May(s) {
			return "scopes", "this credential lacks the scope " + string(s)
		}
	}
	if len(g.SenderDomains) > 0 && (len(k.SenderDomains) == 0 || slices.ContainsFunc(k.SenderDomains, func(d string) bool { return !g.MaySendFrom(d) })) {
		return "sender_domains", "this credential sends only from " + strings.Join(g.SenderDomains, ", ")
	}
	if len(g.Networks) > 0 && (len(k.Networks) == 0 || slices.ContainsFunc(k.Networks, func(p netip.Prefix) bool { return !g.holds(p) })) {
		return "networks", "this credential may be used only from its own networks"
	}
	if !g.ExpiresAt.IsZero() && (k.ExpiresAt.IsZero() || k.ExpiresAt.After(g.ExpiresAt)) {
		return "expire", "this credential ends at " + g.ExpiresAt.UTC().Format(time.RFC3339)
	}
	return "", ""
}

// holds reports whether all addresses of a network are in one of the credential's.
func (g Grant) holds(n netip.Prefix) bool {
	n = unmapped(n)
	return slices.ContainsFunc(g.Networks, func(own netip.Prefix) bool {
		own = unmapped(own)
		return own.Bits() <= n.Bits() && own.Contains(n.Addr())
	})
}

// unmapped writes a network of IPv4-mapped IPv6 addresses as the IPv4 network that it is.
func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

// Domain is a domain that a customer sends from.
type Domain struct {
	ID         string
	CustomerID string
	Name       string
	// VerifiedAt is zero while the domain is not verified to be the customer's.
	VerifiedAt time.Time
	Warmup     Warmup
	CreatedAt  time.Time
}

// tokenPrefix marks an access key's token: it cannot be a JWT, and secret scanners
// find it.
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
