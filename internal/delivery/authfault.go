package delivery

import "fmt"

// AuthFault is what a server found wrong with the authentication of a sender's domain. It is empty for a refusal for
// another reason.
type AuthFault string

// The faults, with what the sender's domain lacks.
const (
	// AuthSPF: the SPF check of the return path failed (RFC 7208).
	AuthSPF AuthFault = "spf"
	// AuthDKIM: there is no valid signature (RFC 6376).
	AuthDKIM AuthFault = "dkim"
	// AuthDMARC: the domain publishes no DMARC policy, or its own policy refuses the mail (RFC 7489).
	AuthDMARC AuthFault = "dmarc"
	// AuthAlignment: SPF or DKIM pass for a domain other than the one in the header From (RFC 7489 section 3.1).
	AuthAlignment AuthFault = "alignment"
	// AuthAny: the server names no mechanism, or several.
	AuthAny AuthFault = "authentication"
)

// Remedy says what the owner of a sender's domain has to do. returnPath is the host of the return path, which SPF is
// checked for. It is empty if that is the sender's domain itself.
func (f AuthFault) Remedy(domain, returnPath string) string {
	const see = "GET /v1.0/domains shows the values of the records"
	dkim := fmt.Sprintf("publish the DKIM record of %s, so that its mail is signed", domain)
	dmarc := fmt.Sprintf(`publish a TXT record at _dmarc.%s that begins with "v=DMARC1; p=none"`, domain)
	spf := fmt.Sprintf("publish an SPF record at %s that allows the relay's servers", domain)
	if returnPath != "" && returnPath != domain {
		spf = fmt.Sprintf("see that the SPF record of the return path's host %s allows the relay's servers: the operator of this installation publishes it", returnPath)
	}
	switch f {
	case AuthSPF:
		return spf + "; " + see
	case AuthDKIM:
		return dkim + "; " + see
	case AuthDMARC:
		return dmarc + ", and " + dkim + ": DMARC passes if the signature or the return path is of the domain; " + see
	case AuthAlignment:
		return fmt.Sprintf("align the mail with %s: sign it with a DKIM key of this domain, and publish the CNAME record of its return path; %s", domain, see)
	}
	return dkim + ", " + spf + ", and " + dmarc + "; " + see
}
