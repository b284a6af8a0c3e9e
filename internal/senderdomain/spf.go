package senderdomain

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"

	"blitiri.com.ar/go/spf"

	"github.com/postrider/postrider/internal/dnslookup"
	"github.com/postrider/postrider/internal/plaintext"
)

// RelaySource is a relay, and the addresses from which mail that it takes reaches receivers.
type RelaySource struct {
	Name string
	// SendsFrom is empty if the operator has not said it.
	SendsFrom []netip.Addr
	// Streams and Domains bound the mail that it takes, by stream and by the sender's domain. Empty is any.
	Streams, Domains []string
}

// SPFResult is what receivers find of mail through one relay (RFC 7208).
type SPFResult struct {
	Relay string `json:"relay"`
	// Streams are those that the relay takes; empty is any.
	Streams []string `json:"streams,omitempty"`
	// Domain is that of the return path, whose record counts.
	Domain string `json:"domain"`
	// Result is a result of RFC 7208, section 2.6, of the first address that does not pass, or
	// "pass". It is "unknown" if it depends on each e-mail, and empty if the relay's addresses are not
	// known.
	Result string `json:"result"`
	// Address is the one that does not pass, and Detail says why.
	Address string `json:"address,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

// spfUnknown is the Result of a record by which some mail passes and other mail may not.
const spfUnknown = "unknown"

// anyLocalPart and anyHELO stand for the part before the @ of a return path, and for the name that a relay
// gives in EHLO. The first is another for each e-mail, the second is not known. They are one label each, so
// that every form of a macro keeps them whole (RFC 7208, section 7.3).
const (
	anyLocalPart = "postrideranylocalpart"
	anyHELO      = "postrideranyheloname"
)

// CheckSPF finds what receivers find of a sender domain's mail through each relay that takes it. The domain
// of its return paths counts. Each name is looked up once: the domain's owner chooses the names.
func CheckSPF(ctx context.Context, lookup Lookup, sender, returnDomain string, relays []RelaySource) (out []SPFResult) {
	resolver := &spfResolver{lookup: lookup, known: map[question]dnslookup.Answer{}}
	for _, r := range relays {
		if len(r.Domains) > 0 && !slices.Contains(r.Domains, sender) {
			continue
		}
		one := SPFResult{Relay: r.Name, Streams: r.Streams, Domain: returnDomain}
		for _, address := range r.SendsFrom {
			one.Result, one.Detail = resolver.check(ctx, address, returnDomain)
			if one.Result == string(spf.Pass) {
				continue
			}
			one.Address = address.String()
			break
		}
		out = append(out, one)
	}
	return out
}

// check evaluates a domain's record for one address.
func (r *spfResolver) check(ctx context.Context, address netip.Addr, domain string) (result, detail string) {
	r.macro = ""
	found, err := spf.CheckHostWithSender(address.AsSlice(), anyHELO, anyLocalPart+"@"+domain, spf.WithContext(ctx), spf.WithResolver(r))
	switch {
	case r.macro != "":
		return spfUnknown, r.macro
	case found == spf.None && !errors.Is(err, spf.ErrNoResult): // there is a record
		found = spf.PermError
	}
	if err != nil && found != spf.Pass {
		detail = plaintext.Line(err.Error(), maxRemedy)
	}
	return string(found), detail
}

// spfResolver has the library of SPF ask by our client, one question at a time.
type spfResolver struct {
	lookup Lookup
	// known are the answers of this check.
	known map[question]dnslookup.Answer
	// macro says which macro the evaluation has come to whose value is not known. It ends there.
	macro string
}

type question struct {
	name string
	typ  dnslookup.Type
}

// values are those of the records. An error is a *net.DNSError: the library tells by it a name without
// records from a server that does not answer.
func (r *spfResolver) values(ctx context.Context, name string, typ dnslookup.Type) (dnslookup.Answer, error) {
	if r.macro = cmp.Or(r.macro, unknownMacro(name)); r.macro != "" {
		return dnslookup.Answer{}, &net.DNSError{Err: r.macro, Name: name, IsTemporary: true}
	}
	a, ok := r.known[question{name, typ}]
	if !ok {
		a = r.lookup.Lookup(ctx, name, typ)
		r.known[question{name, typ}] = a
	}
	switch {
	case !a.Definite():
		return a, &net.DNSError{Err: a.Reason, Name: name, IsTemporary: true}
	case len(a.Records) == 0:
		return a, &net.DNSError{Err: a.Reason, Name: name, IsNotFound: true}
	}
	return a, nil
}

// unknownMacro says which macro of unknown value a name is made with, or "".
func unknownMacro(name string) string {
	name = strings.ToLower(name)
	switch {
	case strings.Contains(name, anyLocalPart):
		return "the SPF record has a macro of the return path's local part (%{l} or %{s}), which is another for each e-mail"
	case strings.Contains(name, anyHELO):
		return "the SPF record has a macro of the name in the relay's EHLO (%{h}), which Postrider does not know"
	}
	return ""
}

// LookupTXT fails for good if one of the texts is an SPF record with a syntax error: the library would
// evaluate the terms before it (RFC 7208, section 4.6).
func (r *spfResolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	a, err := r.values(ctx, name, dnslookup.TXT)
	if err != nil {
		return nil, err
	}
	for _, text := range a.Values() {
		if fault := spfFault(text); fault != "" {
			return nil, &net.DNSError{Err: fault, Name: name}
		}
	}
	return a.Values(), nil
}

func (r *spfResolver) LookupMX(ctx context.Context, name string) (out []*net.MX, err error) {
	a, err := r.values(ctx, name, dnslookup.MX)
	for _, record := range a.Records {
		out = append(out, &net.MX{Host: record.Value, Pref: record.Priority})
	}
	return out, err
}

// LookupIPAddr gives the addresses of both families. It fails only if there is none.
func (r *spfResolver) LookupIPAddr(ctx context.Context, host string) (out []net.IPAddr, err error) {
	for _, typ := range []dnslookup.Type{dnslookup.A, dnslookup.AAAA} {
		a, failed := r.values(ctx, host, typ)
		for _, v := range a.Values() {
			out = append(out, net.IPAddr{IP: net.ParseIP(v)})
		}
		if dnsErr, ok := errors.AsType[*net.DNSError](failed); ok && (err == nil || dnsErr.IsTemporary) {
			err = failed
		}
	}
	if len(out) > 0 {
		err = nil
	}
	return out, err
}

// LookupAddr answers that there is no name: "ptr" is not to be used (RFC 7208, section 5.5).
func (r *spfResolver) LookupAddr(_ context.Context, address string) ([]string, error) {
	return nil, &net.DNSError{Err: "reverse names are not looked up", Name: address, IsNotFound: true}
}
