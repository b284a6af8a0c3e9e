package senderdomain

import (
	"context"
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/publicsuffix"

	"github.com/postrider/postrider/internal/dnslookup"
	"github.com/postrider/postrider/internal/plaintext"
)

// Lookup asks the DNS; *dnslookup.Client does.
type Lookup interface {
	Lookup(ctx context.Context, name string, typ dnslookup.Type) dnslookup.Answer
	LookupAll(ctx context.Context, name string, typ dnslookup.Type) []dnslookup.Answer
}

// Check looks every record up and returns them with status, problem and remedy. It says
// what the DNS has at this time; what was found before does not matter. Checking again is
// safe.
func Check(ctx context.Context, lookup Lookup, records []Record) []Record {
	out := slices.Clone(records)
	var wait sync.WaitGroup
	for i := range out {
		wait.Go(func() { out[i] = check(ctx, lookup, out[i]) })
	}
	wait.Wait()
	return out
}

// finding is what a check has found out about one record.
type finding struct {
	problem Problem
	found   []string
	// elsewhere is the name that has the record in place of the right one.
	elsewhere string
	// zone is the zone that the name is in, else the domain.
	zone string
	// servers are those that lack the record.
	servers []string
	// reason is that of the DNS client for a temporary failure.
	reason string
}

func check(ctx context.Context, lookup Lookup, r Record) Record {
	f := find(ctx, lookup, r)
	f.found = storable(f.found)
	r.Found, r.Problem, r.Remedy = f.found, f.problem, ""
	switch f.problem {
	case "":
		r.Status = Verified
	case Missing, NotOnAllServers:
		r.Status = Pending
	case Unavailable:
		r.Status = TemporaryFailure
	default:
		r.Status = Failed
	}
	if f.problem != "" {
		r.Remedy = plaintext.Line(remedy(r, f), maxRemedy)
	}
	return r
}

// The limits of what a record shows of the DNS. The domain's owner chooses the content.
const (
	maxFound      = 10
	maxFoundBytes = 1024 // more than a DKIM key of 4096 bits
	maxRemedy     = 2000
)

func storable(values []string) []string {
	var out []string
	for _, v := range values[:min(len(values), maxFound)] {
		out = append(out, plaintext.Storable(v, maxFoundBytes))
	}
	return out
}

func find(ctx context.Context, lookup Lookup, r Record) finding {
	var have, lack []dnslookup.Answer
	var reason string
	for _, a := range lookup.LookupAll(ctx, r.FQDN, r.Type) {
		switch {
		case !a.Definite():
			reason = a.Reason
		case compare(r, a.Values()) == "":
			have = append(have, a)
		default:
			lack = append(lack, a)
		}
	}
	switch {
	case len(have) == 0 && len(lack) == 0:
		return finding{problem: Unavailable, reason: reason}
	case len(lack) == 0:
		return finding{found: have[0].Values()}
	case len(have) > 0:
		f := finding{problem: NotOnAllServers, found: have[0].Values()}
		for _, a := range lack {
			f.servers = append(f.servers, a.Server)
		}
		slices.Sort(f.servers)
		return f
	}
	// Servers with data of different age: the one that has something tells more.
	at := max(0, slices.IndexFunc(lack, func(a dnslookup.Answer) bool { return len(a.Records) > 0 }))
	return diagnose(ctx, lookup, r, lack[at])
}

// diagnose says why an answer is not the expected one. It looks under wrong names first:
// what stands under the right name then matters no more. A wildcard is looked for last,
// because its answer can look like any other mistake.
func diagnose(ctx context.Context, lookup Lookup, r Record, a dnslookup.Answer) finding {
	f := finding{problem: compare(r, a.Values()), found: a.Values(), zone: a.Zone}
	if f.zone == "" { // a recursive server has answered
		f.zone = domainOf(r)
	}
	if a.Loop {
		f.problem, f.found = CNAMELoop, a.Chain
		return f
	}
	if r.Kind == DMARC && f.problem == Missing {
		if inherited, ok := inheritedDMARC(ctx, lookup, r); ok {
			return inherited
		}
	}
	if r.Type == dnslookup.CNAME && f.problem == OtherValue {
		switch end := lookup.Lookup(ctx, r.FQDN, dnslookup.A); {
		case end.Loop:
			f.problem, f.found = CNAMELoop, end.Chain
			return f
		case slices.Contains(end.Chain, r.Value): // through a name of the customer's own
			f.problem = ""
			return f
		}
	}
	if f.problem == Missing || f.problem == OtherValue {
		if problem, name := misplaced(ctx, lookup, r, f.zone); problem != "" {
			f.problem, f.elsewhere = problem, name
			return f
		}
	}
	if f.problem == OtherValue && r.Type == dnslookup.CNAME && slices.Contains(f.found, r.Value+"."+f.zone) {
		f.problem = ValueDoubled
		return f
	}
	if f.problem == Missing && len(a.Records) == 0 {
		a = otherType(ctx, lookup, r, a, &f)
	}
	switch f.problem {
	case OtherValue, SeveralRecords, WrongType, Proxied:
		if isWildcard(ctx, lookup, r, a) {
			f.problem = Wildcard
		}
	}
	return f
}

func domainOf(r Record) string { return strings.TrimPrefix(r.FQDN, r.Name+".") }

// misplaced looks for the record under the names that people give it by mistake.
func misplaced(ctx context.Context, lookup Lookup, r Record, zone string) (problem Problem, name string) {
	domain := domainOf(r)
	has := func(name string) bool {
		a := lookup.Lookup(ctx, name, r.Type)
		switch compare(r, a.Values()) {
		case "", ValueMangled, ValueTruncated:
			return true
		}
		return false
	}
	if name := r.FQDN + "." + zone; has(name) {
		return NameDoubled, name
	}
	if name := r.FQDN + "." + domain; zone != domain && has(name) {
		return NameDoubled, name
	}
	if name := r.Name + "." + zone; r.Kind != DMARC && strings.HasSuffix(domain, "."+zone) && has(name) {
		return NameIncomplete, name
	}
	return "", ""
}

// otherType looks for a record of another type in the place of the missing one. It returns
// the answer that says so, or a.
func otherType(ctx context.Context, lookup Lookup, r Record, a dnslookup.Answer, f *finding) dnslookup.Answer {
	if len(a.Chain) > 0 {
		f.problem, f.found = WrongType, []string{"CNAME " + a.Chain[0]}
		return a
	}
	// A CNAME tolerates no other record beside it, a text does.
	if a.Outcome != dnslookup.NoSuchRecord || r.Type != dnslookup.CNAME {
		return a
	}
	for _, typ := range []dnslookup.Type{dnslookup.TXT, dnslookup.MX, dnslookup.A, dnslookup.AAAA} {
		b := lookup.Lookup(ctx, r.FQDN, typ)
		if len(b.Records) == 0 {
			continue
		}
		f.problem, f.found = WrongType, nil
		if typ == dnslookup.A || typ == dnslookup.AAAA {
			f.problem = Proxied
		}
		for _, v := range b.Values() {
			f.found = append(f.found, string(typ)+" "+v)
		}
		return b
	}
	return a
}

// probe is a label that no zone has.
const probe = "postrider-wildcard-probe"

// isWildcard reports whether a name beside the record's gives the same answer.
func isWildcard(ctx context.Context, lookup Lookup, r Record, a dnslookup.Answer) bool {
	_, parent, _ := strings.Cut(r.FQDN, ".")
	b := lookup.Lookup(ctx, probe+"."+parent, a.Type)
	return len(b.Records)+len(b.Chain) > 0 && slices.Equal(b.Chain, a.Chain) &&
		slices.Equal(slices.Sorted(slices.Values(a.Values())), slices.Sorted(slices.Values(b.Values())))
}

// inheritedDMARC is the record of the organisational domain, which holds for names below it
// without one (RFC 7489, section 6.6.3). One of their own could be weaker.
func inheritedDMARC(ctx context.Context, lookup Lookup, r Record) (finding, bool) {
	domain := domainOf(r)
	organisation, err := publicsuffix.EffectiveTLDPlusOne(domain)
	if err != nil || organisation == domain {
		return finding{}, false
	}
	a := lookup.Lookup(ctx, "_dmarc."+organisation, dnslookup.TXT)
	if !a.Definite() {
		return finding{problem: Unavailable, reason: a.Reason}, true
	}
	if compare(r, a.Values()) != "" {
		return finding{}, false
	}
	return finding{found: a.Values()}, true
}
