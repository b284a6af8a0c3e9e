// Package unsubscribe has the links by which recipients unsubscribe with one click (RFC 8058).
//
//  1. link.go makes the link of an e-mail, and reads its token.
//  2. placeholder.go is {{unsubscribe_url}}, for which a message gets its link.
//  3. page.go is what a person sees who opens the link.
package unsubscribe

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"net"
	"net/url"
	"strings"

	"github.com/google/uuid"
)

// Path is what stands between the base of the links and a token.
const Path = "/u/"

// MaxBaseBytes limits a base, so that a header line has room for a link (RFC 5322 section 2.1.1).
const MaxBaseBytes = 800

// IsBase reports whether links may begin with the address of an API: RFC 8058 section 3.1 asks for https.
// loopback allows http on a loopback address too, which only programs of the same machine reach.
func IsBase(address string, loopback bool) bool {
	u, err := url.Parse(address)
	if err != nil || len(address) > MaxBaseBytes || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	if strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>"\`, r) }) {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "https" || loopback && u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

// SecretBytes is the length of the secret of Links.
const SecretBytes = 32

// Links makes links, and finds out whose they are. The zero value knows none.
type Links struct{ secret []byte }

// NewLinks returns the links of an installation, which has one secret of SecretBytes.
func NewLinks(secret []byte) Links { return Links{secret} }

// idBytes and macBytes are the parts of a token: an e-mail's id, and an HMAC-SHA-256 of it that is cut
// to 80 bits.
const (
	idBytes  = 16
	macBytes = 10
)

// tokens are 42 lower-case letters and digits: programs that find links in a text take all of them, and
// servers that change their case do no harm.
var tokens = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Token is the token of an e-mail. It does not contain the recipient's address.
func (l Links) Token(emailID string) string {
	id, err := uuid.Parse(emailID)
	if err != nil || len(l.secret) == 0 {
		return ""
	}
	return tokens.EncodeToString(append(id[:], l.mac("unsubscribe", id[:])...))
}

// EmailOf is the id of the e-mail that a token was made for. ok is false for a token that this
// installation has not made.
func (l Links) EmailOf(token string) (emailID string, ok bool) {
	raw, err := tokens.DecodeString(strings.ToLower(token))
	if err != nil || len(raw) != idBytes+macBytes || len(l.secret) == 0 || tokens.EncodeToString(raw) != strings.ToLower(token) {
		return "", false
	}
	if subtle.ConstantTimeCompare(raw[idBytes:], l.mac("unsubscribe", raw[:idBytes])) != 1 {
		return "", false
	}
	return uuid.UUID(raw[:idBytes]).String(), true
}

func (l Links) mac(purpose string, message []byte) []byte {
	mac := hmac.New(sha256.New, l.secret)
	mac.Write([]byte(purpose + "\x00"))
	mac.Write(message)
	return mac.Sum(nil)[:macBytes]
}

// URL is an e-mail's link.
func (l Links) URL(base, emailID string) string { return base + Path + l.Token(emailID) }

// FeedbackID is the value of the header field by which Gmail's Postmaster Tools tell the complaints about
// mail apart: what the mail is, whose, and the sender's id, which has 5 to 15 characters.
func (l Links) FeedbackID(topic, stream, customerID string) string {
	return list(topic, stream) + ":" + customerID + ":" + tokens.EncodeToString(l.mac("sender", nil))[:senderIDBytes]
}

const senderIDBytes = 12

// ListID is the value of List-Id (RFC 2919) for the mail of a topic, or of a stream, from a domain.
func ListID(topic, stream, domain string) string {
	return "<" + list(topic, stream) + ".list." + domain + ">"
}

func list(topic, stream string) string {
	if topic != "" {
		return topic
	}
	return stream
}

// Preview stands for Links where an e-mail has no id yet: its links have the right length and lead nowhere.
var Preview = Links{make([]byte, SecretBytes)}
