package api_test

import (
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/account"
)

// A proxy that appends to X-Forwarded-For forwards X-Real-IP as the client sent it.
func TestXRealIPIsIgnored(t *testing.T) {
	t.Parallel()
	b := setupFor(t, setupOptions{maxBytes: maxBytes, proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	_, key, err := b.store.Accounts.CreateAccessKey(t.Context(), account.AccessKey{CustomerID: b.customer.ID, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	require.NoError(t, err)
	from := func(header, value string) int {
		req := httptest.NewRequest("GET", "/v1.0/customer", nil)
		req.RemoteAddr = "127.0.0.1:1234"
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set(header, value)
		rec := httptest.NewRecorder()
		b.server.ServeHTTP(rec, req)
		return rec.Code
	}
	require.Equal(t, 403, from("X-Real-IP", "10.1.1.1"))
	require.Equal(t, 403, from("Forwarded", "for=10.1.1.1"))
	require.Equal(t, 200, from("X-Forwarded-For", "10.1.1.1"))
}

// A client without a credential may announce that much of the budget from each address.
func TestTheBodyOfALoginIsSmall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	password := strings.Repeat("\u0001", account.MaxPasswordBytes)
	_, err := b.store.Accounts.CreateUser(t.Context(), b.customer.ID, "ann", password, false)
	require.NoError(t, err)
	longest := `{"username":"ann","password":"` + strings.Repeat(`\u0001`, account.MaxPasswordBytes) + `"}`
	require.Equal(t, 200, b.call("POST", "/auth/login", longest).status)
	for _, path := range []string{"/auth/login", "/v1.0/auth/login"} {
		require.Equal(t, 413, b.call("POST", path, longest+strings.Repeat(" ", 2<<10)).status, path)
	}
}

func TestCredentialsInQueryAndHeader(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.store.Accounts.CreateUser(t.Context(), b.customer.ID, "ann", "correct horse", false)
	require.NoError(t, err)
	for _, path := range []string{"/auth/login", "/v1.0/auth/login"} {
		res := b.call("POST", path, `{"username":"ann","password":"correct horse"}`)
		require.Equal(t, 200, res.status, res.body)
		require.Equal(t, "ann", res.field(t, "username"))
		token := url.QueryEscape(res.field(t, "token"))
		require.Equal(t, 200, b.call("GET", "/v1.0/customer?token="+token, "").status)
		require.Equal(t, 200, b.call("GET", "/v1.0/customer", "", "Authorization", "Bearer "+token).status)
	}
	require.Equal(t, 401, b.call("POST", "/auth/login", `{"username":"ann","password":"wrong"}`).status)
	require.Equal(t, 200, b.call("GET", "/v1.0/customer?accesskey="+b.key, "").status)
	require.Equal(t, 200, b.call("GET", "/v1.0/customer?token="+b.key, "").status, "a key in ?token= works too")
	require.Equal(t, 200, b.call("GET", "/v1.0/customer?accesskey="+b.key, "", "Authorization", "bearer "+b.key).status, "the same one twice is one")
	token := b.call("POST", "/auth/login", `{"username":"ann","password":"correct horse"}`).field(t, "token")
	require.Equal(t, 200, b.call("GET", "/v1.0/customer?accesskey="+token, "").status, "and so does a token in ?accesskey=")
	require.Equal(t, 400, b.call("GET", "/v1.0/customer?accesskey="+b.key+"&token=other", "").status)
	require.Equal(t, 401, b.call("GET", "/v1.0/customer", "").status)
	require.Equal(t, 401, b.call("GET", "/v1.0/customer?token=eyJhbGciOiJub25lIn0.e30.", "").status, "an unsigned token is none")
	for cred, want := range map[string]string{"accesskey=pr_nonsense": "access key", "accesskey=bad": "key create", "token=bad": "/auth/login", "accesskey=eyJhbGciOiJub25lIn0.e30.": "/auth/login"} {
		refused := b.call("GET", "/v1.0/customer?"+cred, "")
		require.Equal(t, 401, refused.status)
		require.Contains(t, refused.field(t, "detail"), want, cred)
		require.Equal(t, want != "/auth/login", !strings.Contains(refused.body, "/auth/login"), cred)
	}
}

func TestOtherCustomersResourcesAreNotFound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	res := b.as("POST", "/v1.0/emails", basic)
	id := res.field(t, "id")
	_, other := b.newCustomer("Other", "other.test")
	for _, method := range []string{"GET", "DELETE"} {
		got := b.call(method, "/v1.0/emails/"+id+"?accesskey="+other, "")
		require.Equal(t, 404, got.status, method)
		require.Equal(t, "not_found", got.field(t, "code"))
	}
	require.Equal(t, "queued", b.as("GET", "/v1.0/emails/"+id, "").field(t, "status"))
}
