package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dkimtest"
	"github.com/postrider/postrider/internal/dnstest"
	"github.com/postrider/postrider/internal/smtptest"
)

// walkthrough is docs/deliverability.md: the commands that it shows with what they print, and the lines for zone
// files.
type walkthrough struct {
	commands []shown
	// zones are the blocks of records, by their zones.
	zones map[string][]string
}

type shown struct{ command, output string }

var verified = regexp.MustCompile(`(?m)^status +verified$`)

var fence = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")

func readWalkthrough(t *testing.T) (w walkthrough) {
	t.Helper()
	page, err := os.ReadFile("../../docs/deliverability.md")
	require.NoError(t, err)
	w.zones = map[string][]string{}
	for _, block := range fence.FindAllStringSubmatch(string(page), -1) {
		lines := strings.Split(strings.TrimSuffix(block[2], "\n"), "\n")
		if block[1] == "zone" {
			zone, ok := strings.CutPrefix(lines[0], "; zone ")
			require.True(t, ok, "a block of records begins with its zone: %s", lines[0])
			w.zones[zone] = lines[1:]
		}
		for i := 0; i < len(lines); i++ {
			command, ok := strings.CutPrefix(lines[i], "$ postrider ")
			if !ok {
				continue
			}
			var output []string
			for i+1 < len(lines) && !strings.HasPrefix(lines[i+1], "$ ") {
				i++
				output = append(output, lines[i])
			}
			w.commands = append(w.commands, shown{command, strings.Join(output, "\n")})
		}
	}
	require.Len(t, w.commands, 4)
	require.Len(t, w.zones, 1)
	return w
}

var (
	shownKey  = regexp.MustCompile(`p=[A-Za-z0-9+/=" …]+`)
	shownID   = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	shownTime = regexp.MustCompile(`20\d\d-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z| UTC)?`)
	shownGaps = regexp.MustCompile(` {2,}`)
)

// likeShown takes from an output what differs from run to run.
func likeShown(output string) string {
	output = shownKey.ReplaceAllString(output, "p=KEY")
	output = shownID.ReplaceAllString(output, "ID")
	output = shownTime.ReplaceAllString(output, "TIME")
	output = shownGaps.ReplaceAllString(output, "  ")
	return strings.TrimSpace(output)
}

// TestTheDeliverabilityPage walks docs/deliverability.md: it runs the commands, requires the output that the page
// shows, and publishes the records. A real Postfix refuses the domain's mail before, and takes it after; its policy
// asks the DNS.
func TestTheDeliverabilityPage(t *testing.T) {
	t.Parallel()
	page := readWalkthrough(t)
	verifiers := dkimtest.Verifiers(t)
	dns := dnstest.New(t)
	hosts := []string{"ns1.dns.example", "ns2.dns.example"}
	for zone, lines := range page.zones {
		dns.Zone(t, zone, hosts, lines...)
	}
	dns.Zone(t, "shop.example", hosts)
	relay := startPostfix(t, startDMARCPolicy(t, dns))
	first := (&smtptest.Peer{}).Start(t) // takes the mail of the customer's first domain
	d := newGround(t).starter(t, first,
		"smtp://"+relay.Addr+"?name=primary&tls=none&accepts=final&sends_from=127.0.0.1&domains=shop.example "+"smtp://"+first.Addr()+"?tls=none&name=other&domains=acme.test",
		"POSTRIDER_DNS_SERVERS="+dns.Recursive, "POSTRIDER_BOUNCE_HOST=bounce.mail.example", "POSTRIDER_REQUIRE_VERIFIED_DOMAINS=false")
	c := d.client()
	message := client.Message{From: client.Address{Email: "ann@shop.example", Name: "Ann"}, To: []client.Address{{Email: "bob@receiver.test"}},
		Subject: "Grüße from the shop", Content: client.Content{Text: "Thank you.\n", HTML: "<p>Thank you.</p>"}}
	outcome := func() client.Email {
		sent, err := c.Send(t.Context(), message)
		require.NoError(t, err)
		var e client.Email
		d.eventually("the receiver has answered", func() bool {
			e, err = c.Get(t.Context(), sent.ID)
			require.NoError(t, err)
			return e.Status.Final() || e.StatusDetail == email.DetailUnauthenticated
		})
		return e
	}

	before := outcome()
	require.Equal(t, []any{email.StatusSending, email.DetailUnauthenticated}, []any{before.Status, before.StatusDetail}, "it waits for the domain")
	require.Contains(t, before.Recipients[0].Text, "dmarc=fail")
	require.Regexp(t, `^b-[a-z2-7]{16}@bounce\.mail\.example$`, before.ReturnPath)

	for _, step := range page.commands {
		got := d.deployment.run("", strings.Fields(step.command)...)
		if strings.Contains(step.command, "--zone") {
			dns.Zone(t, "shop.example", hosts, strings.Split(got, "\n")...)
		}
		if strings.HasPrefix(step.command, "domain verify") {
			d.eventually("the domain is verified", func() bool {
				return verified.MatchString(d.deployment.run("", "domain", "show", "shop.example", "--customer", "ACME"))
			})
		}
		// A check that comes by itself may be first.
		got = strings.Replace(got, "shop.example verified\na worker", "shop.example pending: mail from it is refused until its records are found\na worker", 1)
		require.Equal(t, likeShown(step.output), likeShown(got), "postrider %s", step.command)
	}

	preview, err := c.Preview(t.Context(), message)
	require.NoError(t, err)
	require.Len(t, preview.Authentication, 1, "the other relay does not take the domain")
	for name, v := range map[string]client.AuthenticationVerdict{"SPF": preview.Authentication[0].SPF, "DKIM": preview.Authentication[0].DKIM, "DMARC": preview.Authentication[0].DMARC} {
		require.Equal(t, "pass", v.Result, "%s: %s", name, v.Reason)
		require.True(t, v.Aligned, name)
	}
	after := outcome()
	require.Equal(t, "delivered", string(after.Status), "%+v", after.Recipients)
	require.Regexp(t, `^b-[a-z2-7]{16}@bounce\.shop\.example$`, after.ReturnPath)
	var arrived []string
	d.eventually("the message is in the mailbox", func() bool { arrived = relay.messages(); return len(arrived) == 1 })
	require.Contains(t, arrived[0], "Authentication-Results: mx.receiver.test; spf=pass aligned=true; dkim-signatures=2/2; dmarc=pass\r\n")
	require.Contains(t, arrived[0], "\r\nX-Postrider-Id: "+after.ID+"."+strings.TrimSuffix(strings.TrimPrefix(after.ReturnPath, "b-"), "@bounce.shop.example")+"\r\n")
	require.Contains(t, arrived[0], "Return-Path: <"+after.ReturnPath+">\r\n")

	// The messages verify as Postfix has stored them: HTML alone, attachments, folded fields, hardly a body, a batch.
	kinds := []client.Message{message, message, message, message}
	kinds[0].Content = client.Content{HTML: "<p>Only HTML</p>\n\n\n"}
	kinds[1].Attachments = []client.Attachment{{Filename: "Größe.txt", Content: []byte("no line end")}}
	kinds[2].Subject = strings.Repeat("Ein langer Betreff über Größe 📦 ", 12)
	kinds[2].Headers = client.Headers{{Name: "X-Note", Value: "Grüße " + strings.Repeat("und noch mehr ", 30)}, {Name: "List-Unsubscribe", Value: "<https://shop.example/u>"}}
	kinds[3].Content = client.Content{Text: " \n"}
	for _, m := range kinds {
		_, err := c.Send(t.Context(), m)
		require.NoError(t, err)
	}
	batch := message
	batch.To = nil
	_, err = c.SendBatch(t.Context(), client.Batch{Message: &batch, Recipients: []client.BatchRecipient{{Address: client.Address{Email: "one@receiver.test"}}, {Address: client.Address{Email: "two@receiver.test"}}}})
	require.NoError(t, err)
	d.eventually("all are in the mailbox", func() bool { arrived = relay.messages(); return len(arrived) == 1+len(kinds)+2 })
	var id string
	for d, err := range c.SenderDomains(t.Context()) {
		require.NoError(t, err)
		if d.Name == "shop.example" {
			id = d.ID
		}
	}
	domain, err := c.SenderDomain(t.Context(), id)
	require.NoError(t, err)
	records := map[string]string{}
	for _, r := range domain.Records {
		records[r.FQDN] = r.Value
	}
	for _, v := range verifiers {
		for _, m := range arrived {
			require.Equal(t, []string{"good", "good"}, v.Verify(t, m, records), "%s: %s", v.Name, m)
		}
	}
}
