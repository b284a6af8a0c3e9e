package api_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/senderdomain"
)

func TestADomainHasTheRecordsToPublish(t *testing.T) {
	t.Parallel()
	b := setup(t)
	made := b.as("POST", "/v1.0/domains", `{"name":" Bücher.Example. "}`)
	require.Equal(t, 201, made.status, made.body)
	var d struct {
		ID, Name, Status string
		CheckedAt        *string `json:"checked_at"`
		NextCheckAt      *string `json:"next_check_at"`
		Records          []struct {
			Record, Type, Name, FQDN, Value, Status, TTL string
			Required                                     bool
			ZoneFile                                     string `json:"zone_file"`
			Problem                                      *string
		}
		Keys []struct {
			Selector, Algorithm, State string
			SafeToRemove               bool `json:"safe_to_remove"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(made.body), &d))
	require.Equal(t, []string{"xn--bcher-kva.example", "pending"}, []string{d.Name, d.Status})
	require.Nil(t, d.CheckedAt)
	require.NotNil(t, d.NextCheckAt)
	require.Len(t, d.Records, 3)
	dkim := d.Records[0]
	require.Equal(t, []string{"DKIM", "TXT", "pr1r._domainkey", "pr1r._domainkey.xn--bcher-kva.example", "not_started", "Auto"}, []string{dkim.Record, dkim.Type, dkim.Name, dkim.FQDN, dkim.Status, dkim.TTL})
	require.True(t, dkim.Required)
	require.Nil(t, dkim.Problem)
	require.True(t, strings.HasPrefix(dkim.Value, "v=DKIM1; k=rsa; p="))
	require.Contains(t, dkim.ZoneFile, `. IN TXT ( "v=DKIM1; k=rsa; p=`, "in strings of at most 255 bytes")
	require.False(t, d.Records[1].Required)
	require.Equal(t, "pr1e", d.Keys[1].Selector)
	require.Equal(t, email.DomainWorkflowIDPrefix+d.ID, <-b.dispatch.woken)

	again := b.as("POST", "/v1.0/domains", `{"name":"xn--bcher-kva.example"}`)
	require.Equal(t, 200, again.status)
	require.Equal(t, d.ID, again.field(t, "id"))
	list := b.as("GET", "/v1.0/domains", "")
	require.Contains(t, list.body, `"name":"xn--bcher-kva.example"`)
	require.NotContains(t, list.body, "DKIM1")
	require.Equal(t, 200, b.as("POST", "/v1.0/domains/"+d.ID+"/rotate-dkim", "").status)
	require.NotContains(t, b.as("GET", "/v1.0/domains/"+d.ID, "").body, "pr2r", "the first keys wait for their records still")
	require.Equal(t, 200, b.as("DELETE", "/v1.0/domains/"+d.ID, "").status)
	require.Equal(t, 404, b.as("GET", "/v1.0/domains/"+d.ID, "").status)
}

func TestWrongNamesOfDomains(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, code := range map[string]string{
		"": "empty", "co.uk": "public_suffix", "192.0.2.1": "ip_address", "localhost": "localhost", "intranet": "single_label",
		strings.Repeat("abcdefgh.", 30) + "example": "too_long", "ann@x.example": "email_address", "https://x.example": "url", "_dmarc.x.example": "underscore", "*.x.example": "wildcard",
	} {
		body, err := json.Marshal(map[string]string{"name": name})
		require.NoError(t, err)
		got := b.as("POST", "/v1.0/domains", string(body))
		require.Equal(t, 400, got.status, name)
		require.Contains(t, got.body, `"pointer":"/name","code":"`+code+`"`, name)
	}
}

// A key that is restricted to some domains changes no other domain.
func TestARestrictedKeyChangesItsDomainsOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, key, err := b.store.Accounts.CreateAccessKey(t.Context(), account.AccessKey{CustomerID: b.customer.ID, Scopes: []account.Scope{account.ScopeDomains}, SenderDomains: []string{"shop.example"}})
	require.NoError(t, err)
	require.Equal(t, 201, b.with(key, "POST", "/v1.0/domains", `{"name":"shop.example"}`).status)
	require.Equal(t, 403, b.with(key, "POST", "/v1.0/domains", `{"name":"news.example"}`).status)
	other := "/v1.0/domains/" + b.as("POST", "/v1.0/domains", `{"name":"news.example"}`).field(t, "id")
	for _, request := range []string{"POST " + other + "/verify", "POST " + other + "/rotate-dkim", "DELETE " + other} {
		method, path, _ := strings.Cut(request, " ")
		require.Equal(t, 403, b.with(key, method, path, "").status, request)
	}
	require.Equal(t, 403, b.with(key, "POST", "/v1.0/emails", basic).status, "the scope sends no mail")
}

func TestDomainRequestsAreLimited(t *testing.T) {
	t.Parallel()
	b := setup(t)
	domain := "/v1.0/domains/" + b.as("POST", "/v1.0/domains", `{"name":"shop.example"}`).field(t, "id")
	var refused answer
	for deadline := 0; deadline < 100 && refused.status != 429; deadline++ { // a minute may begin in between
		refused = b.as("POST", domain+"/verify", "")
	}
	require.Equal(t, 429, refused.status)
	require.Equal(t, "60", refused.header.Get("Retry-After"))
	require.Equal(t, "too_many_requests", refused.field(t, "code"))
	require.Equal(t, 200, b.as("GET", domain, "").status)
	require.Equal(t, 200, b.as("DELETE", domain, "").status)
}

// Mail of a failed domain is refused. The refusal names the record and the sender.
func TestMailOfAFailedDomainIsRefused(t *testing.T) {
	t.Parallel()
	b := setupFor(t, setupOptions{maxBytes: maxBytes, anyDomain: true})
	id := b.as("POST", "/v1.0/domains", `{"name":"shop.example"}`).field(t, "id")
	mail := strings.ReplaceAll(basic, "acme.test", "shop.example")
	require.Equal(t, 202, b.as("POST", "/v1.0/emails", mail).status, "a pending domain is as one that nobody has added")
	begun, err := b.store.Accounts.BeginCheck(t.Context(), id, false)
	require.NoError(t, err)
	_, err = b.raw.ExecContext(t.Context(), "UPDATE domains SET started_at = started_at - interval '14 days'")
	require.NoError(t, err)
	begun.Records[0].Status, begun.Records[0].Problem = "pending", "missing"
	_, err = b.store.Accounts.SaveCheck(t.Context(), begun, senderdomain.Findings{Records: begun.Records})
	require.NoError(t, err)
	got := b.as("POST", "/v1.0/emails", mail)
	require.Equal(t, 403, got.status)
	require.Equal(t, "sender_domain_unverified", got.field(t, "code"))
	require.Contains(t, got.body, "the TXT record at pr1r._domainkey.shop.example is missing or wrong (missing)")
	require.Contains(t, got.body, `"pointer":"/from"`)
	require.Equal(t, "pending", b.as("POST", "/v1.0/domains/"+id+"/verify", "").field(t, "status"))
}

// TestAuthenticationIsTold: a domain and a preview say what receivers will find, for the relays that take the mail.
func TestAuthenticationIsTold(t *testing.T) {
	t.Parallel()
	b := setupFor(t, setupOptions{maxBytes: maxBytes, anyDomain: true})
	mail := strings.ReplaceAll(basic, "acme.test", "shop.example")
	type verdict struct {
		Result  string
		Aligned bool
		Reason  string
	}
	type found struct {
		Authentication []struct {
			Relay            *string
			SPF, DKIM, DMARC verdict
		}
	}
	read := func(a answer) (out found) {
		t.Helper()
		require.NoError(t, json.Unmarshal([]byte(a.body), &out), a.body)
		return out
	}
	strange := read(b.as("POST", "/v1.0/emails/preview", mail))
	require.Len(t, strange.Authentication, 1)
	require.Nil(t, strange.Authentication[0].Relay)
	require.Contains(t, strange.Authentication[0].DKIM.Reason, "shop.example is not one of your domains")

	id := b.as("POST", "/v1.0/domains", `{"name":"shop.example"}`).field(t, "id")
	begun, err := b.store.Accounts.BeginCheck(t.Context(), id, false)
	require.NoError(t, err)
	for i := range begun.Records {
		begun.Records[i].Status = senderdomain.Verified
		begun.Records[i].Found = []string{begun.Records[i].Value}
	}
	_, err = b.store.Accounts.SaveCheck(t.Context(), begun, senderdomain.Findings{Records: begun.Records, SPF: []senderdomain.SPFResult{
		{Relay: "first", Domain: "shop.example", Result: "pass"},
		{Relay: "second", Domain: "shop.example", Result: "fail", Address: "192.0.2.1", Detail: "no match", Streams: []string{"broadcast"}},
	}})
	require.NoError(t, err)
	domain := read(b.as("GET", "/v1.0/domains/"+id, ""))
	require.Len(t, domain.Authentication, 2)
	require.Equal(t, verdict{"pass", true, ""}, domain.Authentication[0].SPF)
	require.Equal(t, verdict{"fail", true, "the SPF record of shop.example does not allow 192.0.2.1, from which the relay second sends (fail): no match"}, domain.Authentication[1].SPF)
	require.Equal(t, verdict{"pass", true, ""}, domain.Authentication[1].DKIM)
	require.Equal(t, verdict{"pass", true, ""}, domain.Authentication[1].DMARC)

	preview := read(b.as("POST", "/v1.0/emails/preview", mail))
	require.Len(t, preview.Authentication, 1, "the second relay takes broadcast mail only")
	require.Equal(t, "first", *preview.Authentication[0].Relay)
	require.Equal(t, verdict{"pass", true, ""}, preview.Authentication[0].DMARC)
	broadcast := read(b.as("POST", "/v1.0/emails/preview", strings.Replace(mail, "{", `{"stream":"broadcast",`, 1)))
	require.Len(t, broadcast.Authentication, 2)
}

// An operator reads and changes the domains of any customer. Each change is in that customer's audit.
func TestAnOperatorActsForAnyCustomer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other, _ := b.newCustomer("Other", "other.test")
	admin := b.adminKey()
	acting := "?customer_id=" + other.ID
	made := b.with(admin, "POST", "/v1.0/domains"+acting, `{"name":"news.example"}`)
	require.Equal(t, 201, made.status, made.body)
	id := made.field(t, "id")
	require.Contains(t, b.with(admin, "GET", "/v1.0/domains"+acting, "").body, id)
	require.NotContains(t, b.with(admin, "GET", "/v1.0/domains", "").body, id, "it is not the operator's own")
	require.Equal(t, 404, b.with(admin, "GET", "/v1.0/domains/"+id, "").status)
	require.Contains(t, b.with(admin, "GET", "/v1.0/domains/"+id+acting, "").body, "v=DKIM1")
	require.Equal(t, 200, b.with(admin, "POST", "/v1.0/domains/"+id+"/verify"+acting, "").status)
	require.Equal(t, 200, b.with(admin, "POST", "/v1.0/domains/"+id+"/rotate-dkim"+acting, "").status)
	require.Equal(t, 200, b.with(admin, "DELETE", "/v1.0/domains/"+id+acting, "").status)
	var actions []string
	require.NoError(t, b.raw.NewRaw("SELECT action FROM audit WHERE customer_id = ? AND target = 'news.example' ORDER BY at", other.ID).Scan(t.Context(), &actions))
	require.Contains(t, actions, "domain.deleted")
	require.Contains(t, actions, "domain.added")

	for wrong, status := range map[string]int{"x": 400, "": 400, "00000000-0000-0000-0000-000000000001": 404} {
		got := b.with(admin, "GET", "/v1.0/domains?customer_id="+wrong, "")
		require.Equal(t, status, got.status, "%q: %s", wrong, got.body)
	}
	require.Equal(t, 400, b.with(admin, "GET", "/v1.0/files"+acting, "").status, "a route that acts for the credential's customer says so")
	voipbin, key := b.newCustomer("VoIPBIN", "voipbin.test")
	voipbin.Profile = account.ProfileVoIPBIN
	_, _, err := b.store.Accounts.UpdateCustomer(t.Context(), voipbin)
	require.NoError(t, err)
	b.lenient = true
	require.Equal(t, 200, b.with(key, "GET", "/v1.0/files"+acting, "").status, "it may give any parameter")
	require.Equal(t, 403, b.with(key, "GET", "/v1.0/domains"+acting, "").status)
}

// An operator who deletes another customer's domain takes it back, on either route.
func TestAnOperatorWhoDeletesADomainTakesItBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.adminKey()
	other, key := b.newCustomer("Other", "other.test")
	mail := strings.ReplaceAll(basic, "acme.test", "other.test")
	add := func() string { return b.with(key, "POST", "/v1.0/domains", `{"name":"other.test"}`).field(t, "id") }
	id := add()
	require.Equal(t, 202, b.with(key, "POST", "/v1.0/emails", mail).status)
	require.Equal(t, 200, b.with(admin, "DELETE", "/v1.0/domains/"+id+"?customer_id="+other.ID, "").status)
	require.Equal(t, "operator", b.lockedBy("other.test"))

	id = add()
	b.findRecords(id)
	require.Equal(t, "operator", b.with(key, "GET", "/v1.0/domains/"+id, "").field(t, "blocked_by"), "its records do not bring it back")
	require.Equal(t, 403, b.with(key, "POST", "/v1.0/emails", mail).status)
	require.Equal(t, 200, b.with(admin, "PUT", "/v1.0/customers/"+other.ID+"/domains/other.test", `{"verified":true}`).status)
	require.Equal(t, 202, b.with(key, "POST", "/v1.0/emails", mail).status)
	require.Equal(t, 200, b.with(key, "DELETE", "/v1.0/domains/"+id, "").status)
	require.Equal(t, "customer", b.lockedBy("other.test"), "what a customer deletes, the DNS gives back")
}

// lockedBy says who has taken a domain's verification.
func (b *bench) lockedBy(name string) string {
	b.t.Helper()
	var by string
	require.NoError(b.t, b.raw.NewRaw("SELECT CASE WHEN by_operator THEN 'operator' ELSE 'customer' END FROM domain_locks WHERE name = ?", name).Scan(b.t.Context(), &by))
	return by
}

// findRecords lets a check find all records of a domain.
func (b *bench) findRecords(id string) {
	b.t.Helper()
	begun, err := b.store.Accounts.BeginCheck(b.t.Context(), id, false)
	require.NoError(b.t, err)
	require.True(b.t, begun.Due)
	for i := range begun.Records {
		begun.Records[i].Status = senderdomain.Verified
		begun.Records[i].Found = []string{begun.Records[i].Value}
	}
	_, err = b.store.Accounts.SaveCheck(b.t.Context(), begun, senderdomain.Findings{Records: begun.Records})
	require.NoError(b.t, err)
}

// A parameter that is misspelt, or given twice, would make a request act for the wrong customer.
func TestParametersOfDomains(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other, _ := b.newCustomer("Other", "other.test")
	admin := b.adminKey()
	id := b.as("POST", "/v1.0/domains", `{"name":"shop.example"}`).field(t, "id")
	for _, request := range []string{"GET /v1.0/domains", "POST /v1.0/domains", "GET /v1.0/domains/" + id, "DELETE /v1.0/domains/" + id, "POST /v1.0/domains/" + id + "/verify", "POST /v1.0/domains/" + id + "/rotate-dkim"} {
		method, path, _ := strings.Cut(request, " ")
		body := ""
		if request == "POST /v1.0/domains" {
			body = `{"name":"news.example"}`
		}
		for query, want := range map[string]string{
			"Customer_id=" + other.ID:                           `"pointer":"Customer_id","code":"unknown"`,
			"customer_id%20=" + other.ID:                        `"code":"unknown"`,
			"customer_id=" + other.ID + "&customer_id=" + id:    `"pointer":"customer_id","code":"duplicate"`,
			"customer_id=" + other.ID + "&customer=" + other.ID: `"pointer":"customer","code":"unknown"`,
		} {
			got := b.with(admin, method, path+"?"+query, body)
			require.Equal(t, 400, got.status, "%s?%s: %s", request, query, got.body)
			require.Contains(t, got.body, want, request)
		}
	}
	require.NotContains(t, b.with(admin, "GET", "/v1.0/domains", "").body, "news.example")
	require.Equal(t, 200, b.as("GET", "/v1.0/domains/"+id, "").status)
	require.Equal(t, 200, b.as("GET", "/v1.0/domains?page_size=1", "").status)
}

// An operator's requests for a customer and that customer's own do not use up each other's.
func TestAnOperatorsRequestsHaveACountOfTheirOwn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.adminKey()
	other, key := b.newCustomer("Other", "other.test")
	verify := "/v1.0/domains/" + b.with(key, "POST", "/v1.0/domains", `{"name":"shop.example"}`).field(t, "id") + "/verify"
	acting := verify + "?customer_id=" + other.ID
	exec := func(query string, args ...any) {
		_, err := b.raw.ExecContext(t.Context(), query, args...)
		require.NoError(t, err)
	}
	exec("UPDATE domain_requests SET requests = 1000, minute = minute + interval '1 hour'")
	require.Equal(t, 200, b.with(admin, "POST", acting, "").status)
	var customers []string
	require.NoError(t, b.raw.NewRaw("SELECT customer_id FROM operator_domain_requests").Scan(t.Context(), &customers))
	require.Equal(t, []string{b.customer.ID}, customers, "it is the operator's")
	var requests int
	require.NoError(t, b.raw.NewRaw("SELECT requests FROM domain_requests WHERE customer_id = ?", other.ID).Scan(t.Context(), &requests))
	require.Equal(t, 1000, requests)

	refused := answer{}
	for deadline := 0; deadline < 10 && refused.status != 429; deadline++ { // a minute may begin in between
		exec("UPDATE operator_domain_requests SET minute = date_trunc('minute', now()), requests = 300")
		refused = b.with(admin, "POST", acting, "")
	}
	require.Equal(t, 429, refused.status)
	require.Equal(t, 200, b.with(key, "POST", verify, "").status)
}
