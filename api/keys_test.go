package api_test

import (
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/account"
)

// with calls with some credential.
func (b *bench) with(key, method, path, body string) answer {
	b.t.Helper()
	return b.call(method, path, body, "Authorization", "Bearer "+key)
}

func (b *bench) adminKey() string {
	b.t.Helper()
	_, key, err := b.store.CreateAccessKey(b.t.Context(), account.AccessKey{CustomerID: b.customer.ID, Name: "operator", Scopes: []account.Scope{account.ScopeAdmin}})
	require.NoError(b.t, err)
	return key
}

func TestScopes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	made := func(body string) string {
		a := b.as("POST", "/v1.0/accesskeys", body)
		require.Equal(t, 200, a.status, a.body)
		return a.field(t, "token")
	}
	id := b.as("POST", "/v1.0/emails", basic).field(t, "id")
	requests := map[string][3]string{
		"emails:send":   {"POST", "/v1.0/emails", basic},
		"emails:read":   {"GET", "/v1.0/emails/" + id, ""},
		"emails:manage": {"POST", "/v1.0/emails/" + id + "/hold", ""},
		"mailboxes":     {"GET", "/v1.0/mailboxes", ""},
		"full":          {"GET", "/v1.0/accesskeys", ""},
		"admin":         {"GET", "/v1.0/pauses", ""},
	}
	for scope := range requests {
		if scope == "full" || scope == "admin" {
			continue
		}
		key := made(`{"scopes":["` + scope + `"]}`)
		for other, r := range requests {
			a := b.with(key, r[0], r[1], r[2])
			if other == scope {
				require.Less(t, a.status, 300, "%s %s", scope, a.body)
			} else {
				require.Equal(t, 403, a.status, "%s with %s", other, scope)
				require.Contains(t, a.field(t, "detail"), map[bool]string{true: "without scopes", false: other}[other == "full"])
			}
		}
		require.Equal(t, 200, b.with(key, "GET", "/v1.0/customer", "").status, "any credential knows who it is")
	}
	admin := b.adminKey()
	for _, r := range requests {
		require.Less(t, b.with(admin, r[0], r[1], r[2]).status, 300, r[1])
	}
	for body, pointer := range map[string]string{
		`{"scopes":["emails:send","root"]}`: "/scopes/1", `{"scopes":["admin"]}`: "/scopes/0", `{"networks":["10.0.0.1/8"]}`: "/networks/0",
		`{"networks":["nowhere"]}`: "/networks/0", `{"sender_domains":["not a domain"]}`: "/sender_domains/0", `{"expire":-1}`: "/expire",
	} {
		a := b.as("POST", "/v1.0/accesskeys", body)
		require.Equal(t, 400, a.status, body)
		require.Contains(t, a.body, `"pointer":"`+pointer+`"`)
	}
	require.Equal(t, 200, b.with(admin, "POST", "/v1.0/accesskeys", `{"scopes":["admin"]}`).status, "who has it may give it")
}

func TestRestrictionsOfAKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.store.AddDomain(t.Context(), b.customer.ID, "news.test", true)
	require.NoError(t, err)
	news := b.as("POST", "/v1.0/accesskeys", `{"sender_domains":["News.test"]}`).field(t, "token")
	refused := b.with(news, "POST", "/v1.0/emails", basic)
	require.Equal(t, 403, refused.status)
	require.Contains(t, refused.body, `"pointer":"/from"`)
	require.Equal(t, 202, b.with(news, "POST", "/v1.0/emails", strings.ReplaceAll(basic, "acme.test", "news.test")).status)

	near := b.as("POST", "/v1.0/accesskeys", `{"networks":["192.0.2.0/24","2001:db8::1"]}`).field(t, "token")
	from := func(remote, forwarded string) int {
		req := httptest.NewRequest("GET", "/v1.0/customer", nil)
		req.RemoteAddr = remote
		req.Header.Set("Authorization", "Bearer "+near)
		req.Header.Set("X-Forwarded-For", forwarded)
		rec := httptest.NewRecorder()
		b.server.ServeHTTP(rec, req)
		return rec.Code
	}
	require.Equal(t, 200, from("192.0.2.9:1", ""))
	require.Equal(t, 200, from("[::ffff:192.0.2.9]:1", ""))
	require.Equal(t, 200, from("[2001:db8::1]:1", ""))
	require.Equal(t, 403, from("[2001:db8::2]:1", ""))
	require.Equal(t, 403, from("198.51.100.1:1", ""))
	require.Equal(t, 403, from("198.51.100.1:1", "192.0.2.9"), "nobody is believed who is not a trusted proxy")
}

func TestRotation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	old := b.as("POST", "/v1.0/accesskeys", `{"name":"ci","scopes":["emails:read"],"networks":["0.0.0.0/0"]}`)
	path := "/v1.0/accesskeys/" + old.field(t, "id") + "/rotate"
	fresh := b.as("POST", path, "")
	require.Equal(t, 200, fresh.status, fresh.body)
	require.NotEqual(t, old.field(t, "token"), fresh.field(t, "token"))
	var like struct{ Scopes, Networks []string }
	fresh.decode(t, &like)
	require.Equal(t, []string{"emails:read"}, like.Scopes)
	require.Equal(t, []string{"0.0.0.0/0"}, like.Networks)
	require.Equal(t, 200, b.with(old.field(t, "token"), "GET", "/v1.0/emails", "").status, "both are good for a day")
	require.Equal(t, 200, b.with(fresh.field(t, "token"), "GET", "/v1.0/emails", "").status)
	require.NotContains(t, b.as("GET", "/v1.0/accesskeys/"+old.field(t, "id"), "").field(t, "tm_expire"), "9999")
	require.NotEmpty(t, b.as("GET", "/v1.0/accesskeys/"+fresh.field(t, "id"), "").field(t, "last_used_at"))
	require.Equal(t, 200, b.as("POST", path, `{"overlap":0}`).status)
	require.Equal(t, 401, b.with(old.field(t, "token"), "GET", "/v1.0/emails", "").status)
	require.Equal(t, 404, b.as("POST", path, "").status, "what has ended is not rotated")
	require.Equal(t, 400, b.as("POST", path, `{"overlap":99999999}`).status)
}

// warmup takes a domain through what the operator can do with its plan.
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

func TestTheOperatorGoverns(t *testing.T) {
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

func TestControlIsAudited(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.as("POST", "/v1.0/emails", basic).field(t, "id")
	for _, action := range []string{"hold", "resume", "cancel"} {
		require.Equal(t, 200, b.as("POST", "/v1.0/emails/"+id+"/"+action, "").status)
	}
	require.Equal(t, 409, b.as("POST", "/v1.0/emails/"+id+"/hold", "").status)
	require.Equal(t, 200, b.as("DELETE", "/v1.0/emails/"+id, "").status)
	require.Equal(t, 202, b.as("POST", "/v1.0/emails/"+id+"/resend", "").status)
	var audit struct {
		Result []struct{ Action, Target, RequestID string }
	}
	b.as("GET", "/v1.0/audit?page_size=5", "").decode(t, &audit)
	var actions []string
	for _, a := range audit.Result {
		actions = append(actions, a.Action)
		require.Equal(t, id, a.Target)
	}
	require.Equal(t, []string{"email.resend", "email.deleted", "email.cancel", "email.resume", "email.hold"}, actions, "what was refused is not on record")
}

// TestCreditsUnderConcurrency: exactly as many recipients as were paid for.
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

func TestRequestRate(t *testing.T) {
	t.Parallel()
	b := setupWith(t, maxBytes, 5)
	var last answer
	for range 20 {
		if last = b.as("GET", "/v1.0/customer", ""); last.status == 429 {
			break
		}
		require.Equal(t, "10", last.header.Get("RateLimit-Limit"))
	}
	require.Equal(t, 429, last.status)
	require.Equal(t, "too_many_requests", last.field(t, "code"))
	require.Equal(t, "1", last.header.Get("Retry-After"))
	require.Equal(t, "0", last.header.Get("RateLimit-Remaining"))
	reset, err := strconv.Atoi(last.header.Get("RateLimit-Reset"))
	require.NoError(t, err)
	require.Positive(t, reset)
	_, other := b.newCustomer("Other", "other.test")
	require.Equal(t, 200, b.with(other, "GET", "/v1.0/customer", "").status, "each credential by itself")
}

func TestGuessingPasswordsIsThrottled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.store.CreateUser(t.Context(), b.customer.ID, "ann", "correct horse", true)
	require.NoError(t, err)
	login := func(password string) answer {
		return b.call("POST", "/v1.0/auth/login", `{"username":"ann","password":"`+password+`"}`)
	}
	for range 10 {
		require.Equal(t, 401, login("wrong").status)
	}
	throttled := login("correct horse")
	require.Equal(t, 429, throttled.status, "the right one is not told either")
	require.NotEmpty(t, throttled.header.Get("Retry-After"))

	_, err = b.store.CreateUser(t.Context(), b.customer.ID, "bob", "correct horse", false)
	require.NoError(t, err)
	for range 15 {
		require.Equal(t, 200, b.call("POST", "/v1.0/auth/login", `{"username":"bob","password":"correct horse"}`).status, "only failures count")
	}
	token := b.call("POST", "/v1.0/auth/login", `{"username":"bob","password":"correct horse"}`).field(t, "token")
	require.Equal(t, 200, b.with(token, "GET", "/v1.0/accesskeys", "").status)
	require.Equal(t, 403, b.with(token, "GET", "/v1.0/pauses", "").status, "this user is no admin")
}

// TestARestrictedKeyCannotFreeItself: it makes no key, and sends nothing from elsewhere.
func TestARestrictedKeyCannotFreeItself(t *testing.T) {
	t.Parallel()
	b := setup(t)
	foreign := b.as("POST", "/v1.0/emails", basic).field(t, "id")
	require.Equal(t, 200, b.as("POST", "/v1.0/emails/"+foreign+"/cancel", "").status)
	forever := b.as("POST", "/v1.0/accesskeys", `{"name":"forever"}`).field(t, "id")
	for _, restriction := range []string{`"sender_domains":["news.test"]`, `"networks":["192.0.2.0/24"]`, `"scopes":["emails:send"]`, `"expire":60`} {
		key := b.as("POST", "/v1.0/accesskeys", `{`+restriction+`}`).field(t, "token")
		require.Equal(t, 403, b.with(key, "POST", "/v1.0/accesskeys", `{"name":"free"}`).status, restriction)
		require.Equal(t, 403, b.with(key, "POST", "/v1.0/accesskeys/"+forever+"/rotate", "").status, restriction)
	}
	news := b.as("POST", "/v1.0/accesskeys", `{"sender_domains":["news.test"]}`).field(t, "token")
	require.Equal(t, 403, b.with(news, "POST", "/v1.0/emails/"+foreign+"/resend", "").status)
	admin := b.adminKey()
	theirs := b.with(admin, "POST", "/v1.0/accesskeys", `{"name":"operator","scopes":["admin"]}`).field(t, "id")
	refused := b.as("POST", "/v1.0/accesskeys/"+theirs+"/rotate", "")
	require.Equal(t, 403, refused.status, "whoever rotates an operator's key would be one")
	require.Empty(t, refused.field(t, "token"))
	require.Equal(t, 200, b.with(admin, "POST", "/v1.0/accesskeys/"+theirs+"/rotate", "").status)
	locked := b.with(admin, "PUT", "/v1.0/customers/"+b.customer.ID, `{"status":"suspended"}`)
	require.Equal(t, 400, locked.status, "nobody locks the operator out")

	again := func() answer {
		return b.call("POST", "/v1.0/emails/"+foreign+"/resend", "", "Authorization", "Bearer "+b.key, "Idempotency-Key", "once")
	}
	first, second := again(), again()
	require.Equal(t, 202, first.status, first.body)
	require.Equal(t, first.field(t, "id"), second.field(t, "id"), "sent again once")
	require.Equal(t, "true", second.header.Get("Idempotent-Replayed"))
}
