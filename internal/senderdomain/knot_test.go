package senderdomain_test

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/dnslookup"
	"github.com/postrider/postrider/internal/dnstest"
	"github.com/postrider/postrider/internal/senderdomain"
)

// TestWithKnot has a real authoritative server read the lines that Records prints, and
// checks them there. It is skipped where Debian's package knot is not installed, unless
// POSTRIDER_TEST_KNOT is "required".
func TestWithKnot(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("knotd")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/knotd")
	}
	if err != nil && os.Getenv("POSTRIDER_TEST_KNOT") != "required" {
		t.Skip("knotd is not installed")
	}
	require.NoError(t, err)

	right := needs("right.example")
	var lines []string
	for _, r := range senderdomain.Records(right) {
		lines = append(lines, r.ZoneFile)
	}
	for i := range 20 {
		lines = append(lines, fmt.Sprintf(`many IN TXT "%02d%s"`, i, strings.Repeat("x", 200)))
	}
	n := dnstest.New(t)
	address := netip.MustParseAddr("127.0.0.100") // its port is free where that of the Net is
	startKnot(t, program, netip.AddrPortFrom(address, n.Port), map[string][]string{
		"right.example": lines,
		"wrong.example": {
			txt("pr1r._domainkey.wrong.example", rsa.Value), // the zone doubled
			txt("pr1e._domainkey", `"`+ed25519.Value+`"`),
			`bounce IN CNAME bounce2`, `bounce2 IN CNAME bounce`,
		},
		"wild.example": {`* IN TXT "v=spf1 -all"`, `* IN A 192.0.2.1`},
	})
	for _, zone := range []string{"right.example", "wrong.example", "wild.example", "unknown.example"} {
		n.Zone(t, zone, []string{"knot.host.example"})
	}
	n.SetAddress("knot.host.example", address.String())
	n.Server(t, "knot.host.example").SetFault(dnstest.Refused) // the recursive server answers nothing of these zones
	c, err := dnslookup.New([]string{n.Recursive}, dnslookup.Options{
		TryTimeout: time.Minute, LookupTimeout: 5 * time.Minute,
		AllowedNetworks: []netip.Prefix{dnstest.Loopback}, Port: n.Port,
	})
	require.NoError(t, err)

	for _, of := range []struct {
		needs senderdomain.Needs
		want  []senderdomain.Problem
	}{
		{right, []senderdomain.Problem{"", "", "", ""}},
		{needs("wrong.example"), []senderdomain.Problem{senderdomain.NameDoubled, senderdomain.ValueMangled, senderdomain.CNAMELoop, senderdomain.Missing}},
		{needs("wild.example"), []senderdomain.Problem{senderdomain.Wildcard, senderdomain.Wildcard, senderdomain.Wildcard, senderdomain.Missing}},
		{needs("unknown.example"), []senderdomain.Problem{senderdomain.Unavailable, senderdomain.Unavailable, senderdomain.Unavailable, senderdomain.Unavailable}},
	} {
		var got []senderdomain.Problem
		for _, r := range senderdomain.Check(t.Context(), c, senderdomain.Records(of.needs)) {
			got = append(got, r.Problem)
		}
		require.Equal(t, of.want, got, of.needs.Domain)
	}
	a := c.Lookup(t.Context(), "many.right.example", dnslookup.TXT)
	require.Len(t, a.Records, 20, a.Reason)
	require.True(t, a.Authoritative)
	require.Equal(t, dnslookup.NoSuchName, c.Lookup(t.Context(), "no.right.example", dnslookup.TXT).Outcome)
	require.Equal(t, dnslookup.NoSuchRecord, c.Lookup(t.Context(), "many.right.example", dnslookup.A).Outcome)
}

// startKnot runs Knot with these zones until the test ends. It returns when it serves them.
func startKnot(t *testing.T, program string, at netip.AddrPort, zones map[string][]string) {
	t.Helper()
	dir := t.TempDir()
	conf := fmt.Sprintf(`server:
  rundir: %[1]q
  listen: %[2]s@%[3]d
log:
  - target: stdout
    any: info
database:
  storage: %[1]q
template:
  - id: default
    storage: %[1]q
    file: "%%s.zone"
zone:
`, dir, at.Addr(), at.Port())
	for zone, lines := range zones {
		conf += "  - domain: " + zone + "\n"
		text := "$ORIGIN " + zone + ".\n$TTL 300\n@ IN SOA ns hostmaster 1 3600 600 86400 3600\n@ IN NS knot.host.example.\n" + strings.Join(lines, "\n") + "\n"
		require.NoError(t, os.WriteFile(filepath.Join(dir, zone+".zone"), []byte(text), 0o600))
	}
	file := filepath.Join(dir, "knot.conf")
	require.NoError(t, os.WriteFile(file, []byte(conf), 0o600))
	knot := exec.CommandContext(t.Context(), program, "-c", file)
	output, err := knot.StdoutPipe()
	require.NoError(t, err)
	knot.Stderr = knot.Stdout
	require.NoError(t, knot.Start())
	t.Cleanup(func() { _ = knot.Wait() }) // it is killed when the test's context ends
	var log strings.Builder
	loaded, started := 0, false
	for scanner := bufio.NewScanner(output); scanner.Scan() && (loaded < len(zones) || !started); {
		line := scanner.Text()
		log.WriteString(line + "\n")
		if strings.Contains(line, "] loaded, serial") {
			loaded++
		}
		started = started || strings.Contains(line, "server started")
	}
	require.Equal(t, len(zones), loaded, log.String())
	require.True(t, started, log.String())
	go func() {
		for scanner := bufio.NewScanner(output); scanner.Scan(); { // its log must not fill the pipe
			continue
		}
	}()
}
