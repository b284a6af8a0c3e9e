package senderdomain

import (
	"fmt"
	"strings"

	"github.com/postrider/postrider/internal/dnslookup"
)

// Kind is what a record is for.
type Kind string

const (
	// DKIM publishes a key that signatures are verified with.
	DKIM Kind = "DKIM"
	// ReturnPath leads bounces to the installation. The SPF record at its target holds for it too.
	ReturnPath Kind = "ReturnPath"
	// DMARC says what receivers do with mail that is not authenticated. Any record that has
	// a policy will do.
	DMARC Kind = "DMARC"
)

// Status is what a check says of one record.
type Status string

const (
	// NotStarted is before the first check.
	NotStarted Status = "not_started"
	// Pending says that the record is missing, or not at all name servers yet.
	Pending Status = "pending"
	// Verified says that the record is as it has to be.
	Verified Status = "verified"
	// Failed says that the DNS has something that a person has to correct.
	Failed Status = "failed"
	// TemporaryFailure says that the DNS gave no usable answer.
	TemporaryFailure Status = "temporary_failure"
)

// Record is one DNS record that a domain needs, and what the last check said of it.
type Record struct {
	Kind Kind
	// Required says that the domain is not verified without it.
	Required bool
	Type     dnslookup.Type
	// Name is relative to the sender domain, FQDN the whole name without a final dot.
	Name, FQDN string
	// Value is on one line, ZoneFile the record as a zone file has it.
	Value, ZoneFile string
	// TTL is "Auto": any will do.
	TTL string

	Status Status
	// Found is what the DNS has in place of the record, or as the record: at most 10 values of
	// 1024 bytes, in valid UTF-8 without NUL.
	Found []string
	// Problem and Remedy are empty if the record is verified, or not checked yet.
	Problem Problem
	Remedy  string
}

// isMissed reports whether a check has found the record missing or wrong, at all name servers.
func (r Record) isMissed() bool {
	return r.Problem != "" && r.Problem != Unavailable && r.Problem != NotOnAllServers
}

// Key is a DKIM key as it is published. The zero value is no key.
type Key struct {
	Selector string
	// Value is the text of the TXT record.
	Value string
}

// Needs is what the records of a domain depend on.
type Needs struct {
	Domain string
	// RSA and Ed25519 are our keys. Without RSA, a relay signs.
	RSA, Ed25519 Key
	// BounceHost receives the installation's bounces: a name in lower case without a final
	// dot. Empty leaves the return path out, and so does a host in the domain itself.
	BounceHost string
}

// Records lists the records that a domain needs, none of them checked yet.
func Records(n Needs) []Record {
	var out []Record
	add := func(kind Kind, required bool, typ dnslookup.Type, name, value string) {
		r := Record{
			Kind: kind, Required: required, Type: typ, Name: name, FQDN: name + "." + n.Domain,
			Value: value, TTL: "Auto", Status: NotStarted,
		}
		r.ZoneFile = zoneFile(r)
		out = append(out, r)
	}
	if n.RSA.Selector != "" {
		add(DKIM, true, dnslookup.TXT, n.RSA.Selector+"._domainkey", n.RSA.Value)
	}
	if n.Ed25519.Selector != "" {
		add(DKIM, false, dnslookup.TXT, n.Ed25519.Selector+"._domainkey", n.Ed25519.Value)
	}
	if n.BounceHost != "" && !within(n.BounceHost, n.Domain) {
		add(ReturnPath, false, dnslookup.CNAME, "bounce", n.BounceHost)
	}
	add(DMARC, false, dnslookup.TXT, "_dmarc", "v=DMARC1; p=none")
	return out
}

// within reports whether a name is a domain or below it. An installation's host for bounces that is in the
// domain needs no record of the domain's own: it has an MX record, which no CNAME may stand beside.
func within(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// BounceHost is the domain's own host of return paths after a check: the name of the record for it, empty
// if that is missing or wrong. A check that does not know leaves it as it was.
func BounceHost(records []Record, was string) string {
	for _, r := range records {
		switch {
		case r.Kind != ReturnPath:
		case r.Status == Verified:
			return r.FQDN
		case r.Status == TemporaryFailure, r.Problem == NotOnAllServers:
			return was
		}
	}
	return ""
}

// zoneFile writes a record with its whole name, so that it is right in any zone.
func zoneFile(r Record) string {
	value := r.Value + "."
	if r.Type == dnslookup.TXT {
		value = quoted(r.Value)
	}
	return fmt.Sprintf("%s. IN %s %s", r.FQDN, r.Type, value)
}

// maxString is the largest string of a TXT record, in octets (RFC 1035, section 3.3).
const maxString = 255

// quoted writes a text as the strings of a TXT record (RFC 1035, sections 3.3.14 and 5.1).
func quoted(text string) string {
	var parts []string
	for len(text) > maxString {
		parts = append(parts, text[:maxString])
		text = text[maxString:]
	}
	parts = append(parts, text)
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	for i, part := range parts {
		parts[i] = `"` + escape.Replace(part) + `"`
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return "( " + strings.Join(parts, " ") + " )"
}
