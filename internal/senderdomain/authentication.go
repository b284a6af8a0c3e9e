package senderdomain

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// AuthResult is what receivers will find of a way to authenticate mail.
type AuthResult string

// The results.
const (
	AuthPass AuthResult = "pass"
	AuthFail AuthResult = "fail"
	// AuthNone says that there is nothing to pass: no signature, or no record.
	AuthNone AuthResult = "none"
	// AuthUnknown says that Postrider cannot tell; the reason says what is missing for that.
	AuthUnknown AuthResult = "unknown"
)

// Verdict says whether SPF, DKIM or DMARC will pass.
type Verdict struct {
	Result AuthResult
	// Domain is the one that is authenticated: of the return path for SPF, d= for DKIM, the one with the
	// record for DMARC.
	Domain string
	// Aligned says that Domain fits the From address (RFC 7489, section 3.1), so that DMARC counts it.
	Aligned bool
	// Reason says why it does not pass or is not aligned, and what to do. Empty if all is well.
	Reason string
}

// Authentication is what receivers will find of a sender's mail through one relay.
type Authentication struct {
	// Relay is empty before the first check.
	Relay string
	// Streams are those that the relay takes; empty is any.
	Streams          []string
	SPF, DKIM, DMARC Verdict
}

// Authenticate says what receivers will find of mail from a domain, for each relay that the last check
// knew. It makes no lookup: all comes from that check.
func Authenticate(d Domain) []Authentication {
	results := d.SPF
	if len(results) == 0 {
		results = []SPFResult{{}}
	}
	policy := policyOf(d)
	dkim := d.dkimVerdict()
	out := make([]Authentication, len(results))
	for i, r := range results {
		out[i] = Authentication{Relay: r.Relay, Streams: r.Streams, SPF: d.spfVerdict(r, policy), DKIM: dkim}
		out[i].DMARC = d.dmarcVerdict(out[i], policy)
	}
	return out
}

// policy is a domain's DMARC record.
type policy struct {
	record *Record
	value  string // none, quarantine or reject; empty if there is no record
	// strictSPF: the return path has to be in the domain itself. d= of our signatures always is.
	strictSPF bool
}

func policyOf(d Domain) (p policy) {
	at := slices.IndexFunc(d.Records, func(r Record) bool { return r.Kind == DMARC })
	if at < 0 {
		return p
	}
	p.record = &d.Records[at]
	if p.record.Status == Verified && len(p.record.Found) > 0 {
		at := max(0, slices.IndexFunc(p.record.Found, func(v string) bool { return isDMARC(v) }))
		has, _ := tags(p.record.Found[at])
		p.value = strings.ToLower(has["p"])
		p.strictSPF = strings.EqualFold(has["aspf"], "s")
	}
	return p
}

// aligned reports whether DMARC counts a domain for mail from another: the same organisation, or the same
// domain if the policy is strict.
func aligned(domain, from string, strict bool) bool {
	if domain == from || strict {
		return domain == from
	}
	one, err := publicsuffix.EffectiveTLDPlusOne(domain)
	other, otherErr := publicsuffix.EffectiveTLDPlusOne(from)
	return err == nil && otherErr == nil && one == other
}

func (d Domain) dkimVerdict() Verdict {
	v := Verdict{Domain: d.Name}
	for _, k := range d.Keys {
		if k.State != ActiveKey || k.Algorithm != RSA {
			continue
		}
		v.Result, v.Aligned = AuthPass, true
		for _, r := range d.Records {
			if r.Kind == DKIM && r.Value == k.Value && r.isMissed() {
				v.Result, v.Reason = AuthFail, fmt.Sprintf("the key that signs is not found at %s: %s", r.FQDN, r.Remedy)
			}
		}
		return v
	}
	switch {
	case d.ID == "":
		v.Result, v.Domain = AuthUnknown, ""
		v.Reason = fmt.Sprintf("%s is not one of your domains, so Postrider does not sign; the relay may. Add it with POST /v1.0/domains", d.Name)
		return v
	case len(d.Keys) == 0:
		v.Result, v.Domain = AuthUnknown, ""
		v.Reason = fmt.Sprintf("Postrider has no keys of the domain, so it does not sign; the relay may. POST /v1.0/domains with %s makes keys", d.Name)
		return v
	}
	v.Result = AuthNone
	v.Reason = "mail is not signed until the domain's RSA key is published"
	for _, r := range d.Records {
		switch {
		case r.Kind != DKIM || !r.Required:
		case r.Remedy == "" || r.Problem == Missing:
			v.Reason = fmt.Sprintf("mail is not signed yet: publish the TXT record at %s", r.FQDN)
		default:
			v.Reason = fmt.Sprintf("mail is not signed yet, because of the TXT record at %s: %s", r.FQDN, r.Remedy)
		}
	}
	return v
}

func (d Domain) spfVerdict(r SPFResult, p policy) Verdict {
	if r.Domain != "" && r.Domain != d.ReturnDomain {
		return Verdict{Result: AuthUnknown, Domain: d.ReturnDomain, Aligned: aligned(d.ReturnDomain, d.Name, p.strictSPF),
			Reason: fmt.Sprintf("the domain of return paths has changed since the last check: look now with POST /v1.0/domains/%s/verify", d.ID)}
	}
	v := Verdict{Result: AuthUnknown, Domain: r.Domain, Aligned: r.Domain != "" && aligned(r.Domain, d.Name, p.strictSPF)}
	var reasons []string
	switch r.Result {
	case "pass":
		v.Result = AuthPass
	case "":
		switch {
		case d.ID != "" && d.NextCheckAt.IsZero() && len(d.Keys) == 0:
			reasons = append(reasons, notChecked(d))
		case d.CheckedAt.IsZero():
			reasons = append(reasons, "the domain has not been checked yet")
		case r.Domain == "":
			reasons = append(reasons, "no relay took the domain's mail when it was checked last")
		default:
			reasons = append(reasons, fmt.Sprintf("it is not known from which addresses the relay %s sends: the operator says it with sends_from= in POSTRIDER_SMTP_URLS", r.Relay))
		}
	case "none":
		v.Result = AuthNone
		reasons = append(reasons, fmt.Sprintf("%s has no SPF record: publish one that names %s", r.Domain, r.Address))
	case "temperror":
		reasons = append(reasons, "the DNS did not answer: "+r.Detail)
	case spfUnknown:
		reasons = append(reasons, fmt.Sprintf("it depends on each e-mail: %s", r.Detail))
	case "permerror":
		v.Result = AuthFail
		reasons = append(reasons, fmt.Sprintf("receivers cannot evaluate the SPF record of %s (%s): there has to be one record, of which all terms are right, with 10 look-ups at most", r.Domain, r.Detail))
	default:
		v.Result = AuthFail
		reasons = append(reasons, fmt.Sprintf("the SPF record of %s does not allow %s, from which the relay %s sends (%s): %s", r.Domain, r.Address, r.Relay, r.Result, r.Detail))
	}
	if r.Domain != "" && !v.Aligned {
		reasons = append(reasons, d.unaligned(r.Domain, p))
	}
	v.Reason = strings.Join(reasons, "; ")
	return v
}

// unaligned says why DMARC does not count SPF of a return path, and what to do.
func (d Domain) unaligned(returnDomain string, p policy) string {
	const strict = "the domain's DMARC record has aspf=s, so DMARC counts SPF only if the return path is in %s itself, and it is in %s: remove aspf=s from the record%s. Signed mail passes DMARC by DKIM all the same"
	other := !aligned(returnDomain, d.Name, false)
	switch {
	case p.strictSPF && other:
		return fmt.Sprintf(strict, d.Name, returnDomain, ", and publish the domain's own record for the return path")
	case p.strictSPF:
		return fmt.Sprintf(strict, d.Name, returnDomain, "")
	}
	return fmt.Sprintf("%s is of another organisation than %s, so DMARC does not count it: publish the domain's own record for the return path", returnDomain, d.Name)
}

// notChecked says why the DNS is never asked about a domain without keys, and what to do.
func notChecked(d Domain) string {
	return fmt.Sprintf("the domain is not checked, because it has no DKIM keys: POST /v1.0/domains with %s makes some and looks at the DNS, and so does postrider domain verify", d.Name)
}

func (d Domain) dmarcVerdict(a Authentication, p policy) Verdict {
	v := Verdict{Domain: d.Name, Aligned: a.SPF.counts() || a.DKIM.counts()}
	switch {
	case v.Aligned:
		v.Result = AuthPass
	case a.SPF.Result == AuthUnknown && (a.SPF.Aligned || a.SPF.Domain == "") || a.DKIM.Result == AuthUnknown:
		v.Result, v.Reason = AuthUnknown, "neither SPF nor DKIM is known to pass for this domain"
	default:
		v.Result, v.Reason = AuthFail, "neither SPF nor DKIM passes for this domain"
	}
	why := ""
	switch {
	case p.value != "":
		return v
	case p.record == nil || p.record.Status == NotStarted:
		why = "its DMARC record has not been looked up yet"
		v.Result = AuthUnknown
	case p.record.Status == TemporaryFailure:
		why = "its DMARC record is not known: " + p.record.Remedy
		v.Result = AuthUnknown
	case p.record.Status == Failed:
		why = p.record.Remedy
	default:
		why = "the domain has no DMARC record, and large receivers want one: publish the TXT record at _dmarc." + d.Name
	}
	if v.Result == AuthPass {
		v.Result = AuthNone
	}
	if v.Reason != "" {
		why = v.Reason + "; " + why
	}
	v.Reason = why
	return v
}

// counts reports whether DMARC counts it.
func (v Verdict) counts() bool { return v.Result == AuthPass && v.Aligned }
