package senderdomain

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is why a record is not verified. The codes are published and never change.
type Problem string

const (
	// Missing says that nothing is there.
	Missing Problem = "missing"
	// NotOnAllServers says that some of the domain's name servers have the record and others
	// lack it: a secondary server with old data.
	NotOnAllServers Problem = "not_on_all_servers"
	// NameDoubled says that the record is at name.example.com.example.com.
	NameDoubled Problem = "name_doubled"
	// NameIncomplete says that the record of a subdomain is at the zone's own name.
	NameIncomplete Problem = "name_incomplete"
	// ValueMangled says that quotes, backslashes, spaces or line breaks were entered.
	ValueMangled Problem = "value_mangled"
	// ValueTruncated says that the end of a key is missing.
	ValueTruncated Problem = "value_truncated"
	// ValueDoubled says that the zone was appended to the target of a CNAME.
	ValueDoubled Problem = "value_doubled"
	// SeveralRecords says that there are several where there may be one.
	SeveralRecords Problem = "several_records"
	// Proxied says that an address is answered in place of a CNAME.
	Proxied Problem = "proxied"
	// OtherValue says that the record has another value.
	OtherValue Problem = "other_value"
	// KeyRevoked says that the key is empty.
	KeyRevoked Problem = "key_revoked"
	// WrongType says that a record of another type is in its place.
	WrongType Problem = "wrong_type"
	// Wildcard says that a wildcard record answers, because the name has no record.
	Wildcard Problem = "wildcard"
	// CNAMELoop says that CNAMEs lead in a circle.
	CNAMELoop Problem = "cname_loop"
	// Unavailable says that the DNS gave no usable answer. It says nothing of the record.
	Unavailable Problem = "dns_unavailable"
)

// remedy says what a person has to do.
func remedy(r Record, f finding) string {
	switch f.problem {
	case Missing:
		return fmt.Sprintf("Add this %s record at %s. A new record can take some minutes to appear.", r.Type, r.FQDN)
	case NotOnAllServers:
		return fmt.Sprintf("Wait: the record has not reached %s yet. If it has not after some hours, ask your DNS provider why.", strings.Join(f.servers, ", "))
	case NameDoubled, NameIncomplete:
		return fmt.Sprintf("The record is at %s. Enter its name as %q: your DNS provider appends %s.", f.elsewhere, strings.TrimSuffix(r.FQDN, "."+f.zone), f.zone)
	case ValueMangled:
		return "Enter the value on one line, without quotes and backslashes, and without spaces and line breaks inside a key."
	case ValueTruncated:
		return fmt.Sprintf("The end of the key is missing. Enter all %d characters of the value. If your DNS provider refuses it, enter it in the parts that zone_file has.", len(r.Value))
	case ValueDoubled:
		return fmt.Sprintf("Enter the value with a dot at its end: %s. Without the dot your DNS provider appends %s.", r.Value+".", f.zone)
	case SeveralRecords:
		return severalRemedy(r)
	case Proxied:
		return fmt.Sprintf("%s answers with an address. Make it a CNAME record, and turn your DNS provider's proxy off for it (\"DNS only\").", r.FQDN)
	case OtherValue:
		return otherRemedy(r, f)
	case KeyRevoked:
		return "The published key is empty, which revokes it. Enter the value shown."
	case WrongType:
		if !r.Required {
			return fmt.Sprintf("%s has other records (%s), and this %s record cannot stand beside them. If something uses them, leave them: mail is sent without this record too. Otherwise remove them, and add this record.", r.FQDN, strings.Join(f.found, ", "), r.Type)
		}
		return fmt.Sprintf("Remove what is at %s (%s), and add this %s record.", r.FQDN, strings.Join(f.found, ", "), r.Type)
	case Wildcard:
		return fmt.Sprintf("Add this %s record at %s. The answer now comes from a wildcard record, which may stay.", r.Type, r.FQDN)
	case CNAMELoop:
		return fmt.Sprintf("The CNAME records lead nowhere: %s. Remove them, and add this %s record.", strings.Join(slices.Concat([]string{r.FQDN}, f.found), " → "), r.Type)
	default:
		return fmt.Sprintf("The DNS servers gave no usable answer (%s). Postrider looks again. If this stays so, ask your DNS provider.", f.reason)
	}
}

func severalRemedy(r Record) string {
	if r.Kind == DMARC {
		return fmt.Sprintf("Keep one of the DMARC records at %s, the strictest: receivers ignore them if there are several.", r.FQDN)
	}
	return fmt.Sprintf("Keep the record with the value shown at %s, and remove the others.", r.FQDN)
}

func otherRemedy(r Record, f finding) string {
	switch {
	case r.Kind == DMARC:
		return fmt.Sprintf("The DMARC record at %s is not valid: %s.", r.FQDN, dmarcFault(oneDMARC(f.found)))
	case r.Kind == DKIM && len(f.found) == 1 && dkimFault(r.Value, f.found[0]) != "":
		return fmt.Sprintf("The record at %s has the right key, but %s. Replace its value with the value shown.", r.FQDN, dkimFault(r.Value, f.found[0]))
	}
	return fmt.Sprintf("Replace the value at %s with the value shown.", r.FQDN)
}
