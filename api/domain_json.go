package api

import (
	"slices"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/senderdomain"
)

// senderDomainEntry is a domain in a list.
type senderDomainEntry struct {
	ID          string                    `json:"id"`
	Name        string                    `json:"name"`
	Status      senderdomain.DomainStatus `json:"status"`
	StatusSince *string                   `json:"status_since"`
	// VerifiedAt and VerifiedBy are null while the customer may not send from the domain.
	VerifiedAt *string                `json:"verified_at"`
	VerifiedBy *senderdomain.Verifier `json:"verified_by"`
	// BlockedBy says why the domain is not verified although its records are right.
	BlockedBy   *senderdomain.Blocker `json:"blocked_by"`
	CheckedAt   *string               `json:"checked_at"`
	NextCheckAt *string               `json:"next_check_at"`
	CreatedAt   *string               `json:"created_at"`
}

type senderDomainAnswer struct {
	senderDomainEntry
	Records []dnsRecordJSON `json:"records"`
	Keys    []dkimKeyJSON   `json:"keys"`
	// Authentication has an element for each relay.
	Authentication []authenticationJSON `json:"authentication"`
}

// authenticationJSON says what receivers will find of mail through a relay.
type authenticationJSON struct {
	// Relay is null before the first check of the domain.
	Relay *string     `json:"relay"`
	SPF   verdictJSON `json:"spf"`
	DKIM  verdictJSON `json:"dkim"`
	DMARC verdictJSON `json:"dmarc"`
}

type verdictJSON struct {
	Result  senderdomain.AuthResult `json:"result"`
	Domain  string                  `json:"domain"`
	Aligned bool                    `json:"aligned"`
	Reason  string                  `json:"reason"`
}

// authentication says it for the relays that take a stream; empty is any.
func authentication(d senderdomain.Domain, stream email.Stream) []authenticationJSON {
	out := []authenticationJSON{}
	for _, a := range senderdomain.Authenticate(d) {
		if stream == "" || len(a.Streams) == 0 || slices.Contains(a.Streams, string(stream)) {
			out = append(out, authenticationJSON{orNull(a.Relay), verdictJSON(a.SPF), verdictJSON(a.DKIM), verdictJSON(a.DMARC)})
		}
	}
	return out
}

// dnsRecordJSON has the member names of other services, so that their users know them.
type dnsRecordJSON struct {
	Record   senderdomain.Kind `json:"record"`
	Required bool              `json:"required"`
	Type     string            `json:"type"`
	// Name is relative to the domain. FQDN is the whole name.
	Name string `json:"name"`
	FQDN string `json:"fqdn"`
	// Value is on one line. ZoneFile is the record as a line of a zone file.
	Value    string `json:"value"`
	ZoneFile string `json:"zone_file"`
	TTL      string `json:"ttl"`
	// Priority is that of an MX record. No record is one, so it is null.
	Priority *int                `json:"priority"`
	Status   senderdomain.Status `json:"status"`
	Found    []string            `json:"found"`
	// Problem and Remedy are null if the record is verified, or not checked yet.
	Problem *senderdomain.Problem `json:"problem"`
	Remedy  *string               `json:"remedy"`
}

type dkimKeyJSON struct {
	Selector     string                `json:"selector"`
	Algorithm    string                `json:"algorithm"`
	State        senderdomain.KeyState `json:"state"`
	Since        *string               `json:"since"`
	SafeToRemove bool                  `json:"safe_to_remove"`
}

// orNull is a text as a member that is null if the text is empty.
func orNull[T ~string](text T) *T {
	if text == "" {
		return nil
	}
	return &text
}

func newSenderDomainEntry(d senderdomain.Domain) senderDomainEntry {
	return senderDomainEntry{
		ID: d.ID, Name: d.Name, Status: d.Status, StatusSince: moment(d.Since), VerifiedAt: moment(d.VerifiedAt), VerifiedBy: orNull(d.VerifiedBy),
		BlockedBy: orNull(d.BlockedBy), CheckedAt: moment(d.CheckedAt), NextCheckAt: moment(d.NextCheckAt), CreatedAt: moment(d.CreatedAt),
	}
}

func newSenderDomainAnswer(d senderdomain.Domain) senderDomainAnswer {
	out := senderDomainAnswer{senderDomainEntry: newSenderDomainEntry(d), Records: []dnsRecordJSON{}, Keys: []dkimKeyJSON{}, Authentication: authentication(d, "")}
	for _, r := range d.Records {
		out.Records = append(out.Records, dnsRecordJSON{
			Record: r.Kind, Required: r.Required, Type: string(r.Type), Name: r.Name, FQDN: r.FQDN, Value: r.Value, ZoneFile: r.ZoneFile, TTL: r.TTL,
			Status: r.Status, Found: append([]string{}, r.Found...), Problem: orNull(r.Problem), Remedy: orNull(r.Remedy),
		})
	}
	for _, k := range d.Keys {
		out.Keys = append(out.Keys, dkimKeyJSON{k.Selector, k.Algorithm, k.State, moment(k.Since), k.SafeToRemove()})
	}
	return out
}
