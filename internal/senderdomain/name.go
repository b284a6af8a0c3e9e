package senderdomain

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// The limits of RFC 1035, section 2.3.4, of names as they are written.
const (
	maxName  = 253
	maxLabel = 63
	// maxDomain leaves room for the longest name of a record, as pr10000r._domainkey.
	maxDomain = maxName - 20
)

// NameProblem is what is wrong with the name of a domain.
type NameProblem string

// The problems of names.
const (
	NameEmpty        NameProblem = "empty"
	NameEmail        NameProblem = "email_address"
	NameURL          NameProblem = "url"
	NameIP           NameProblem = "ip_address"
	NameLocalhost    NameProblem = "localhost"
	NameSingleLabel  NameProblem = "single_label"
	NameUnderscore   NameProblem = "underscore"
	NameWildcard     NameProblem = "wildcard"
	NameTooLong      NameProblem = "too_long"
	NameLabelTooLong NameProblem = "label_too_long"
	NameInvalid      NameProblem = "invalid"
	NamePublicSuffix NameProblem = "public_suffix"
)

// NameError says why a name is not a sender domain, and what to give instead.
type NameError struct {
	Problem NameProblem
	// Text is for people.
	Text string
}

func (e *NameError) Error() string { return e.Text }

func badName(p NameProblem, format string, args ...any) error {
	return &NameError{Problem: p, Text: fmt.Sprintf(format, args...)}
}

// Parse returns the domain in lower case, with its labels in ASCII (A-labels, RFC 5890).
// It removes spaces around the name and a final dot. The error is a *NameError.
func Parse(text string) (string, error) {
	name := strings.TrimSpace(text)
	for _, dot := range []string{".", "。", "．", "｡"} { // all of them separate labels (RFC 3490, section 3.1)
		if before, ok := strings.CutSuffix(name, dot); ok {
			name = before
			break
		}
	}
	if err := checkKind(name); err != nil {
		return "", err
	}
	// Longer input is not worth converting: a label in Unicode is at most 63 characters.
	if len(name) > 4*maxName {
		return "", badName(NameTooLong, "the domain has %d bytes, limit %d characters", len(name), maxName)
	}
	ascii, err := idna.Lookup.ToASCII(name)
	if err != nil || !utf8.ValidString(name) {
		return "", badName(NameInvalid, "%q is not a domain: give letters, digits, hyphens and dots, as example.com", name)
	}
	if len(ascii) > maxDomain {
		return "", badName(NameTooLong, "the domain has %d characters, limit %d: the names of its records are longer, and have 253 at most", len(ascii), maxDomain)
	}
	labels := strings.Split(ascii, ".")
	for _, label := range labels {
		if label == "" {
			return "", badName(NameInvalid, "%q has two dots in a row, or one at its beginning", name)
		}
		if len(label) > maxLabel {
			return "", badName(NameLabelTooLong, "the part %q of the domain has %d characters, limit %d", label, len(label), maxLabel)
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return "", badName(NameIP, "%s is an IP address: give a domain, as example.com", ascii) // or looks like one: no top-level domain is a number
	}
	switch suffix, listed := publicsuffix.PublicSuffix(ascii); {
	case labels[len(labels)-1] == "localhost":
		return "", badName(NameLocalhost, "localhost is not reachable from outside: give a domain that is registered, as example.com")
	case len(labels) == 1 && !listed:
		return "", badName(NameSingleLabel, "%q has no dot: give the whole domain, as %s.com", name, ascii)
	case suffix == ascii:
		return "", badName(NamePublicSuffix, "anyone can register names below %s: give your own, as example.%s", ascii, ascii)
	}
	return ascii, nil
}

// checkKind refuses what is not a domain at all.
func checkKind(name string) error {
	lower := strings.ToLower(name)
	rest, isURL := lower, false
	if _, after, ok := strings.Cut(lower, "://"); ok {
		rest, isURL = after, true
	}
	host, _, hasPath := strings.Cut(rest, "/")
	at := strings.LastIndexByte(host, '@')
	bracketed := strings.Trim(name, "[]")
	switch _, err := netip.ParseAddr(bracketed); {
	case name == "":
		return badName(NameEmpty, "give a domain, as example.com")
	case err == nil:
		return badName(NameIP, "%s is an IP address: give a domain, as example.com", bracketed)
	case isURL || hasPath:
		host, _, _ = strings.Cut(host[at+1:], ":")
		return badName(NameURL, "this is a web address: give its domain only%s", suggestion(host))
	case at >= 0:
		return badName(NameEmail, "this is an e-mail address: give what follows the @%s", suggestion(host[at+1:]))
	case strings.Contains(name, ":"):
		host, _, _ = strings.Cut(host, ":")
		return badName(NameURL, "give the domain without a port%s", suggestion(host))
	case strings.Contains(name, "*"):
		return badName(NameWildcard, "a sender domain has no wildcard: give one domain, as example.com")
	case strings.Contains(name, "_"):
		return badName(NameUnderscore, "a sender domain has no underscore: give the domain itself, not the name of a record, as example.com")
	}
	return nil
}

func suggestion(host string) string {
	host = strings.Trim(host, " >.")
	if host == "" || len(host) > maxName {
		return ", as example.com"
	}
	return ", here " + host
}
