package api_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
)

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

func TestAccessKeyRestrictions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.store.Accounts.AddDomain(t.Context(), b.customer.ID, "news.test", true)
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

func TestRotateAccessKey(t *testing.T) {
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
	require.NotEqual(t, email.TimestampNever, b.as("GET", "/v1.0/accesskeys/"+old.field(t, "id"), "").field(t, "tm_expire"))
	require.NotEmpty(t, b.as("GET", "/v1.0/accesskeys/"+fresh.field(t, "id"), "").field(t, "last_used_at"))
	require.Equal(t, 200, b.as("POST", path, `{"overlap":0}`).status)
	require.Equal(t, 401, b.with(old.field(t, "token"), "GET", "/v1.0/emails", "").status)
	require.Equal(t, 404, b.as("POST", path, "").status, "what has ended is not rotated")
	require.Equal(t, 400, b.as("POST", path, `{"overlap":99999999}`).status)
}

// A restricted key can neither create keys nor send from other networks.
func TestRestrictedKeyCannotEscalate(t *testing.T) {
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

func TestAccessKeyTokenIsShownOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	res := b.as("POST", "/v1.0/accesskeys", `{"name":"ci","detail":"for tests","expire":3600}`)
	require.Equal(t, 200, res.status, res.body)
	token, id := res.field(t, "token"), res.field(t, "id")
	require.Equal(t, token[:11], res.field(t, "token_prefix"))
	require.Equal(t, 200, b.call("GET", "/v1.0/accesskeys?accesskey="+token, "").status)
	require.NotContains(t, b.as("GET", "/v1.0/accesskeys", "").body, token)
	require.NotContains(t, b.as("GET", "/v1.0/accesskeys/"+id, "").body, token)
	require.Equal(t, 200, b.as("DELETE", "/v1.0/accesskeys/"+id, "").status)
	require.Equal(t, 401, b.call("GET", "/v1.0/accesskeys?accesskey="+token, "").status)
}

// An operator deletes keys of any customer, only under the path of that customer.
func TestOperatorDeletesKeys(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.adminKey()
	other, _ := b.newCustomer("Other", "other.test")
	key := b.as("POST", "/v1.0/accesskeys", `{"name":"shop"}`)
	id, token := key.field(t, "id"), key.field(t, "token")
	keys := "/v1.0/customers/" + b.customer.ID + "/accesskeys"
	elsewhere := "/v1.0/customers/" + other.ID + "/accesskeys/"
	require.Equal(t, 403, b.as("GET", keys, "").status, "the operator's only")
	list := b.with(admin, "GET", keys, "")
	require.Contains(t, list.body, id)
	require.NotContains(t, list.body, token)
	require.Equal(t, "shop", b.with(admin, "GET", keys+"/"+id, "").field(t, "name"))
	require.Equal(t, 404, b.with(admin, "GET", elsewhere+id, "").status)
	require.Equal(t, 404, b.with(admin, "DELETE", elsewhere+id, "").status)
	require.Equal(t, 200, b.with(token, "GET", "/v1.0/customer", "").status)
	require.Equal(t, 200, b.with(admin, "DELETE", keys+"/"+id, "").status)
	require.Equal(t, 401, b.with(token, "GET", "/v1.0/customer", "").status)
	require.NotContains(t, b.with(admin, "GET", keys, "").body, id)
	require.Equal(t, 404, b.with(admin, "GET", "/v1.0/customers/"+b.customer.ID+"/users/"+b.customer.ID, "").status)
}
