package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Algorithm is the kind of a key. Its value is the tag k= of the DNS record, and with
// "-sha256" behind it the tag a= of a signature.
type Algorithm string

const (
	// RSA keys have 2048 bits. All verifiers know them. A signature takes about 1 ms.
	RSA Algorithm = "rsa"
	// Ed25519 keys (RFC 8463) sign faster, in a shorter field. Many verifiers do not know them and
	// ignore the signature, so they stand beside an RSA key.
	Ed25519 Algorithm = "ed25519"
)

const (
	generatedBits = 2048
	// minBits is the smallest RSA key that may sign (RFC 8301 section 3.2).
	minBits = 1024
)

// PrivateKey is a key pair. It prints as [redacted]. The zero value has no key and signs nothing.
type PrivateKey struct {
	// pair is a pointer: fmt calls no methods on an unexported field of another struct, and
	// prints the pointer there.
	pair *pair
}

type pair struct {
	algorithm Algorithm
	signer    crypto.Signer
	pkcs8     []byte
	// public are the bytes of the tag p=: a SubjectPublicKeyInfo for RSA (RFC 6376 section
	// 3.6.1), the 32 bytes of the key for Ed25519 (RFC 8463 section 4.2).
	public []byte
}

// GenerateKey makes a new key pair. RSA takes up to a second. The error names an algorithm that
// does not exist.
func GenerateKey(a Algorithm) (PrivateKey, error) {
	switch a {
	case RSA:
		key, err := rsa.GenerateKey(rand.Reader, generatedBits)
		if err != nil {
			return PrivateKey{}, fmt.Errorf("generate RSA key: %w", err)
		}
		return newPrivateKey(key)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return PrivateKey{}, fmt.Errorf("generate Ed25519 key: %w", err)
		}
		return newPrivateKey(key)
	}
	return PrivateKey{}, fmt.Errorf("no DKIM algorithm %q: choose %s or %s", a, RSA, Ed25519)
}

// ParsePrivateKey reads the bytes of PKCS8. The error does not hold any of them.
func ParsePrivateKey(der []byte) (PrivateKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return PrivateKey{}, errors.New("the DKIM key is not PKCS#8 DER: it was changed, or opened with another secret key")
	}
	return newPrivateKey(key)
}

func newPrivateKey(key any) (PrivateKey, error) {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("encode DKIM key: %w", err)
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if bits := key.N.BitLen(); bits < minBits {
			return PrivateKey{}, fmt.Errorf("the RSA key has %d bits, the least is %d (RFC 8301): generate a new one", bits, minBits)
		}
		public, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			return PrivateKey{}, fmt.Errorf("encode public DKIM key: %w", err)
		}
		return PrivateKey{&pair{RSA, key, pkcs8, public}}, nil
	case ed25519.PrivateKey:
		return PrivateKey{&pair{Ed25519, key, pkcs8, key[ed25519.SeedSize:]}}, nil
	}
	return PrivateKey{}, fmt.Errorf("a key of type %T cannot sign: DKIM has RSA and Ed25519", key)
}

// PKCS8 is the key in DER (RFC 5958), not encrypted. The caller seals it and does not change it.
func (k PrivateKey) PKCS8() []byte { return k.pair.pkcs8 }

// Algorithm is empty if there is no key.
func (k PrivateKey) Algorithm() Algorithm {
	if k.pair == nil {
		return ""
	}
	return k.pair.algorithm
}

const redacted = "[redacted]"

func (PrivateKey) Format(f fmt.State, _ rune) {
	io.WriteString(f, redacted) //nolint:errcheck // fmt's buffer takes everything
}
func (PrivateKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (PrivateKey) LogValue() slog.Value         { return slog.StringValue(redacted) }

// sign signs a SHA-256 sum. The same sum has always the same signature.
func (p *pair) sign(sum []byte) ([]byte, error) {
	hash := crypto.SHA256
	if p.algorithm == Ed25519 {
		hash = 0 // PureEdDSA over the sum (RFC 8463 section 3)
	}
	return p.signer.Sign(rand.Reader, sum, hash)
}

// Key is a key pair with the place where its public key is published.
type Key struct {
	// Domain is the tag d=, at least two labels. An internationalised name is in A-labels (xn--…).
	Domain string
	// Selector is the tag s=: one label or more, in ASCII.
	Selector string
	Private  PrivateKey
}

// RecordName is the name of the TXT record, without a dot at its end (RFC 6376 section 3.6.2.1).
func (k Key) RecordName() string { return k.Selector + "._domainkey." + k.Domain }

// maxNameBytes is the longest name in DNS, without a dot at its end (RFC 1035 section 2.3.4).
const maxNameBytes = 253

func (k Key) check() error {
	name := k.RecordName()
	switch {
	case k.Private.pair == nil:
		return errors.New("there is no private key: generate or parse one")
	case !hostName(k.Domain) || !strings.Contains(k.Domain, "."):
		return fmt.Errorf("domain %q has to be two labels or more of letters, digits and hyphens: write other letters as A-labels (xn--…)", k.Domain)
	case !hostName(k.Selector):
		return fmt.Errorf("selector %q has to be labels of letters, digits and hyphens", k.Selector)
	case len(name) > maxNameBytes:
		return fmt.Errorf("record name %s has %d bytes, limit %d: choose a shorter selector", name, len(name), maxNameBytes)
	}
	return nil
}

// hostName reports whether all labels of a name are as RFC 5321 section 4.1.2 has them (sub-domain).
func hostName(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !alphanumeric(c) && c != '-' {
				return false
			}
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
