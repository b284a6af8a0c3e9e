package senderdomain_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/dnslookup"
	"github.com/postrider/postrider/internal/dnstest"
	"github.com/postrider/postrider/internal/senderdomain"
)

// setup starts a DNS and a client of it. The client waits longer than a slow machine takes.
func setup(t *testing.T) (*dnstest.Net, *dnslookup.Client) {
	t.Helper()
	n := dnstest.New(t)
	c, err := dnslookup.New([]string{n.Recursive}, dnslookup.Options{
		TryTimeout: time.Minute, LookupTimeout: 5 * time.Minute,
		AllowedNetworks: []netip.Prefix{dnstest.Loopback}, Port: n.Port,
	})
	require.NoError(t, err)
	return n, c
}

// needs has every kind of record.
func needs(domain string) senderdomain.Needs {
	return senderdomain.Needs{Domain: domain, RSA: rsa, Ed25519: ed25519, BounceHost: "b.host.example"}
}

// pick is the first record of a kind.
func pick(t *testing.T, records []senderdomain.Record, kind senderdomain.Kind) senderdomain.Record {
	t.Helper()
	at := slices.IndexFunc(records, func(r senderdomain.Record) bool { return r.Kind == kind })
	require.GreaterOrEqual(t, at, 0, kind)
	return records[at]
}

// txt is a TXT record of a zone file, in strings of at most 50 octets.
func txt(name, text string) string {
	line := name + " IN TXT"
	for part := range slices.Chunk([]byte(text), 50) {
		line += ` "`
		for _, octet := range part { // quoted as RFC 1035, section 5.1, has it
			if octet >= ' ' && octet <= '~' && octet != '"' && octet != '\\' {
				line += string(octet)
			} else {
				line += fmt.Sprintf(`\%03d`, octet)
			}
		}
		line += `"`
	}
	return line
}

func TestARecordAsItHasToBe(t *testing.T) {
	t.Parallel()
	n, c := setup(t)
	n.Zone(t, "host.example", []string{"ns.host.example"}, `b IN A 192.0.2.1`)
	n.Zone(t, "x.example", []string{"ns1.host.example", "ns2.host.example"},
		txt("pr1r._domainkey", rsa.Value), txt("pr1e._domainkey", ed25519.Value),
		`bounce IN CNAME b.host.example.`, txt("_dmarc", "v=DMARC1; p=reject; rua=mailto:a@x.example"))
	records := senderdomain.Check(t.Context(), c, senderdomain.Records(needs("x.example")))
	require.Len(t, records, 4)
	for _, r := range records {
		require.Equal(t, senderdomain.Verified, r.Status, r.FQDN, r.Problem)
		require.Empty(t, r.Problem)
		require.Empty(t, r.Remedy)
		require.Len(t, r.Found, 1)
	}
	require.Equal(t, senderdomain.Passed, senderdomain.ResultOf(records))
}

func TestMistakesAreToldApart(t *testing.T) {
	t.Parallel()
	chunked := func(s string) string { return key[:100] + s + key[100:] }
	revoked := "v=DKIM1; p="
	const verified = senderdomain.Problem("")
	const bounce, dkim, dmarc = senderdomain.ReturnPath, senderdomain.DKIM, senderdomain.DMARC
	for name, of := range map[string]struct {
		kind  senderdomain.Kind
		want  senderdomain.Problem
		lines []string
		says  string // in the remedy
	}{
		"nothing":                         {dkim, senderdomain.Missing, nil, "pr1r._domainkey.x.example"},
		"other names below":               {dkim, senderdomain.Missing, []string{txt("a.pr1r._domainkey", "x")}, ""},
		"order, spaces and other tags":    {dkim, verified, []string{txt("pr1r._domainkey", "p = "+key+" ; n=note;t=s;s=email; h=sha1:sha256 ;k=rsa")}, ""},
		"split elsewhere":                 {dkim, verified, []string{`pr1r._domainkey IN TXT "v=DKIM1;" " k=rsa; p=" "` + key[:200] + `" "` + key[200:] + `"`}, ""},
		"through a CNAME":                 {dkim, verified, []string{"pr1r._domainkey IN CNAME a", "a IN CNAME b", txt("b", rsa.Value)}, ""},
		"zone doubled":                    {dkim, senderdomain.NameDoubled, []string{txt("pr1r._domainkey.x.example", rsa.Value)}, `"pr1r._domainkey"`},
		"zone doubled, with quotes":       {dkim, senderdomain.NameDoubled, []string{txt("pr1r._domainkey.x.example", `"`+rsa.Value+`"`)}, ""},
		"zone doubled beside an old key":  {dkim, senderdomain.NameDoubled, []string{txt("pr1r._domainkey", "v=DKIM1; p=AAAA"), txt("pr1r._domainkey.x.example", rsa.Value)}, ""},
		"zone doubled below a wildcard":   {dkim, senderdomain.NameDoubled, []string{`* IN TXT "v=spf1 -all"`, txt("pr1r._domainkey.x.example", rsa.Value)}, ""},
		"zone doubled with another value": {dkim, senderdomain.Missing, []string{txt("pr1r._domainkey.x.example", "v=DKIM1; p=AAAA")}, ""},
		"quotes around":                   {dkim, senderdomain.ValueMangled, []string{txt("pr1r._domainkey", `"`+rsa.Value+`"`)}, "quotes"},
		"quotes inside":                   {dkim, senderdomain.ValueMangled, []string{txt("pr1r._domainkey", "v=DKIM1; k=rsa; p="+chunked(`" "`))}, ""},
		"quotes of a word processor":      {dkim, senderdomain.ValueMangled, []string{txt("pr1r._domainkey", "“"+rsa.Value+"”")}, ""},
		"a line break inside":             {dkim, senderdomain.ValueMangled, []string{txt("pr1r._domainkey", "v=DKIM1; k=rsa; p="+chunked("\n"))}, ""},
		"a space inside":                  {dkim, senderdomain.ValueMangled, []string{txt("pr1r._domainkey", "v=DKIM1; k=rsa; p="+chunked(" "))}, ""},
		"backslashes":                     {dkim, senderdomain.ValueMangled, []string{txt("pr1r._domainkey", `v=DKIM1\; k=rsa\; p=`+key)}, ""},
		"the first half":                  {dkim, senderdomain.ValueTruncated, []string{txt("pr1r._domainkey", rsa.Value[:255])}, "410 characters"},
		"two records":                     {dkim, senderdomain.SeveralRecords, []string{txt("pr1r._domainkey", rsa.Value), txt("pr1r._domainkey", "v=DKIM1; p=AAAA")}, "remove the others"},
		"another key":                     {dkim, senderdomain.OtherValue, []string{txt("pr1r._domainkey", "v=DKIM1; p=AAAA")}, "Replace"},
		"another algorithm":               {dkim, senderdomain.OtherValue, []string{txt("pr1r._domainkey", "v=DKIM1; k=ed25519; p="+key)}, "k=ed25519 is another algorithm than rsa"},
		"not for sha256":                  {dkim, senderdomain.OtherValue, []string{txt("pr1r._domainkey", "h=sha1; p="+key)}, "h=sha1 does not allow sha256"},
		"not for e-mail":                  {dkim, senderdomain.OtherValue, []string{txt("pr1r._domainkey", "s=tlsrpt; p="+key)}, "s=tlsrpt says that the key is not for mail"},
		"a tag twice":                     {dkim, senderdomain.OtherValue, []string{txt("pr1r._domainkey", "p="+key+"; p="+key)}, "it has the tag p= twice"},
		"an algorithm twice":              {dkim, senderdomain.OtherValue, []string{txt("pr1r._domainkey", "v=DKIM1; k=rsa; k=rsa; p="+key)}, "it has the tag k= twice"},
		"the version last":                {dkim, senderdomain.OtherValue, []string{txt("pr1r._domainkey", "k=rsa; p="+key+"; v=DKIM1")}, "v=DKIM1 is not its first tag"},
		"a word behind the key":           {dkim, senderdomain.OtherValue, []string{txt("pr1r._domainkey", rsa.Value+"; hello")}, `"hello" is no tag`},
		"for tests":                       {dkim, senderdomain.OtherValue, []string{txt("pr1r._domainkey", "v=DKIM1; t=y:s; p="+key)}, "t=y says"},
		"no tags":                         {dkim, senderdomain.OtherValue, []string{txt("pr1r._domainkey", "hello")}, ""},
		"revoked":                         {dkim, senderdomain.KeyRevoked, []string{txt("pr1r._domainkey", revoked)}, "revokes"},
		"a CNAME to nothing":              {dkim, senderdomain.WrongType, []string{"pr1r._domainkey IN CNAME nothing"}, "CNAME nothing.x.example"},
		"a CNAME loop":                    {dkim, senderdomain.CNAMELoop, []string{"pr1r._domainkey IN CNAME a", "a IN CNAME pr1r._domainkey"}, "pr1r._domainkey.x.example → a.x.example"},
		"a wildcard":                      {dkim, senderdomain.Wildcard, []string{`* IN TXT "v=spf1 -all"`}, "wildcard"},
		"a wildcard CNAME":                {dkim, senderdomain.Wildcard, []string{`* IN CNAME x.example.`}, ""},
		"no wildcard for another sibling": {dkim, senderdomain.OtherValue, []string{`* IN TXT "v=spf1 -all"`, txt("pr1r._domainkey", "v=DKIM1; p=AAAA")}, ""},

		"no CNAME":                       {bounce, senderdomain.Missing, nil, "CNAME record at bounce.x.example"},
		"a CNAME chain":                  {bounce, verified, []string{`bounce IN CNAME a`, `a IN CNAME b.host.example.`}, ""},
		"another CNAME":                  {bounce, senderdomain.OtherValue, []string{`bounce IN CNAME other.host.example.`}, ""},
		"the zone at the target":         {bounce, senderdomain.ValueDoubled, []string{`bounce IN CNAME b.host.example`}, "b.host.example."},
		"a CNAME with the zone doubled":  {bounce, senderdomain.NameDoubled, []string{`bounce.x.example IN CNAME b.host.example.`}, `"bounce"`},
		"an address":                     {bounce, senderdomain.Proxied, []string{`bounce IN A 192.0.2.1`}, "proxy"},
		"an IPv6 address":                {bounce, senderdomain.Proxied, []string{`bounce IN AAAA 2001:db8::1`}, ""},
		"a text":                         {bounce, senderdomain.WrongType, []string{`bounce IN TXT "b.host.example"`}, "TXT b.host.example"},
		"an MX record":                   {bounce, senderdomain.WrongType, []string{`bounce IN MX 1 b.host.example.`}, "If something uses them, leave them"},
		"a CNAME in a circle":            {bounce, senderdomain.CNAMELoop, []string{`bounce IN CNAME a`, `a IN CNAME bounce`}, ""},
		"a wildcard address":             {bounce, senderdomain.Wildcard, []string{`* IN A 192.0.2.1`}, ""},
		"a wildcard CNAME of the bounce": {bounce, senderdomain.Wildcard, []string{`* IN CNAME www.host.example.`}, ""},
		"a wildcard that is right":       {bounce, verified, []string{`* IN CNAME b.host.example.`}, ""},

		"no DMARC":                  {dmarc, senderdomain.Missing, []string{`_dmarc IN TXT "hello"`}, ""},
		"a stricter DMARC":          {dmarc, verified, []string{`_dmarc IN TXT "v=DMARC1;p=Quarantine"`}, ""},
		"a DMARC of a CNAME":        {dmarc, verified, []string{`_dmarc IN CNAME a`, `a IN TXT "v=DMARC1; p=reject"`}, ""},
		"DMARC beside another text": {dmarc, verified, []string{`_dmarc IN TXT "other"`, `_dmarc IN TXT "v=DMARC1; p=none"`}, ""},
		"another version of DMARC":  {dmarc, senderdomain.Missing, []string{`_dmarc IN TXT "v=DMARC10; p=none"`}, ""},
		"quotes in a DMARC":         {dmarc, senderdomain.ValueMangled, []string{txt("_dmarc", `"v=DMARC1; p=none"`)}, ""},
		"two DMARC records":         {dmarc, senderdomain.SeveralRecords, []string{`_dmarc IN TXT "v=DMARC1; p=reject"`, `_dmarc IN TXT "v=DMARC1; p=none"`}, "strictest"},
		"DMARC without policy":      {dmarc, senderdomain.OtherValue, []string{`_dmarc IN TXT "v=DMARC1; rua=mailto:a@x.example"`}, "has no policy. Add one"},
		"DMARC with another policy": {dmarc, senderdomain.OtherValue, []string{`_dmarc IN TXT "v=DMARC1; p=maybe"`}, "p=maybe is no policy"},
		"DMARC with two policies":   {dmarc, senderdomain.OtherValue, []string{`_dmarc IN TXT "v=DMARC1; p=none; p=reject"`}, "it has the tag p= twice: keep one"},
		"DMARC with a word":         {dmarc, senderdomain.OtherValue, []string{`_dmarc IN TXT "v=DMARC1; p=none; foo"`}, `"foo" is no tag`},
		"DMARC in small letters":    {dmarc, senderdomain.OtherValue, []string{`_dmarc IN TXT "v=dmarc1; p=none"`}, "v=dmarc1 has to be v=DMARC1"},
		"DMARC without a semicolon": {dmarc, senderdomain.OtherValue, []string{`_dmarc IN TXT "v=DMARC1 p=none"`}, "a semicolon is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, c := setup(t)
			n.Zone(t, "host.example", []string{"ns.host.example"}, `b IN A 192.0.2.1`)
			n.Zone(t, "x.example", []string{"ns1.host.example", "ns2.host.example"}, of.lines...)
			r := pick(t, senderdomain.Records(needs("x.example")), of.kind)
			got := senderdomain.Check(t.Context(), c, []senderdomain.Record{r})[0]
			require.Equal(t, of.want, got.Problem, "%s; found %q", got.Remedy, got.Found)
			status := senderdomain.Failed
			switch of.want {
			case verified:
				status = senderdomain.Verified
			case senderdomain.Missing:
				status = senderdomain.Pending
			}
			require.Equal(t, status, got.Status)
			require.Equal(t, of.want == verified, got.Remedy == "")
			require.Contains(t, got.Remedy, of.says)
			if of.kind == dmarc {
				require.NotContains(t, got.Remedy, "value shown")
			}
			got.Required = true
			require.Equal(t, of.want == verified, senderdomain.ResultOf([]senderdomain.Record{got}) == senderdomain.Passed)
			require.Equal(t, of.want != verified, senderdomain.ResultOf([]senderdomain.Record{got}) == senderdomain.Missed)
		})
	}
}

func TestRecordsOfASubdomain(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]struct {
		want  senderdomain.Problem
		lines []string
		says  string
	}{
		"the subdomain left out": {senderdomain.NameIncomplete, []string{txt("pr1r._domainkey", rsa.Value)}, `"pr1r._domainkey.mail"`},
		"the zone appended":      {senderdomain.NameDoubled, []string{txt("pr1r._domainkey.mail.x.example", rsa.Value)}, `"pr1r._domainkey.mail"`},
		"the subdomain appended": {senderdomain.NameDoubled, []string{txt("pr1r._domainkey.mail.x.example.mail", rsa.Value)}, `"pr1r._domainkey.mail"`},
		"right":                  {"", []string{txt("pr1r._domainkey.mail", rsa.Value)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, c := setup(t)
			n.Zone(t, "x.example", []string{"ns1.host.example"}, of.lines...)
			r := pick(t, senderdomain.Check(t.Context(), c, senderdomain.Records(needs("mail.x.example"))), senderdomain.DKIM)
			require.Equal(t, of.want, r.Problem, r.Remedy)
			require.Contains(t, r.Remedy, of.says)
		})
	}
}

func TestADMARCPolicyAboveASubdomainIsEnough(t *testing.T) {
	t.Parallel()
	n, c := setup(t)
	n.Zone(t, "x.example", []string{"ns1.host.example"}, `_dmarc IN TXT "v=DMARC1; p=reject"`)
	r := pick(t, senderdomain.Check(t.Context(), c, senderdomain.Records(needs("mail.x.example"))), senderdomain.DMARC)
	require.Equal(t, senderdomain.Verified, r.Status)
	require.Equal(t, []string{"v=DMARC1; p=reject"}, r.Found)

	n.Zone(t, "x.example", []string{"ns1.host.example"})
	r = pick(t, senderdomain.Check(t.Context(), c, senderdomain.Records(needs("mail.x.example"))), senderdomain.DMARC)
	require.Equal(t, senderdomain.Missing, r.Problem)
	require.Equal(t, "_dmarc.mail.x.example", r.FQDN)
}

func TestALaggingSecondary(t *testing.T) {
	t.Parallel()
	n, c := setup(t)
	n.Zone(t, "x.example", []string{"ns1.host.example", "ns2.host.example"}, txt("pr1r._domainkey", rsa.Value))
	n.Server(t, "ns2.host.example").Zone(t, "x.example", txt("pr1r._domainkey", "v=DKIM1; p=AAAA"))
	check := func() senderdomain.Record {
		return pick(t, senderdomain.Check(t.Context(), c, senderdomain.Records(needs("x.example"))), senderdomain.DKIM)
	}
	r := check()
	require.Equal(t, senderdomain.NotOnAllServers, r.Problem)
	require.Equal(t, senderdomain.Pending, r.Status)
	require.Contains(t, r.Remedy, "ns2.host.example (127.0.0.3)")
	require.NotContains(t, r.Remedy, "ns1.host.example")
	require.Equal(t, []string{rsa.Value}, r.Found)
	require.Equal(t, senderdomain.Unknown, senderdomain.ResultOf([]senderdomain.Record{r}))

	// One that does not answer is no server that lacks the record.
	n.Server(t, "ns2.host.example").SetFault(dnstest.Servfail)
	require.Equal(t, senderdomain.Verified, check().Status)

	// Without the record at any: the server with another value says more than one without.
	n.Server(t, "ns2.host.example").SetFault(dnstest.None)
	n.Server(t, "ns1.host.example").Zone(t, "x.example")
	require.Equal(t, senderdomain.OtherValue, check().Problem)
}

func TestTemporaryFailuresAreNoMiss(t *testing.T) {
	t.Parallel()
	for _, fault := range []dnstest.Fault{dnstest.Servfail, dnstest.Refused, dnstest.Lame, dnstest.Malformed} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			n, c := setup(t)
			n.Zone(t, "x.example", []string{"ns1.host.example"})
			n.Server(t, "ns1.host.example").SetFault(fault)
			records := senderdomain.Check(t.Context(), c, senderdomain.Records(needs("x.example")))
			for _, r := range records {
				require.Equal(t, senderdomain.TemporaryFailure, r.Status)
				require.Equal(t, senderdomain.Unavailable, r.Problem)
				require.Contains(t, r.Remedy, "ns1.host.example")
				require.Empty(t, r.Found)
			}
			require.Equal(t, senderdomain.Unknown, senderdomain.ResultOf(records))
		})
	}
}

func TestADomainThatDoesNotExist(t *testing.T) {
	t.Parallel()
	n, c := setup(t)
	n.Zone(t, "example", []string{"ns1.host.example"})
	records := senderdomain.Check(t.Context(), c, senderdomain.Records(needs("x.example")))
	for _, r := range records {
		require.Equal(t, senderdomain.Missing, r.Problem)
	}
	require.Equal(t, senderdomain.Missed, senderdomain.ResultOf(records))
}

func TestAnInternationalDomain(t *testing.T) {
	t.Parallel()
	n, c := setup(t)
	domain, err := senderdomain.Parse("Bücher.example.")
	require.NoError(t, err)
	n.Zone(t, "xn--bcher-kva.example", []string{"ns1.host.example"}, txt("pr1r._domainkey", rsa.Value))
	r := pick(t, senderdomain.Check(t.Context(), c, senderdomain.Records(needs(domain))), senderdomain.DKIM)
	require.Equal(t, senderdomain.Verified, r.Status, r.Remedy)
}

func TestAKeyThatIsNotGivenIsNeverVerified(t *testing.T) {
	t.Parallel()
	n, c := setup(t)
	n.Zone(t, "x.example", []string{"ns1.host.example"}, `pr1r._domainkey IN TXT "v=DKIM1; p="`)
	records := senderdomain.Records(senderdomain.Needs{Domain: "x.example", RSA: senderdomain.Key{Selector: "pr1r"}})
	require.Equal(t, senderdomain.KeyRevoked, pick(t, senderdomain.Check(t.Context(), c, records), senderdomain.DKIM).Problem)
}

func TestWhatIsFoundIsBoundedAndStorable(t *testing.T) {
	t.Parallel()
	n, c := setup(t)
	lines := []string{txt("pr1r._domainkey", "\x00\xff\x1b"+strings.Repeat("x", 2000)), `bounce IN TXT "\000\255"`}
	for i := range 15 {
		lines = append(lines, txt("pr1r._domainkey", fmt.Sprint(i)))
	}
	n.Zone(t, "x.example", []string{"ns1.host.example"}, lines...)
	records := senderdomain.Check(t.Context(), c, senderdomain.Records(needs("x.example")))
	key := pick(t, records, senderdomain.DKIM)
	require.Equal(t, senderdomain.SeveralRecords, key.Problem)
	require.Len(t, key.Found, 10)
	require.Len(t, key.Found[0], 1024)
	bounce := pick(t, records, senderdomain.ReturnPath)
	require.Equal(t, []string{"TXT \ufffd\ufffd"}, bounce.Found)
	for _, r := range records {
		for _, text := range append(r.Found, r.Remedy) {
			require.True(t, utf8.ValidString(text) && !strings.Contains(text, "\x00"), "%q", text)
		}
		require.LessOrEqual(t, len(r.Remedy), 2000)
	}
}

func TestResultOf(t *testing.T) {
	t.Parallel()
	verified := senderdomain.Record{Required: true, Status: senderdomain.Verified}
	missing := senderdomain.Record{Required: true, Status: senderdomain.Pending, Problem: senderdomain.Missing}
	lagging := senderdomain.Record{Required: true, Status: senderdomain.Pending, Problem: senderdomain.NotOnAllServers}
	wrong := senderdomain.Record{Required: true, Status: senderdomain.Failed, Problem: senderdomain.OtherValue}
	temporary := senderdomain.Record{Required: true, Status: senderdomain.TemporaryFailure, Problem: senderdomain.Unavailable}
	advice := senderdomain.Record{Status: senderdomain.Failed, Problem: senderdomain.OtherValue}
	notStarted := senderdomain.Record{Required: true, Status: senderdomain.NotStarted}
	for _, of := range []struct {
		want    senderdomain.Result
		records []senderdomain.Record
	}{
		{senderdomain.Unknown, nil},
		{senderdomain.Unknown, []senderdomain.Record{advice}},
		{senderdomain.Unknown, []senderdomain.Record{notStarted}},
		{senderdomain.Passed, []senderdomain.Record{verified, advice}},
		{senderdomain.Passed, []senderdomain.Record{verified, verified}},
		{senderdomain.Missed, []senderdomain.Record{verified, missing}},
		{senderdomain.Missed, []senderdomain.Record{temporary, missing}},
		{senderdomain.Missed, []senderdomain.Record{lagging, wrong}},
		{senderdomain.Unknown, []senderdomain.Record{verified, temporary}},
		{senderdomain.Unknown, []senderdomain.Record{verified, lagging}},
	} {
		require.Equal(t, of.want, senderdomain.ResultOf(of.records), "%v", of.records)
	}
}
