package dnslookup

import (
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Type is a record type that the client can read.
type Type string

// The record types.
const (
	TXT   Type = "TXT"
	CNAME Type = "CNAME"
	MX    Type = "MX"
	A     Type = "A"
	AAAA  Type = "AAAA"
)

// Outcome is what a lookup has found out.
type Outcome string

const (
	// Found says that there are records.
	Found Outcome = "found"
	// NoSuchName says that nothing exists at the name, nor below it (NXDOMAIN). With a
	// chain it speaks of the name at the chain's end.
	NoSuchName Outcome = "no_such_name"
	// NoSuchRecord says that the name exists without a record of this type (NODATA), or
	// that its CNAMEs lead nowhere (see Answer.Loop).
	NoSuchRecord Outcome = "no_such_record"
	// TemporaryFailure says that no server gave a usable answer. It does not say that
	// the record is missing.
	TemporaryFailure Outcome = "temporary_failure"
)

// Answer is the result of one lookup. Its names are in lower case, without a final dot.
type Answer struct {
	Name    string
	Type    Type
	Outcome Outcome
	// Reason says for people why there are no records. Empty with Found.
	Reason string
	// Records are those at the name, or at the end of its CNAMEs.
	Records []Record
	// Chain are the targets of the CNAMEs that were followed, in order. Empty if the name
	// has no CNAME, and in a lookup of type CNAME.
	Chain []string
	// Loop says that the CNAMEs lead in a circle, or are more than eight.
	Loop bool
	// Zone is the zone that the name is in. Empty if no authoritative server answered.
	Zone string
	// Server is who answered for the name: "ns1.example.com (192.0.2.1)", or host:port of a
	// recursive server. After a failure it is the server that failed, or empty.
	Server string
	// Authoritative says that Server is one of the zone's name servers.
	Authoritative bool
}

// Definite reports whether the answer says what the DNS has, be it nothing.
func (a Answer) Definite() bool { return a.Outcome != TemporaryFailure }

// Values are the values of the records.
func (a Answer) Values() []string {
	var out []string
	for _, r := range a.Records {
		out = append(out, r.Value)
	}
	return out
}

// Record is one record of an answer.
type Record struct {
	// Value is the text of a TXT record, the target of a CNAME or MX record, or an address.
	// The strings of a TXT record are joined (RFC 1035, section 3.3.14).
	Value string
	// Priority is the preference of an MX record.
	Priority uint16
	TTL      time.Duration
}

// recordsAt are the records of a type at a name.
func recordsAt(m *dns.Msg, name string, typ Type) []Record {
	var out []Record
	for _, rr := range m.Answer {
		h := rr.Header()
		if h.Rrtype != dns.StringToType[string(typ)] || dns.CanonicalName(h.Name) != name {
			continue
		}
		r := Record{TTL: time.Duration(h.Ttl) * time.Second}
		switch rr := rr.(type) {
		case *dns.TXT:
			r.Value = unescape(strings.Join(rr.Txt, ""))
		case *dns.CNAME:
			r.Value = plain(rr.Target)
		case *dns.MX:
			r.Value, r.Priority = plain(rr.Mx), rr.Preference
		case *dns.A:
			r.Value = rr.A.String()
		case *dns.AAAA:
			r.Value = rr.AAAA.String()
		}
		out = append(out, r)
	}
	return out
}

// targetAt is where the CNAME at a name leads.
func targetAt(m *dns.Msg, name string) (target string, ok bool) {
	for _, rr := range m.Answer {
		if c, ok := rr.(*dns.CNAME); ok && dns.CanonicalName(c.Hdr.Name) == name {
			return dns.CanonicalName(c.Target), true
		}
	}
	return "", false
}

// plain is a name in lower case without the final dot.
func plain(name string) string { return strings.TrimSuffix(dns.CanonicalName(name), ".") }

// unescape undoes the escapes that the dns package writes into texts: \DDD for an
// octet, and a backslash before a character.
func unescape(text string) string {
	if !strings.Contains(text, `\`) {
		return text
	}
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		rest := text[i+1:]
		switch {
		case text[i] != '\\' || rest == "":
			out.WriteByte(text[i])
		case len(rest) >= 3 && isDigit(rest[0]) && isDigit(rest[1]) && isDigit(rest[2]):
			out.WriteByte((rest[0]-'0')*100 + (rest[1]-'0')*10 + rest[2] - '0')
			i += 3
		default:
			out.WriteByte(rest[0])
			i++
		}
	}
	return out.String()
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }
