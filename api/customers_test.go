package api_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOperatorManagesCustomer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.adminKey()
	require.Equal(t, 403, b.as("POST", "/v1.0/customers", `{"name":"New"}`).status)
	made := b.with(admin, "POST", "/v1.0/customers", `{"name":"New"}`)
	require.Equal(t, 200, made.status, made.body)
	require.Contains(t, made.field(t, "webhook_secret"), "whsec_")
	path := "/v1.0/customers/" + made.field(t, "id")
	require.Equal(t, 400, b.with(admin, "POST", "/v1.0/customers", `{"name":" "}`).status)
	require.Equal(t, 200, b.with(admin, "POST", path+"/domains", `{"name":"New.test","verified":true}`).status)
	require.Equal(t, 409, b.with(admin, "POST", path+"/domains", `{"name":"acme.test","verified":true}`).status)
	b.warmup(t, admin, path+"/domains/new.test/warmup")
	key := b.with(admin, "POST", path+"/accesskeys", `{"name":"first"}`).field(t, "token")
	message := strings.ReplaceAll(basic, "acme.test", "new.test")
	require.Equal(t, 202, b.with(key, "POST", "/v1.0/emails", message).status)

	var list struct{ Result []struct{ ID string } }
	b.with(admin, "GET", "/v1.0/customers", "").decode(t, &list)
	require.Len(t, list.Result, 2)
	b.with(key, "GET", "/v1.0/customers", "").decode(t, &list)
	require.Len(t, list.Result, 1, "a customer sees itself")

	require.Equal(t, 200, b.with(admin, "PUT", path, `{"status":"suspended"}`).status)
	refused := b.with(key, "GET", "/v1.0/emails", "")
	require.Equal(t, 403, refused.status)
	require.Contains(t, refused.field(t, "detail"), "suspended")
	require.Equal(t, 200, b.with(admin, "PUT", path, `{"status":"active"}`).status)
	require.Equal(t, 200, b.with(key, "GET", "/v1.0/emails", "").status)
	for _, bad := range []string{`{"status":"gone"}`, `{"credits":-1}`, `{"credits":"many"}`, `{"name":"x"}`} {
		require.Equal(t, 400, b.with(admin, "PUT", path, bad).status, bad)
	}

	var audit struct {
		Result []struct{ Actor, Action, Target string }
	}
	b.with(key, "GET", "/v1.0/audit", "").decode(t, &audit)
	var actions []string
	for _, a := range audit.Result {
		actions = append(actions, a.Action)
	}
	require.Equal(t, []string{"customer.governed", "customer.governed", "accesskey.created", "domain.warmup", "domain.warmup", "domain.added", "customer.created"}, actions)
	require.True(t, strings.HasPrefix(audit.Result[0].Actor, "key:"), "who did it")
	require.Equal(t, 403, b.with(key, "GET", "/v1.0/audit?all=true", "").status)
	b.with(admin, "GET", "/v1.0/audit?all=true", "").decode(t, &audit)
	require.Greater(t, len(audit.Result), 5)
}

// An operator deletes customers without mail, except its own customer.
func TestOperatorDeletesCustomers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.adminKey()
	other, key := b.newCustomer("Other", "other.test")
	path := "/v1.0/customers/" + other.ID
	require.Equal(t, 403, b.with(key, "DELETE", path, "").status)
	require.Equal(t, 200, b.with(admin, "DELETE", path, "").status)
	require.Equal(t, 401, b.with(key, "GET", "/v1.0/customer", "").status)
	require.Equal(t, 404, b.with(admin, "DELETE", path, "").status)
	busy, key := b.newCustomer("Busy", "busy.test")
	require.Equal(t, 202, b.with(key, "POST", "/v1.0/emails", strings.ReplaceAll(basic, "acme.test", "busy.test")).status)
	require.Equal(t, 409, b.with(admin, "DELETE", "/v1.0/customers/"+busy.ID, "").status)
	require.Equal(t, 200, b.with(key, "GET", "/v1.0/customer", "").status)
}

// warmup sets, reads and removes the warm-up plan of a domain.
func (b *bench) warmup(t *testing.T, admin, path string) {
	t.Helper()
	require.JSONEq(t, `{"name":"new.test","plan":[],"from":null,"day":0,"limit":null,"used":0,"used_by_broadcast":0,"waiting":0}`, b.with(admin, "GET", path, "").body)
	from := time.Now().UTC().Add(-24 * time.Hour).Format(time.DateOnly)
	set := b.with(admin, "PUT", path, `{"plan":[50,100,200],"from":"`+from+`"}`)
	require.JSONEq(t, `{"name":"new.test","plan":[50,100,200],"from":"`+from+`","day":2,"limit":100,"used":0,"used_by_broadcast":0,"waiting":0}`, set.body)
	require.JSONEq(t, set.body, b.with(admin, "GET", path, "").body)
	for body, pointer := range map[string]string{`{"plan":[]}`: "/plan", `{"plan":[0]}`: "/plan", `{}`: "/plan", `{"plan":[1],"from":"today"}`: "/from", `{"plan":[1],"from":"0000-12-31"}`: "/from"} {
		got := b.with(admin, "PUT", path, body)
		require.Equal(t, 400, got.status, body)
		require.Contains(t, got.body, `"pointer":"`+pointer+`"`)
	}
	require.Equal(t, 403, b.as("PUT", path, `{"plan":[50]}`).status, "an operator's affair")
	require.Equal(t, 404, b.with(admin, "PUT", strings.Replace(path, "new.test", "old.test", 1), `{"plan":[50]}`).status)
	require.Equal(t, 404, b.with(admin, "GET", strings.Replace(path, "new.test", "no%20domain", 1), "").status)
	require.JSONEq(t, `{"name":"new.test","plan":[],"from":null,"day":0,"limit":null,"used":0,"used_by_broadcast":0,"waiting":0}`, b.with(admin, "DELETE", path, "").body)
}

// Concurrent requests are accepted for exactly as many recipients as there are credits.
func TestCreditsUnderConcurrency(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.adminKey()
	path := "/v1.0/customers/" + b.customer.ID
	require.Equal(t, 200, b.with(admin, "PUT", path, `{"credits":15}`).status)
	two := `{"from":{"email":"shop@acme.test"},"to":[{"email":"a@x.test"},{"email":"b@x.test"}],"subject":"s","content":"t"}`
	var mu sync.Mutex
	statuses := map[int]int{}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			a := b.as("POST", "/v1.0/emails", two)
			mu.Lock()
			defer mu.Unlock()
			statuses[a.status]++
		})
	}
	wg.Wait()
	require.Equal(t, map[int]int{202: 7, 402: 13}, statuses)
	refused := b.as("POST", "/v1.0/emails", two)
	require.Contains(t, refused.field(t, "detail"), "1 is left")
	require.Equal(t, "credits_exhausted", refused.field(t, "code"))
	require.Len(t, b.dispatch.accepted(), 7, "what was not paid is not sent")
	var usage struct {
		Result []struct {
			Month              string
			Emails, Recipients int
		}
		Credits *int
	}
	b.as("GET", "/v1.0/usage", "").decode(t, &usage)
	require.Len(t, usage.Result, 1)
	require.Equal(t, 7, usage.Result[0].Emails)
	require.Equal(t, 14, usage.Result[0].Recipients)
	require.Equal(t, 1, *usage.Credits)
	require.Equal(t, 200, b.with(admin, "PUT", path, `{"credits":null}`).status)
	require.Equal(t, 202, b.as("POST", "/v1.0/emails", two).status, "null is without limit")
}
