package dnslookup_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/dnslookup"
	"github.com/postrider/postrider/internal/dnstest"
)

// setup starts a DNS and a client of it. The client waits longer than a slow machine takes.
func setup(t *testing.T, change ...func(*dnslookup.Options)) (*dnstest.Net, *dnslookup.Client) {
	t.Helper()
	n := dnstest.New(t)
	options := dnslookup.Options{
		TryTimeout: time.Minute, LookupTimeout: 5 * time.Minute,
		AllowedNetworks: []netip.Prefix{dnstest.Loopback}, Port: n.Port,
	}
	for _, f := range change {
		f(&options)
	}
	c, err := dnslookup.New([]string{n.Recursive}, options)
	require.NoError(t, err)
	return n, c
}

var one = []string{"ns1.host.example"}

func TestAnswersOfAnAuthoritativeServer(t *testing.T) {
	t.Parallel()
	n, c := setup(t)
	long := strings.Repeat("a", 200)
	n.Zone(t, "x.example", one,
		`@ IN TXT "one record"`,
		`split IN TXT "`+long+`" "`+long+`"`,
		`several IN TXT "first"`, `several IN TXT "second"`,
		`escaped IN TXT "say \"hi\" \\ \200;"`,
		`alias IN CNAME Target.Host.Example.`,
		`mail IN MX 20 MX.x.example.`,
		`host IN A 192.0.2.7`, `host IN AAAA 2001:db8::7`,
		`below.empty IN A 192.0.2.8`,
	)
	for _, of := range []struct {
		name    string
		typ     dnslookup.Type
		outcome dnslookup.Outcome
		values  []string
	}{
		{"x.example", dnslookup.TXT, dnslookup.Found, []string{"one record"}},
		{"X.Example.", dnslookup.TXT, dnslookup.Found, []string{"one record"}},
		{"split.x.example", dnslookup.TXT, dnslookup.Found, []string{long + long}},
		{"several.x.example", dnslookup.TXT, dnslookup.Found, []string{"first", "second"}},
		{"escaped.x.example", dnslookup.TXT, dnslookup.Found, []string{"say \"hi\" \\ \xc8;"}},
		{"alias.x.example", dnslookup.CNAME, dnslookup.Found, []string{"target.host.example"}},
		{"mail.x.example", dnslookup.MX, dnslookup.Found, []string{"mx.x.example"}},
		{"host.x.example", dnslookup.A, dnslookup.Found, []string{"192.0.2.7"}},
		{"host.x.example", dnslookup.AAAA, dnslookup.Found, []string{"2001:db8::7"}},
		{"host.x.example", dnslookup.TXT, dnslookup.NoSuchRecord, nil},
		{"empty.x.example", dnslookup.TXT, dnslookup.NoSuchRecord, nil},
		{"nothing.x.example", dnslookup.TXT, dnslookup.NoSuchName, nil},
	} {
		t.Run(of.name+" "+string(of.typ), func(t *testing.T) {
			t.Parallel()
			a := c.Lookup(t.Context(), of.name, of.typ)
			require.Equal(t, of.outcome, a.Outcome, a.Reason)
			require.Equal(t, of.values, a.Values())
			require.True(t, a.Authoritative)
			require.True(t, a.Definite())
			require.Equal(t, "ns1.host.example (127.0.0.2)", a.Server)
			require.Equal(t, "x.example", a.Zone)
			require.Equal(t, of.outcome == dnslookup.Found, a.Reason == "")
			if of.typ == dnslookup.MX {
				require.EqualValues(t, 20, a.Records[0].Priority)
				require.Equal(t, 5*time.Minute, a.Records[0].TTL)
			}
		})
	}
}

func TestFailuresAreTemporary(t *testing.T) {
	t.Parallel()
	for fault, reason := range map[dnstest.Fault]string{
		dnstest.Servfail: "SERVFAIL", dnstest.Refused: "REFUSED", dnstest.Lame: "lame", dnstest.Malformed: "malformed", dnstest.Silent: "no answer within",
	} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			n, c := setup(t, func(o *dnslookup.Options) {
				if fault == dnstest.Silent {
					o.TryTimeout = 300 * time.Millisecond
				}
			})
			n.Zone(t, "x.example", one, `@ IN TXT "there"`)
			n.Server(t, one[0]).SetFault(fault)
			a := c.Lookup(t.Context(), "x.example", dnslookup.TXT)
			require.Equal(t, dnslookup.TemporaryFailure, a.Outcome)
			require.False(t, a.Definite())
			require.Empty(t, a.Records)
			if fault != dnstest.Silent { // there, the recursive server may be slow as well
				require.Contains(t, a.Reason, "ns1.host.example (127.0.0.2)")
			}
			require.Contains(t, a.Reason, reason)
			all := c.LookupAll(t.Context(), "x.example", dnslookup.TXT)
			require.Len(t, all, 1)
			require.Equal(t, dnslookup.TemporaryFailure, all[0].Outcome)
		})
	}
}

func TestAnotherServerAnswersForOneThatDoesNot(t *testing.T) {
	t.Parallel()
	for _, fault := range []dnstest.Fault{dnstest.Servfail, dnstest.Refused, dnstest.Lame, dnstest.Malformed} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			n, c := setup(t)
			n.Zone(t, "x.example", []string{"ns1.host.example", "ns2.host.example"}, `@ IN TXT "there"`)
			n.Server(t, "ns1.host.example").SetFault(fault)
			a := c.Lookup(t.Context(), "x.example", dnslookup.TXT)
			require.Equal(t, []string{"there"}, a.Values(), a.Reason)
			require.Equal(t, "ns2.host.example (127.0.0.3)", a.Server)

			byServer := map[string]dnslookup.Outcome{}
			for _, a := range c.LookupAll(t.Context(), "x.example", dnslookup.TXT) {
				byServer[a.Server] = a.Outcome
			}
			require.Equal(t, map[string]dnslookup.Outcome{
				"ns1.host.example (127.0.0.2)": dnslookup.TemporaryFailure, "ns2.host.example (127.0.0.3)": dnslookup.Found,
			}, byServer)
		})
	}
}

func TestAServerFromBeforeEDNSAnswers(t *testing.T) {
	t.Parallel()
	n, c := setup(t)
	n.Zone(t, "x.example", one, `@ IN TXT "there"`)
	n.Server(t, one[0]).SetFault(dnstest.NoEDNS)
	require.Equal(t, []string{"there"}, c.Lookup(t.Context(), "x.example", dnslookup.TXT).Values())
}

func TestAnAnswerWithAnotherIDDoesNotCount(t *testing.T) {
	t.Parallel()
	n, c := setup(t)
	n.Zone(t, "x.example", one, `@ IN TXT "there"`)
	n.Server(t, one[0]).SetFault(dnstest.Forged)
	require.Equal(t, []string{"there"}, c.Lookup(t.Context(), "x.example", dnslookup.TXT).Values())
}

func TestATruncatedAnswerIsReadOverTCP(t *testing.T) {
	t.Parallel()
	n, c := setup(t)
	var lines, want []string
	for i := range 20 {
		value := fmt.Sprintf("%02d%s", i, strings.Repeat("x", 200))
		lines, want = append(lines, `@ IN TXT "`+value+`"`), append(want, value)
	}
	n.Zone(t, "x.example", one, lines...)
	a := c.Lookup(t.Context(), "x.example", dnslookup.TXT)
	require.Equal(t, want, a.Values(), a.Reason)
	require.Equal(t, []string{"udp x.example. TXT", "tcp x.example. TXT"}, n.Server(t, one[0]).Queries())
}

func TestAnAnswerOverTheLimitIsATemporaryFailure(t *testing.T) {
	t.Parallel()
	n, c := setup(t)
	var lines []string
	for i := range 100 {
		lines = append(lines, fmt.Sprintf(`@ IN TXT "%03d%s"`, i, strings.Repeat("x", 200)))
	}
	n.Zone(t, "x.example", one, lines...)
	a := c.Lookup(t.Context(), "x.example", dnslookup.TXT)
	require.Equal(t, dnslookup.TemporaryFailure, a.Outcome)
	require.Contains(t, a.Reason, "limit 16384")
}

func TestCNAMEsAreFollowed(t *testing.T) {
	t.Parallel()
	n, c := setup(t)
	lines := []string{
		`one IN CNAME two`, `two IN CNAME there.y.example.`,
		`dangling IN CNAME nothing.y.example.`,
		`untyped IN CNAME address.y.example.`,
		`loop IN CNAME loop2`, `loop2 IN CNAME loop`,
		`self IN CNAME self`,
		`far IN CNAME far.y.example.`,
	}
	for i := range 9 {
		lines = append(lines, fmt.Sprintf("c%d IN CNAME c%d", i, i+1))
	}
	n.Zone(t, "x.example", one, append(lines, `c9 IN TXT "end"`)...)
	n.Zone(t, "y.example", []string{"ns2.host.example"},
		`there IN TXT "end"`, `address IN A 192.0.2.1`, `far IN CNAME far.x.example.`)
	// x's server has data of y, which do not count.
	n.Server(t, one[0]).Zone(t, "y.example", `there IN TXT "forged"`)

	for name, of := range map[string]struct {
		outcome dnslookup.Outcome
		values  []string
		chain   int
		loop    bool
	}{
		"one":      {dnslookup.Found, []string{"end"}, 2, false},
		"dangling": {dnslookup.NoSuchName, nil, 1, false},
		"untyped":  {dnslookup.NoSuchRecord, nil, 1, false},
		"loop":     {dnslookup.NoSuchRecord, nil, 2, true},
		"self":     {dnslookup.NoSuchRecord, nil, 1, true},
		"far":      {dnslookup.NoSuchRecord, nil, 2, true},
		"c1":       {dnslookup.Found, []string{"end"}, 8, false},
		"c0":       {dnslookup.NoSuchRecord, nil, 9, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := c.Lookup(t.Context(), name+".x.example", dnslookup.TXT)
			require.Equal(t, of.outcome, a.Outcome, a.Reason)
			require.Equal(t, of.values, a.Values())
			require.Len(t, a.Chain, of.chain, a.Chain)
			require.Equal(t, of.loop, a.Loop)
			require.Equal(t, "x.example", a.Zone)
			require.Equal(t, []dnslookup.Answer{a}, c.LookupAll(t.Context(), name+".x.example", dnslookup.TXT))
		})
	}
}

func TestADelegationIsFollowed(t *testing.T) {
	t.Parallel()
	n, c := setup(t)
	n.Zone(t, "example", one, `x IN NS ns2.host.example.`, `circle IN NS ns1.host.example.`)
	// The recursive server does not know the delegation yet.
	n.Server(t, "ns2.host.example").Zone(t, "x.example", `@ IN TXT "there"`)
	a := c.Lookup(t.Context(), "x.example", dnslookup.TXT)
	require.Equal(t, []string{"there"}, a.Values(), a.Reason)
	require.Equal(t, "x.example", a.Zone)
	a = c.Lookup(t.Context(), "other.example", dnslookup.TXT)
	require.Equal(t, dnslookup.NoSuchName, a.Outcome, "the top-level domain's server knows")
	a = c.Lookup(t.Context(), "circle.example", dnslookup.TXT)
	require.Equal(t, dnslookup.TemporaryFailure, a.Outcome, "a server that delegates to itself")
}

func TestTheRecursiveServerAnswersWhereTheZonesOwnMayNotBeAsked(t *testing.T) {
	t.Parallel()
	for address, reason := range map[string]string{"127.0.0.2": "loopback", "10.0.0.1": "private", "169.254.169.254": "link-local", "fd00::1": "private"} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			n, c := setup(t, func(o *dnslookup.Options) { o.AllowedNetworks = nil })
			n.Zone(t, "x.example", one, `@ IN TXT "there"`, `alias IN CNAME x.example.`)
			n.SetAddress(one[0], address)
			for _, name := range []string{"x.example", "alias.x.example"} {
				a := c.Lookup(t.Context(), name, dnslookup.TXT)
				require.Equal(t, []string{"there"}, a.Values(), a.Reason)
				require.False(t, a.Authoritative)
				require.Equal(t, n.Recursive, a.Server)
				require.Equal(t, []dnslookup.Answer{a}, c.LookupAll(t.Context(), name, dnslookup.TXT))
			}
			require.Equal(t, dnslookup.NoSuchName, c.Lookup(t.Context(), "no.x.example", dnslookup.TXT).Outcome)
			require.Empty(t, n.Server(t, one[0]).Queries())

			n.SetFault(dnstest.Servfail)
			a := c.Lookup(t.Context(), "x.example", dnslookup.TXT)
			require.Equal(t, dnslookup.TemporaryFailure, a.Outcome)
			n.SetFault(dnstest.None)
			n.Server(t, one[0]).SetFault(dnstest.Refused) // which the recursive server then reports as SERVFAIL
			a = c.Lookup(t.Context(), "x.example", dnslookup.TXT)
			require.Equal(t, dnslookup.TemporaryFailure, a.Outcome)
			require.Contains(t, a.Reason, "blocked ("+reason+")")
			require.NotContains(t, a.Reason, address)
		})
	}
}

func TestLookupAllShowsALaggingSecondary(t *testing.T) {
	t.Parallel()
	n, c := setup(t)
	n.Zone(t, "x.example", []string{"ns1.host.example", "ns2.host.example", "ns3.host.example"}, `new IN TXT "there"`)
	n.Server(t, "ns2.host.example").Zone(t, "x.example", `old IN TXT "there"`)
	byServer := map[string]dnslookup.Outcome{}
	for _, a := range c.LookupAll(t.Context(), "new.x.example", dnslookup.TXT) {
		byServer[a.Server] = a.Outcome
	}
	require.Equal(t, map[string]dnslookup.Outcome{
		"ns1.host.example (127.0.0.2)": dnslookup.Found,
		"ns2.host.example (127.0.0.3)": dnslookup.NoSuchName,
		"ns3.host.example (127.0.0.4)": dnslookup.Found,
	}, byServer)
}

func TestRecursiveServersAreAskedInTurn(t *testing.T) {
	t.Parallel()
	n, broken := dnstest.New(t), dnstest.New(t)
	broken.SetFault(dnstest.Servfail)
	n.Zone(t, "x.example", one, `@ IN TXT "there"`)
	c, err := dnslookup.New([]string{broken.Recursive, n.Recursive}, dnslookup.Options{TryTimeout: time.Minute, LookupTimeout: 5 * time.Minute})
	require.NoError(t, err)
	a := c.Lookup(t.Context(), "x.example", dnslookup.TXT)
	require.Equal(t, []string{"there"}, a.Values(), a.Reason)
	require.Equal(t, n.Recursive, a.Server)
}

func TestALookupHasAnEnd(t *testing.T) {
	t.Parallel()
	n, c := setup(t)
	n.Zone(t, "x.example", one, `@ IN TXT "there"`)

	ended, end := context.WithCancel(t.Context())
	end()
	a := c.Lookup(ended, "x.example", dnslookup.TXT)
	require.Equal(t, dnslookup.TemporaryFailure, a.Outcome)

	// Its time is over while the servers are silent.
	n, c = setup(t, func(o *dnslookup.Options) { o.LookupTimeout = 300 * time.Millisecond })
	n.SetFault(dnstest.Silent)
	a = c.Lookup(t.Context(), "x.example", dnslookup.TXT)
	require.Equal(t, dnslookup.TemporaryFailure, a.Outcome)

	// Five delegations, each to many servers without an address and to one with.
	n, c = setup(t)
	n.Zone(t, "example", one)
	zone := "example"
	for i := range 5 {
		lines := []string{`@ IN TXT "there"`}
		for k := range 12 {
			lines = append(lines, fmt.Sprintf("a IN NS ns%d.nowhere.example.", k))
		}
		host := fmt.Sprintf("ns%d.host.example.", i+2)
		n.Server(t, fmt.Sprintf("ns%d.host.example.", i+1)).Zone(t, zone, append(lines, "a IN NS "+host)...)
		zone = "a." + zone
		n.Server(t, host).Zone(t, zone, `@ IN TXT "there"`)
	}
	a = c.Lookup(t.Context(), "a.a.a.example", dnslookup.TXT)
	require.Equal(t, []string{"there"}, a.Values(), a.Reason)
	require.Equal(t, dnslookup.TemporaryFailure, c.Lookup(t.Context(), zone, dnslookup.TXT).Outcome)
	require.Empty(t, n.Server(t, "ns6.host.example").Queries())
}

func TestAClientServesManyGoroutines(t *testing.T) {
	t.Parallel()
	n, c := setup(t)
	n.Zone(t, "x.example", []string{"ns1.host.example", "ns2.host.example"}, `@ IN TXT "there"`)
	var wait sync.WaitGroup
	answers := make([]dnslookup.Answer, 20)
	for i := range answers {
		wait.Go(func() { answers[i] = c.LookupAll(t.Context(), "x.example", dnslookup.TXT)[0] })
	}
	wait.Wait()
	require.False(t, slices.ContainsFunc(answers, func(a dnslookup.Answer) bool { return a.Outcome != dnslookup.Found }), answers)
}

func TestWhatIsNoQuestion(t *testing.T) {
	t.Parallel()
	n, c := setup(t)
	for _, name := range []string{"", ".", "a..b", strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 150) + "example"} {
		require.Equal(t, dnslookup.TemporaryFailure, c.Lookup(t.Context(), name, dnslookup.TXT).Outcome, name)
		require.Equal(t, dnslookup.TemporaryFailure, c.LookupAll(t.Context(), name, dnslookup.TXT)[0].Outcome, name)
	}
	require.Contains(t, c.Lookup(t.Context(), "x.example", "SRV").Reason, `"SRV"`)
	for _, server := range []string{"192.0.2.1", "192.0.2.1:port", ":53"} {
		_, err := dnslookup.New([]string{n.Recursive, server}, dnslookup.Options{})
		require.ErrorContains(t, err, "give host:port")
	}
}
