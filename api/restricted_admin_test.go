package api_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/account"
)

// Within its networks and sender domains, a restricted admin key manages the installation as other
// admin keys do. It creates and deletes keys with no more rights than its own.
func TestRestrictedAdminKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator, _ := b.newCustomer("Operator", "operator.test")
	customer, _ := b.newCustomer("Customer", "shop.test")
	admin := []account.Scope{account.ScopeAdmin}
	for name, tc := range map[string]struct {
		key account.AccessKey
		// within is a restriction that is equal or narrower; beyond are wider ones.
		within string
		beyond []string
	}{
		"networks": {account.AccessKey{Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, // where httptest comes from
			`"networks":["192.0.2.0/25"]`, []string{`"name":"free"`, `"networks":["192.0.0.0/16"]`, `"sender_domains":["shop.test"]`}},
		"sender_domains": {account.AccessKey{SenderDomains: []string{"shop.test", "operator.test"}},
			`"sender_domains":["shop.test"]`, []string{`"name":"free"`, `"sender_domains":["shop.test","else.test"]`, `"networks":["192.0.2.0/25"]`}},
	} {
		tc.key.CustomerID, tc.key.Scopes = operator.ID, admin
		_, token, err := b.store.Accounts.CreateAccessKey(t.Context(), tc.key)
		require.NoError(t, err)
		do := func(want int, method, path, body string) answer {
			t.Helper()
			got := b.with(token, method, path, body)
			require.Equal(t, want, got.status, "%s: %s %s %s: %s", name, method, path, body, got.body)
			return got
		}
		of := "/v1.0/customers/" + customer.ID
		for _, path := range []string{"/v1.0/customers", of, of + "/accesskeys", of + "/users", of + "/domains", "/v1.0/pauses"} {
			do(200, "GET", path, "")
		}
		made := do(200, "POST", of+"/accesskeys", `{`+tc.within+`}`)
		for _, beyond := range tc.beyond {
			do(403, "POST", of+"/accesskeys", `{`+beyond+`}`)
		}
		sent := b.with(made.field(t, "token"), "POST", "/v1.0/emails", strings.ReplaceAll(basic, "acme.test", "shop.test"))
		require.Equal(t, 202, sent.status, "%s: the key that was made sends: %s", name, sent.body)
		do(200, "DELETE", of+"/accesskeys/"+made.field(t, "id"), "")
		require.Equal(t, 401, b.with(made.field(t, "token"), "GET", "/v1.0/customer", "").status, name)

		do(200, "PUT", of+"/domains/shop.test", `{"verified":false}`)
		do(200, "PUT", of+"/domains/shop.test", `{"verified":true}`)
		do(200, "PUT", "/v1.0/pauses", `{"scope":"relay","key":"primary","reason":"test"}`)
		do(200, "DELETE", "/v1.0/pauses?scope=relay&key=primary", "")
		do(200, "PUT", of, `{"status":"suspended"}`)
		do(200, "PUT", of, `{"status":"active"}`)
	}
}
