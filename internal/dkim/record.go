package dkim

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

// Record is the value of the TXT record that publishes the key (RFC 6376 section 3.6.1): some 410
// bytes for RSA. One string of a TXT record has 255 bytes at most, so it is published in several.
func (k PrivateKey) Record() string {
	return "v=DKIM1; k=" + string(k.pair.algorithm) + "; p=" + base64.StdEncoding.EncodeToString(k.pair.public)
}

// Problem is what is wrong with a published record. Only with Spaces and Testing may verifiers
// accept signatures all the same.
type Problem string

const (
	// Quotes says that a quotation mark or backslash is part of the value: they belong to the
	// notation of zone files.
	Quotes Problem = "quotes"
	// NotDKIM says that v= is not DKIM1, or not the first tag. A record may lack v=.
	NotDKIM Problem = "not_dkim"
	// Unparsable says that the record is no list of tags, or that p= is no key of this algorithm.
	Unparsable Problem = "unparsable"
	// MissingKey says that there is no p=.
	MissingKey Problem = "missing_key"
	// Revoked says that p= is empty: the owner has withdrawn the key.
	Revoked Problem = "revoked"
	// WrongAlgorithm says that k= is not the key's.
	WrongAlgorithm Problem = "wrong_algorithm"
	// OtherKey says that p= is a different key of the same algorithm.
	OtherKey Problem = "other_key"
	// Excluded says that h= leaves out sha256, or s= leaves out email.
	Excluded Problem = "excluded"
	// Spaces says that p= is the key with white space in it, which some verifiers do not skip.
	Spaces Problem = "spaces"
	// Testing says that t=y is set: some verifiers ignore signatures of the domain.
	Testing Problem = "testing"
)

// RecordError is why a published record is not good for a key.
type RecordError struct {
	Problem Problem
	// Found is what is there, a short part of the record in quotes.
	Found string
	// Remedy is what the owner of the domain has to do, as a sentence without a full stop.
	Remedy string
}

func (e *RecordError) Error() string { return "the DKIM record has " + e.Found + ": " + e.Remedy }

const publish = "publish the value that you were given, unchanged"

func wrong(p Problem, remedy, found string, values ...any) error {
	return &RecordError{p, fmt.Sprintf(found, values...), remedy}
}

// Check compares a published TXT record, its strings joined without anything between them, with the
// key. It returns nil if verifiers take the record, else a *RecordError with the first problem.
func (k PrivateKey) Check(published string) error {
	tags, err := parseTags(published)
	if err != nil {
		return err
	}
	p, found := tags["p"]
	switch {
	case !found:
		return wrong(MissingKey, publish, "no p= tag")
	case p == "":
		return wrong(Revoked, publish+", or rotate to a new key", "an empty p=, which revokes the key")
	}
	algorithm, found := tags["k"]
	remedy := "set k=" + string(k.pair.algorithm)
	switch {
	case !found && k.pair.algorithm != RSA: // the default is rsa (RFC 6376 section 3.6.1)
		return wrong(WrongAlgorithm, remedy, "no k=, and the key is %s", k.pair.algorithm)
	case found && algorithm != string(k.pair.algorithm):
		return wrong(WrongAlgorithm, remedy, "k=%.40q, and the key is %s", algorithm, k.pair.algorithm)
	}
	if err := k.checkPublic(strings.Join(strings.Fields(p), "")); err != nil {
		return err
	}
	if hashes, found := tags["h"]; found && !listed(hashes, "sha256") {
		return wrong(Excluded, "remove h=, or add sha256 to it", "h=%.40q", hashes)
	}
	if services, found := tags["s"]; found && !listed(services, "*") && !listed(services, "email") {
		return wrong(Excluded, "remove s=, or add email to it", "s=%.40q", services)
	}
	if strings.ContainsAny(p, whiteSpace) {
		return wrong(Spaces, "remove the spaces and line breaks inside p=", "white space inside p=")
	}
	if listed(tags["t"], "y") {
		return wrong(Testing, "remove y from t=", "t=y, which says that the domain only tests DKIM")
	}
	return nil
}

// checkPublic compares p=, without white space, with the key.
func (k PrivateKey) checkPublic(p string) error {
	got, err := base64.StdEncoding.DecodeString(p)
	if err == nil && bytes.Equal(got, k.pair.public) {
		return nil
	}
	if want := base64.StdEncoding.EncodeToString(k.pair.public); strings.HasPrefix(want, p) {
		return wrong(Unparsable, publish+"; split it into strings of 255 bytes", "only %d of the %d characters of p=", len(p), len(want))
	}
	if err != nil {
		return wrong(Unparsable, publish, "p=%.40q, which is not base64", p)
	}
	if k.pair.algorithm == Ed25519 && len(got) != ed25519.PublicKeySize {
		return wrong(Unparsable, publish, "%d bytes in p=, and an Ed25519 key has %d", len(got), ed25519.PublicKeySize)
	}
	if _, err := x509.ParsePKIXPublicKey(got); k.pair.algorithm == RSA && err != nil {
		return wrong(Unparsable, publish, "p=%.40q, which is not an RSA key", p)
	}
	return wrong(OtherKey, publish+", or sign with the selector of that key", "p=%.40q, the key of another signer", p)
}

// whiteSpace may stand around names and values (RFC 6376 section 3.2).
const whiteSpace = " \t\r\n"

// parseTags reads a list of tags (RFC 6376 section 3.2). It checks v= as well, which has to be first.
func parseTags(record string) (map[string]string, error) {
	tags := map[string]string{}
	specs := strings.Split(record, ";")
	for i, spec := range specs {
		spec = strings.Trim(spec, whiteSpace)
		if spec == "" && i == len(specs)-1 {
			break
		}
		name, value, found := strings.Cut(spec, "=")
		name, value = strings.TrimRight(name, whiteSpace), strings.TrimLeft(value, whiteSpace)
		_, twice := tags[name]
		switch {
		case name != "n" && strings.ContainsAny(spec, `"\`): // n= is a note for people
			return nil, wrong(Quotes, `remove " and \ from the value`, "a quotation mark or backslash in %.40q", spec)
		case !found || !tagName(name):
			return nil, wrong(Unparsable, publish, "%.40q where a tag (name=value) should be", spec)
		case twice:
			return nil, wrong(Unparsable, publish+", in one record", "two tags %s=", name)
		case name == "v" && (i > 0 || value != "DKIM1"):
			return nil, wrong(NotDKIM, "begin the record with v=DKIM1", "v=%.40q as its tag %d", value, i+1)
		}
		tags[name] = value
	}
	return tags, nil
}

// tagName reports whether a tag may have this name (RFC 6376 section 3.2).
func tagName(s string) bool {
	for i, c := range []byte(s) {
		if !alphanumeric(c) && c != '_' || i == 0 && (c == '_' || c <= '9') {
			return false
		}
	}
	return s != ""
}

// listed reports whether a list with colons has an entry.
func listed(list, entry string) bool {
	return slices.ContainsFunc(strings.Split(list, ":"), func(s string) bool { return strings.Trim(s, whiteSpace) == entry })
}
