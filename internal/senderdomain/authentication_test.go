package senderdomain_test

import (
	"cmp"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/dnslookup"
	"github.com/postrider/postrider/internal/dnstest"
	"github.com/postrider/postrider/internal/senderdomain"
)

// TestCheckSPF asks real servers: what counts is the record of the return path's domain, and each of the
// relay's addresses.
func TestCheckSPF(t *testing.T) {
	t.Parallel()
	n := dnstest.New(t)
	hosts := []string{"ns1.dns.example"}
	n.Zone(t, "mail.example", hosts,
		`bounce IN TXT "v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 -all"`, `bounce IN MX 10 mx`, `mx IN A 192.0.2.1`,
		`soft IN TXT "v=spf1 a:mx.mail.example ~all"`,
		`loop IN TXT "v=spf1 include:loop.mail.example -all"`,
		`two IN TXT "v=spf1 -all"`, `two IN TXT "v=spf1 +all"`,
		`bymx IN TXT "v=spf1 mx:bounce.mail.example -all"`,
		`void IN TXT "v=spf1 a:n1.mail.example a:n2.mail.example a:n3.mail.example -all"`,
		`none IN A 192.0.2.9`,
		`late IN TXT "v=spf1 ip4:192.0.2.1 ipx:foo -all"`, `bylate IN TXT "v=spf1 include:late.mail.example ip4:192.0.2.1 -all"`,
		`local IN TXT "v=spf1 exists:%{l}.x.mail.example -all"`, `sender IN TXT "v=spf1 include:%{s1r}.x.mail.example -all"`, `hello IN TXT "v=spf1 a:%{h}.mail.example -all"`,
		`before IN TXT "v=spf1 ip4:192.0.2.1 exists:%{l}.x.mail.example -all"`, `byip IN TXT "v=spf1 exists:%{ir}.y.mail.example -all"`, `1.2.0.192.y IN A 127.0.0.2`, `*.x IN A 127.0.0.2`)
	n.Zone(t, "shop.example", hosts, `bounce IN CNAME bounce.mail.example.`)
	client, err := dnslookup.New([]string{n.Recursive}, dnslookup.Options{AllowedNetworks: []netip.Prefix{dnstest.Loopback}, Port: n.Port})
	require.NoError(t, err)
	check := func(domain string, addresses ...string) senderdomain.SPFResult {
		relay := senderdomain.RelaySource{Name: "primary", Streams: []string{"broadcast"}}
		for _, a := range addresses {
			relay.SendsFrom = append(relay.SendsFrom, netip.MustParseAddr(a))
		}
		all := senderdomain.CheckSPF(t.Context(), client, "shop.example", domain, []senderdomain.RelaySource{relay, {Name: "others", Domains: []string{"other.example"}}})
		require.Len(t, all, 1, "a relay that does not take the domain has no part in it")
		require.Equal(t, "primary", all[0].Relay)
		require.Equal(t, []string{"broadcast"}, all[0].Streams)
		require.Equal(t, domain, all[0].Domain)
		return all[0]
	}
	for _, tt := range []struct {
		domain, result, address string
		from                    []string
	}{
		{"bounce.mail.example", "pass", "", []string{"192.0.2.1", "2001:db8::1"}},
		{"bounce.shop.example", "pass", "", []string{"192.0.2.1"}},
		{"bounce.mail.example", "fail", "192.0.2.2", []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}},
		{"soft.mail.example", "pass", "", []string{"192.0.2.1"}},
		{"soft.mail.example", "softfail", "192.0.2.2", []string{"192.0.2.2"}},
		{"bymx.mail.example", "pass", "", []string{"192.0.2.1"}},
		{"loop.mail.example", "permerror", "192.0.2.1", []string{"192.0.2.1"}},
		{"two.mail.example", "permerror", "192.0.2.1", []string{"192.0.2.1"}},
		{"void.mail.example", "permerror", "192.0.2.1", []string{"192.0.2.1"}},
		{"none.mail.example", "none", "192.0.2.1", []string{"192.0.2.1"}},
		{"missing.mail.example", "none", "192.0.2.1", []string{"192.0.2.1"}},
		{"bounce.mail.example", "", "", nil},
		{"late.mail.example", "permerror", "192.0.2.1", []string{"192.0.2.1"}},
		{"bylate.mail.example", "permerror", "192.0.2.1", []string{"192.0.2.1"}},
		{"local.mail.example", "unknown", "192.0.2.1", []string{"192.0.2.1"}},
		{"sender.mail.example", "unknown", "192.0.2.1", []string{"192.0.2.1"}},
		{"hello.mail.example", "unknown", "192.0.2.1", []string{"192.0.2.1"}},
		{"before.mail.example", "pass", "", []string{"192.0.2.1"}},
		{"before.mail.example", "unknown", "192.0.2.2", []string{"192.0.2.1", "192.0.2.2"}},
		{"byip.mail.example", "pass", "", []string{"192.0.2.1"}},
	} {
		got := check(tt.domain, tt.from...)
		require.Equal(t, tt.result, got.Result, "%s: %s", tt.domain, got.Detail)
		require.Equal(t, tt.address, got.Address, tt.domain)
	}
	before := len(n.Server(t, "ns1.dns.example").Queries())
	many := []string{"192.0.2.1", "2001:db8::1", "192.0.2.1", "2001:db8::1"}
	require.Equal(t, "pass", check("bounce.mail.example", many...).Result)
	require.Len(t, n.Server(t, "ns1.dns.example").Queries(), before+1, "a name is looked up once for all addresses")
	n.SetFault(dnstest.Servfail)
	n.Server(t, "ns1.dns.example").SetFault(dnstest.Servfail)
	require.Equal(t, "temperror", check("bounce.mail.example", "192.0.2.1").Result)
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	const pass, fail, none, unknown = senderdomain.AuthPass, senderdomain.AuthFail, senderdomain.AuthNone, senderdomain.AuthUnknown
	active := []senderdomain.DKIMKey{{Selector: "pr1r", Algorithm: senderdomain.RSA, State: senderdomain.ActiveKey}}
	pending := []senderdomain.DKIMKey{{Selector: "pr1r", Algorithm: senderdomain.RSA, State: senderdomain.PendingKey}}
	dmarc := func(found string) senderdomain.Record {
		r := senderdomain.Record{Kind: senderdomain.DMARC, FQDN: "_dmarc.shop.example", Status: senderdomain.Verified, Found: []string{found}}
		if found == "" {
			r.Status, r.Problem, r.Found, r.Remedy = senderdomain.Pending, senderdomain.Missing, nil, "Add it."
		}
		return r
	}
	spf := func(domain, result string) []senderdomain.SPFResult {
		return []senderdomain.SPFResult{{Relay: "primary", Domain: domain, Result: result, Address: "192.0.2.1", Detail: "no match"}}
	}
	key := senderdomain.Record{Kind: senderdomain.DKIM, Required: true, FQDN: "pr1r._domainkey.shop.example"}
	type want struct {
		spf, dkim, dmarc                senderdomain.AuthResult
		spfAligned, dkimAligned         bool
		spfReason, dkimReason, dmarcWhy string
	}
	for name, tt := range map[string]struct {
		domain senderdomain.Domain
		want   want
	}{
		"all is well": {
			senderdomain.Domain{ID: "1", Keys: active, Records: []senderdomain.Record{key, dmarc("v=DMARC1; p=none")}, SPF: spf("bounce.shop.example", "pass")},
			want{spf: pass, dkim: pass, dmarc: pass, spfAligned: true, dkimAligned: true},
		},
		"the installation's return path": {
			senderdomain.Domain{ID: "1", Keys: active, Records: []senderdomain.Record{key, dmarc("v=DMARC1; p=reject")}, SPF: spf("bounce.mail.example", "pass")},
			want{spf: pass, dkim: pass, dmarc: pass, dkimAligned: true, spfReason: "publish the domain's own record for the return path"},
		},
		"only SPF, and a strict policy": {
			senderdomain.Domain{ID: "1", Keys: pending, Records: []senderdomain.Record{key, dmarc("v=DMARC1; p=reject; aspf=s")}, SPF: spf("bounce.shop.example", "pass")},
			want{spf: pass, dkim: none, dmarc: fail, spfReason: "the domain's DMARC record has aspf=s, so DMARC counts SPF only if the return path is in shop.example itself, and it is in bounce.shop.example: remove aspf=s from the record. Signed", dkimReason: "publish the TXT record at pr1r._domainkey.shop.example", dmarcWhy: "neither SPF nor DKIM passes"},
		},
		"a strict policy and the installation's return path": {
			senderdomain.Domain{ID: "1", Keys: active, Records: []senderdomain.Record{key, dmarc("v=DMARC1; p=reject; aspf=s")}, SPF: spf("bounce.mail.example", "pass")},
			want{spf: pass, dkim: pass, dmarc: pass, dkimAligned: true, spfReason: "remove aspf=s from the record, and publish the domain's own record for the return path"},
		},
		"SPF depends on each e-mail": {
			senderdomain.Domain{ID: "1", Keys: active, Records: []senderdomain.Record{key, dmarc("v=DMARC1; p=none")}, SPF: spf("bounce.shop.example", "unknown")},
			want{spf: unknown, dkim: pass, dmarc: pass, spfAligned: true, dkimAligned: true, spfReason: "it depends on each e-mail: no match"},
		},
		"the key's record is there, for tests": {
			senderdomain.Domain{ID: "1", Keys: pending, SPF: spf("bounce.shop.example", "pass"),
				Records: []senderdomain.Record{{Kind: senderdomain.DKIM, Required: true, FQDN: "pr1r._domainkey.shop.example", Status: senderdomain.Failed, Problem: senderdomain.OtherValue, Remedy: "It has t=y."}, dmarc("v=DMARC1; p=none")}},
			want{spf: pass, dkim: none, dmarc: pass, spfAligned: true, dkimReason: "because of the TXT record at pr1r._domainkey.shop.example: It has t=y."},
		},
		"only SPF": {
			senderdomain.Domain{ID: "1", Keys: pending, Records: []senderdomain.Record{key, dmarc("v=DMARC1; p=reject")}, SPF: spf("bounce.shop.example", "pass")},
			want{spf: pass, dkim: none, dmarc: pass, spfAligned: true, dkimReason: "publish the TXT record"},
		},
		"SPF fails": {
			senderdomain.Domain{ID: "1", Keys: active, Records: []senderdomain.Record{key, dmarc("v=DMARC1; p=none")}, SPF: spf("bounce.shop.example", "fail")},
			want{spf: fail, dkim: pass, dmarc: pass, spfAligned: true, dkimAligned: true, spfReason: "does not allow 192.0.2.1, from which the relay primary sends (fail): no match"},
		},
		"the key's record is gone": {
			senderdomain.Domain{ID: "1", Keys: active, SPF: spf("bounce.mail.example", "pass"),
				Records: []senderdomain.Record{{Kind: senderdomain.DKIM, FQDN: "pr1r._domainkey.shop.example", Status: senderdomain.Pending, Problem: senderdomain.Missing, Remedy: "Add it."}, dmarc("v=DMARC1; p=none")}},
			want{spf: pass, dkim: fail, dmarc: fail, dkimAligned: true, spfReason: "another organisation", dkimReason: "is not found at pr1r._domainkey.shop.example: Add it.", dmarcWhy: "neither SPF nor DKIM passes"},
		},
		"the return path has changed": {
			senderdomain.Domain{ID: "1", Keys: active, ReturnDomain: "bounce.new.example", Records: []senderdomain.Record{key, dmarc("v=DMARC1; p=none")}, SPF: spf("bounce.shop.example", "pass")},
			want{spf: unknown, dkim: pass, dmarc: pass, dkimAligned: true, spfReason: "has changed since the last check"},
		},
		"a DMARC record beside another text": {
			senderdomain.Domain{ID: "1", Keys: active, SPF: spf("bounce.shop.example", "pass"), Records: []senderdomain.Record{key,
				{Kind: senderdomain.DMARC, Status: senderdomain.Verified, Found: []string{"site-verification=abc", "v=DMARC1; p=reject; aspf=s"}}}},
			want{spf: pass, dkim: pass, dmarc: pass, dkimAligned: true, spfReason: "has aspf=s"},
		},
		"an SPF record that cannot be evaluated": {
			senderdomain.Domain{ID: "1", Keys: active, Records: []senderdomain.Record{key, dmarc("v=DMARC1; p=none")}, SPF: spf("bounce.shop.example", "permerror")},
			want{spf: fail, dkim: pass, dmarc: pass, spfAligned: true, dkimAligned: true, spfReason: "receivers cannot evaluate the SPF record"},
		},
		"no SPF record": {
			senderdomain.Domain{ID: "1", Keys: active, Records: []senderdomain.Record{key, dmarc("v=DMARC1; p=none")}, SPF: spf("shop.example", "none")},
			want{spf: none, dkim: pass, dmarc: pass, spfAligned: true, dkimAligned: true, spfReason: "shop.example has no SPF record: publish one that names 192.0.2.1"},
		},
		"addresses are not known": {
			senderdomain.Domain{ID: "1", Keys: active, Records: []senderdomain.Record{key, dmarc("v=DMARC1; p=none")}, SPF: spf("shop.example", "")},
			want{spf: unknown, dkim: pass, dmarc: pass, spfAligned: true, dkimAligned: true, spfReason: "sends_from="},
		},
		"the DNS does not answer": {
			senderdomain.Domain{ID: "1", Keys: active, Records: []senderdomain.Record{key, dmarc("v=DMARC1; p=none")}, SPF: spf("shop.example", "temperror")},
			want{spf: unknown, dkim: pass, dmarc: pass, spfAligned: true, dkimAligned: true, spfReason: "the DNS did not answer"},
		},
		"no DMARC record": {
			senderdomain.Domain{ID: "1", Keys: active, Records: []senderdomain.Record{key, dmarc("")}, SPF: spf("bounce.shop.example", "pass")},
			want{spf: pass, dkim: pass, dmarc: none, spfAligned: true, dkimAligned: true, dmarcWhy: "publish the TXT record at _dmarc.shop.example"},
		},
		"the DMARC record is not known": {
			senderdomain.Domain{ID: "1", Keys: active, SPF: spf("bounce.shop.example", "pass"), Records: []senderdomain.Record{key, {Kind: senderdomain.DMARC, Status: senderdomain.TemporaryFailure, Problem: senderdomain.Unavailable, Remedy: "Wait."}}},
			want{spf: pass, dkim: pass, dmarc: unknown, spfAligned: true, dkimAligned: true, dmarcWhy: "is not known: Wait."},
		},
		"the DMARC record is wrong": {
			senderdomain.Domain{ID: "1", Keys: active, SPF: spf("bounce.shop.example", "pass"), Records: []senderdomain.Record{key, {Kind: senderdomain.DMARC, Status: senderdomain.Failed, Problem: senderdomain.OtherValue, Remedy: "Change it."}}},
			want{spf: pass, dkim: pass, dmarc: none, spfAligned: true, dkimAligned: true, dmarcWhy: "Change it."},
		},
		"the operator vouches for it": {
			senderdomain.Domain{ID: "1", Records: []senderdomain.Record{dmarc("v=DMARC1; p=none")}, SPF: spf("bounce.mail.example", "pass")},
			want{spf: pass, dkim: unknown, dmarc: unknown, spfReason: "another organisation", dkimReason: "POST /v1.0/domains with shop.example makes keys", dmarcWhy: "is known to pass"},
		},
		"the operator vouches for it, and it was never checked": {
			senderdomain.Domain{ID: "1", VerifiedBy: senderdomain.VerifiedByOperator, Records: []senderdomain.Record{{Kind: senderdomain.DMARC, Status: senderdomain.NotStarted}}},
			want{spf: unknown, dkim: unknown, dmarc: unknown, spfReason: "is not checked, because it has no DKIM keys: POST /v1.0/domains with shop.example makes some", dkimReason: "POST /v1.0/domains with shop.example makes keys", dmarcWhy: "is known to pass"},
		},
		"before the first check": {
			senderdomain.Domain{ID: "1", Keys: pending, Records: []senderdomain.Record{key, {Kind: senderdomain.DMARC, FQDN: "_dmarc.shop.example", Status: senderdomain.NotStarted}}},
			want{spf: unknown, dkim: none, dmarc: unknown, spfReason: "has not been checked yet", dkimReason: "publish the TXT record", dmarcWhy: "has not been looked up yet"},
		},
		"no relay takes it": {
			senderdomain.Domain{ID: "1", Keys: active, CheckedAt: time.Unix(1, 0), Records: []senderdomain.Record{key, dmarc("v=DMARC1; p=none")}},
			want{spf: unknown, dkim: pass, dmarc: pass, dkimAligned: true, spfReason: "no relay took the domain's mail"},
		},
		"not the customer's": {
			senderdomain.Domain{},
			want{spf: unknown, dkim: unknown, dmarc: unknown, spfReason: "has not been checked yet", dkimReason: "Add it with POST /v1.0/domains", dmarcWhy: "is known to pass"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.domain.Name = "shop.example"
			if tt.domain.SPF != nil {
				tt.domain.CheckedAt = time.Unix(1, 0)
				tt.domain.ReturnDomain = cmp.Or(tt.domain.ReturnDomain, tt.domain.SPF[0].Domain)
			}
			all := senderdomain.Authenticate(tt.domain)
			require.Len(t, all, 1)
			got := all[0]
			require.Equal(t, [3]senderdomain.AuthResult{tt.want.spf, tt.want.dkim, tt.want.dmarc}, [3]senderdomain.AuthResult{got.SPF.Result, got.DKIM.Result, got.DMARC.Result}, "%+v", got)
			require.Equal(t, [2]bool{tt.want.spfAligned, tt.want.dkimAligned}, [2]bool{got.SPF.Aligned, got.DKIM.Aligned}, "%+v", got)
			for _, reason := range [][2]string{{tt.want.spfReason, got.SPF.Reason}, {tt.want.dkimReason, got.DKIM.Reason}, {tt.want.dmarcWhy, got.DMARC.Reason}} {
				if reason[0] == "" {
					require.Empty(t, reason[1])
				} else {
					require.Contains(t, reason[1], reason[0])
				}
			}
		})
	}
}

func TestBounceHost(t *testing.T) {
	t.Parallel()
	record := func(s senderdomain.Status, p senderdomain.Problem) []senderdomain.Record {
		return []senderdomain.Record{{Kind: senderdomain.DKIM, Status: senderdomain.Verified, FQDN: "x"}, {Kind: senderdomain.ReturnPath, FQDN: "bounce.shop.example", Status: s, Problem: p}}
	}
	for name, tt := range map[string]struct {
		records []senderdomain.Record
		was     string
		want    string
	}{
		"found":                       {record(senderdomain.Verified, ""), "", "bounce.shop.example"},
		"gone":                        {record(senderdomain.Pending, senderdomain.Missing), "bounce.shop.example", ""},
		"wrong":                       {record(senderdomain.Failed, senderdomain.OtherValue), "bounce.shop.example", ""},
		"the DNS is away":             {record(senderdomain.TemporaryFailure, senderdomain.Unavailable), "bounce.shop.example", "bounce.shop.example"},
		"not at all servers":          {record(senderdomain.Pending, senderdomain.NotOnAllServers), "", ""},
		"no longer at all":            {record(senderdomain.Pending, senderdomain.NotOnAllServers), "bounce.shop.example", "bounce.shop.example"},
		"no host of the installation": {nil, "bounce.shop.example", ""},
	} {
		require.Equal(t, tt.want, senderdomain.BounceHost(tt.records, tt.was), name)
	}
}
