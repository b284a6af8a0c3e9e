package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dnslookup"
	"github.com/postrider/postrider/internal/dnstest"
	"github.com/postrider/postrider/internal/senderdomain"
)

// TestVirtualADomainOverFourWeeks: the records of a domain come after five hours. Its keys are rotated
// on the third day, and its records are gone from the 25th day on. The store, the activity and the
// workflow are the real ones, and so are the name servers.
func TestVirtualADomainOverFourWeeks(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	dns := dnstest.New(t)
	zoneOf := func(lines ...string) {
		dns.Zone(t, "shop.example", []string{"ns1.dns.example", "ns2.dns.example"}, lines...)
	}
	zoneOf()
	client, err := dnslookup.New([]string{dns.Recursive}, dnslookup.Options{AllowedNetworks: []netip.Prefix{dnstest.Loopback}, Port: dns.Port})
	require.NoError(t, err)
	v.lookup = client
	v.listen(nil, "", until(0, "", ""))
	v.connect("", v.peer.Addr())
	_, err = v.db.ExecContext(t.Context(), "UPDATE public.webhook_endpoints SET url = 'https://hook.test', disabled_at = NULL, disabled_reason = ''")
	require.NoError(t, err)

	made, _, err := v.store.Accounts.CreateDomain(t.Context(), v.customer, "shop.example")
	require.NoError(t, err)
	domain := func() senderdomain.Domain {
		d, err := v.store.Accounts.DomainByID(t.Context(), v.customer, made.ID)
		require.NoError(t, err)
		return d
	}
	const day = 24 * time.Hour
	v.RegisterDelayedCallback(func() { zoneOf(strings.Split(zone(domain()), "\n")...) }, 5*time.Hour+10*time.Minute)
	v.RegisterDelayedCallback(func() {
		v.setClock()
		d, err := v.store.Accounts.RotateDKIM(t.Context(), v.customer, made.ID)
		require.NoError(t, err)
		zoneOf(strings.Split(zone(d), "\n")...)
		v.SignalWorkflow(email.SignalWake, nil)
	}, 3*day)
	v.RegisterDelayedCallback(func() { zoneOf() }, 25*day)
	v.ExecuteWorkflow(email.WorkflowVerifyDomain, email.VerifyDomainInput{DomainID: made.ID})
	require.NoError(t, v.GetWorkflowError())
	var result email.VerifyDomainResult
	require.NoError(t, v.GetWorkflowResult(&result))
	require.Equal(t, "failed", result.Status)
	require.Equal(t, "TXT pr2r._domainkey.shop.example: missing", result.Problem)

	var types []string
	at := map[string]time.Duration{}
	rows, err := v.db.QueryContext(t.Context(), "SELECT type, created_at FROM public.webhook_deliveries ORDER BY created_at")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var name string
		var when time.Time
		require.NoError(t, rows.Scan(&name, &when))
		types = append(types, name)
		at[name] = when.Sub(virtualStart)
	}
	require.NoError(t, rows.Err())
	require.Equal(t, []string{"domain.verified", "domain.warning", "domain.failed"}, types)
	between := func(from time.Duration, got time.Duration, to time.Duration) {
		t.Helper()
		require.GreaterOrEqual(t, got, from)
		require.LessOrEqual(t, got, to)
	}
	between(5*time.Hour+10*time.Minute, at["domain.verified"], 6*time.Hour+10*time.Minute)
	between(25*day, at["domain.warning"], 25*day+26*time.Hour+slack)
	between(48*time.Hour, at["domain.failed"]-at["domain.warning"], 51*time.Hour)

	since := map[string]time.Duration{}
	for _, k := range domain().Keys {
		since[k.Selector+" "+string(k.State)] = k.Since.Sub(virtualStart)
	}
	require.Len(t, since, 4)
	between(3*day+10*time.Minute, since["pr2r active"], 3*day+12*time.Minute)
	between(17*day+10*time.Minute, since["pr1r revoked"], 18*day+3*time.Hour)
	require.Equal(t, since["pr1r revoked"], since["pr1e revoked"])
	require.Contains(t, since, "pr2e pending", "an Ed25519 key without its record does not sign")
	require.Contains(t, strings.Join(dns.Server(t, "ns1.dns.example").Queries(), "\n"), "pr1r._domainkey.shop.example. TXT", "the name servers themselves are asked")
}
