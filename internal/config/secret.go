package config

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

const redacted = "[redacted]"

// Secret is a text that prints as [redacted] with every fmt verb, in JSON and in slog. It is
// stored behind a pointer: fmt calls no methods on an unexported field of another struct, and
// prints the pointer there. The zero value is empty.
type Secret struct{ text *string }

// NewSecret makes a Secret.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&text}
}

// Reveal is the text itself; empty if none is set.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

func (s *Secret) UnmarshalText(text []byte) error { *s = NewSecret(string(text)); return nil }

func (Secret) Format(f fmt.State, _ rune)   { writeRedacted(f) }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }

// keyBytes is the length of a Key, which AES-256 requires.
const keyBytes = 32

// Key is 32 secret bytes. It prints as a Secret does. The zero value has no bytes.
type Key struct{ secret Secret }

// ParseKey decodes 32 bytes from hex, or from base64 of either alphabet, with or without
// padding. Its error does not contain the text.
func ParseKey(text string) (Key, error) {
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != keyBytes {
		plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
		key, err = base64.RawStdEncoding.DecodeString(plain)
	}
	if err != nil {
		return Key{}, errors.New("is neither base64 nor hex")
	}
	if len(key) != keyBytes {
		return Key{}, fmt.Errorf("has %d bytes, need %d", len(key), keyBytes)
	}
	return Key{NewSecret(string(key))}, nil
}

// Bytes is the key itself; nil if none is set.
func (k Key) Bytes() []byte {
	if k.secret.text == nil {
		return nil
	}
	return []byte(*k.secret.text)
}

func (k *Key) UnmarshalText(text []byte) (err error) { *k, err = ParseKey(string(text)); return err }

func (Key) Format(f fmt.State, _ rune)   { writeRedacted(f) }
func (Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (Key) LogValue() slog.Value         { return slog.StringValue(redacted) }

// PayloadKey is a key with the id that is in the payloads it encrypts.
type PayloadKey struct {
	ID string
	Key
}

// PayloadKeys are the keys of payloads: the first encrypts, all decrypt. They print as their
// ids.
type PayloadKeys []PayloadKey

// UnmarshalText reads id:key, separated by commas or white space.
func (ks *PayloadKeys) UnmarshalText(text []byte) error {
	*ks = nil
	for i, part := range strings.FieldsFunc(string(text), func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' }) {
		id, raw, ok := strings.Cut(part, ":")
		if !ok || !keyID.MatchString(id) {
			return fmt.Errorf("has no id before key %d: write id:key, the id of 1 to 32 letters, digits, - and _", i+1)
		}
		if slices.ContainsFunc(*ks, func(k PayloadKey) bool { return k.ID == id }) {
			return fmt.Errorf("has two keys called %s", id)
		}
		key, err := ParseKey(raw)
		if err != nil {
			return fmt.Errorf("key %s %w", id, err)
		}
		*ks = append(*ks, PayloadKey{ID: id, Key: key})
	}
	return nil
}

var keyID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// ids are the ids of the keys, separated by commas.
func (ks PayloadKeys) ids() string {
	ids := make([]string, len(ks))
	for i, k := range ks {
		ids[i] = k.ID
	}
	return strings.Join(ids, ",")
}

func (ks PayloadKeys) Format(f fmt.State, _ rune) {
	io.WriteString(f, ks.ids()) //nolint:errcheck // fmt's buffer takes everything
}
func (ks PayloadKeys) MarshalText() ([]byte, error) { return []byte(ks.ids()), nil }
func (ks PayloadKeys) LogValue() slog.Value         { return slog.StringValue(ks.ids()) }

// RelayURLs are URLs that may contain a user and a password. They print without them.
type RelayURLs []string

// UnmarshalText splits at white space, and at commas before smtp:// or smtps://. Other commas
// belong to an option's value.
func (r *RelayURLs) UnmarshalText(text []byte) error {
	*r = nil
	for _, field := range strings.Fields(string(text)) {
		field = strings.NewReplacer(",smtp://", " smtp://", ",smtps://", " smtps://").Replace(field)
		for _, raw := range strings.Fields(field) {
			if raw = strings.Trim(raw, ","); raw != "" {
				*r = append(*r, raw)
			}
		}
	}
	return nil
}

// Redacted are the URLs without users and passwords: some providers use the same token as both.
func (r RelayURLs) Redacted() []string {
	out := make([]string, len(r))
	for i, raw := range r {
		out[i] = redacted
		if u, err := url.Parse(raw); err == nil && u.Host != "" {
			if u.User != nil {
				u.User = url.User("xxxxx")
			}
			out[i] = u.String()
		}
	}
	return out
}

func (r RelayURLs) Format(f fmt.State, _ rune) {
	io.WriteString(f, strings.Join(r.Redacted(), " ")) //nolint:errcheck // fmt's buffer takes everything
}
func (r RelayURLs) MarshalText() ([]byte, error) {
	return []byte(strings.Join(r.Redacted(), " ")), nil
}
func (r RelayURLs) LogValue() slog.Value { return slog.StringValue(strings.Join(r.Redacted(), " ")) }

// maskPassword masks the password of a URL. A text that is not a URL is masked completely.
func maskPassword(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return redacted
	}
	if q := u.Query(); q.Has("password") {
		q.Set("password", "xxxxx")
		u.RawQuery = q.Encode()
	}
	return u.Redacted()
}

func writeRedacted(w io.Writer) {
	io.WriteString(w, redacted) //nolint:errcheck // fmt's buffer takes everything
}
