package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dnstest"
	"github.com/postrider/postrider/internal/smtptest"
)

// TestADomainIsVerifiedByItsRecords: a customer adds a domain, publishes what `domain show --zone`
// prints, and mail from it is accepted. Then an update of its workflow finds the records gone.
func TestADomainIsVerifiedByItsRecords(t *testing.T) {
	t.Parallel()
	dns := dnstest.New(t)
	dns.Zone(t, "shop.example", []string{"ns1.dns.example", "ns2.dns.example"}, `@ TXT "v=spf1 -all"`)
	peer := (&smtptest.Peer{}).Start(t)
	d := newGround(t).starter(t, peer, relayURL(peer), "POSTRIDER_DNS_SERVERS="+dns.Recursive)
	c := d.client()

	added, err := c.CreateSenderDomain(t.Context(), "shop.example")
	require.NoError(t, err)
	require.Equal(t, "pending", added.Status)
	domain := func() client.SenderDomain {
		got, err := c.SenderDomain(t.Context(), added.ID)
		require.NoError(t, err)
		return got
	}
	d.eventually("a check finds nothing", func() bool { return domain().Records[0].Problem == "missing" })
	message := client.Message{From: client.Address{Email: "ann@shop.example"}, To: []client.Address{{Email: "bob@y.test"}}, Subject: "Hello", Content: client.Content{Text: "Hi"}}
	_, err = c.Send(t.Context(), message)
	require.ErrorContains(t, err, "is not verified yet: publish the records of GET /v1.0/domains/"+added.ID)

	zone := strings.Split(d.deployment.run("", "domain", "show", "shop.example", "--customer", "ACME", "--zone"), "\n")
	dns.Zone(t, "shop.example", []string{"ns1.dns.example", "ns2.dns.example"}, zone...)
	d.eventually("the domain is verified", func() bool { return domain().Status == "verified" })
	require.Equal(t, "dns", domain().VerifiedBy)
	require.Equal(t, "active", domain().Keys[0].State)
	require.Regexp(t, `(?m)^DKIM +required +TXT +pr1r._domainkey +verified +-$`, d.deployment.run("", "domain", "show", "shop.example", "--customer", "ACME"))
	_, err = c.Send(t.Context(), message)
	require.NoError(t, err)

	dns.Zone(t, "shop.example", []string{"ns1.dns.example", "ns2.dns.example"})
	_, err = c.VerifySenderDomain(t.Context(), added.ID)
	require.NoError(t, err)
	d.eventually("the records are missed", func() bool { return domain().Status == "warning" })
	require.Contains(t, d.deployment.run("", "domain", "show", "shop.example", "--customer", "ACME"), "TXT pr1r._domainkey.shop.example: Add this TXT record at pr1r._domainkey.shop.example.")
	_, err = c.Send(t.Context(), message)
	require.NoError(t, err, "a domain with a warning sends")

	rotated, err := c.RotateDKIM(t.Context(), added.ID)
	require.NoError(t, err)
	require.Len(t, rotated.Keys, 4)
	_, err = c.DeleteSenderDomain(t.Context(), added.ID)
	require.NoError(t, err)
	ended := d.temporal.GetWorkflow(t.Context(), email.DomainWorkflowIDPrefix+added.ID, "")
	var result email.VerifyDomainResult
	require.NoError(t, ended.Get(t.Context(), &result))
	require.True(t, result.Deleted, "the run ends with the domain")
}
