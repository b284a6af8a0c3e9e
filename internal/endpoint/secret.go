package endpoint

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
)

// Sizes of a secret's key, in bytes, as Standard Webhooks 1.0 bounds them.
const (
	secretPrefix   = "whsec_"
	secretBytes    = 32
	minSecretBytes = 24
	maxSecretBytes = 64

	redacted = "[redacted]"
)

// Secret signs deliveries. Printing, logging or encoding it shows [redacted];
// only Reveal and Key show it. The zero value signs nothing.
type Secret struct {
	// key sits behind two pointers: fmt calls no method of a value in an unexported
	// field. It follows one pointer when the verb does not fit.
	key **[]byte
	// ValidUntil is when it stops signing; zero means never.
	ValidUntil time.Time
}

func secretOf(key []byte) Secret {
	p := &key
	return Secret{key: &p}
}

// NewSecret makes a secret of 32 random bytes.
func NewSecret() (Secret, error) {
	key := make([]byte, secretBytes)
	if _, err := rand.Read(key); err != nil {
		return Secret{}, fmt.Errorf("make a webhook secret: %w", err)
	}
	return secretOf(key), nil
}

// ParseSecret reads "whsec_" and the base64 of 24 to 64 bytes. Its errors do
// not repeat what they were given.
func ParseSecret(s string) (Secret, error) {
	encoded, ok := strings.CutPrefix(s, secretPrefix)
	if !ok {
		return Secret{}, errors.New("a webhook secret begins with " + secretPrefix)
	}
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return Secret{}, errors.New("a webhook secret is base64 behind " + secretPrefix)
	}
	if len(key) < minSecretBytes || len(key) > maxSecretBytes {
		return Secret{}, fmt.Errorf("a webhook secret of %d bytes, allowed are %d to %d", len(key), minSecretBytes, maxSecretBytes)
	}
	return secretOf(key), nil
}

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.key == nil || len(**s.key) == 0 }

// Key is what the HMAC is keyed with: the decoded bytes, not the text.
func (s Secret) Key() []byte {
	if s.IsZero() {
		return nil
	}
	return append([]byte(nil), **s.key...)
}

// Reveal is the secret's text, for its owner and for sealing; empty for the
// zero value.
func (s Secret) Reveal() string {
	if s.IsZero() {
		return ""
	}
	return secretPrefix + base64.StdEncoding.EncodeToString(**s.key)
}

// String hides the secret.
func (s Secret) String() string { return redacted }

// Format hides the secret from every verb.
func (s Secret) Format(f fmt.State, _ rune) {
	// A fmt.State passes errors on to the caller of Fprintf by itself.
	_, _ = io.WriteString(f, redacted)
}

// LogValue hides the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON hides the secret.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
