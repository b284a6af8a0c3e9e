package api_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOperatorsTakeKeysBack: of any customer, and only under its own path.
func TestOperatorsTakeKeysBack(t *testing.T) {
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

// TestOperatorsDeleteCustomers: without mail only, and not the one they act for.
func TestOperatorsDeleteCustomers(t *testing.T) {
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

// TestADomainIsTakenBack: deleted or not verified any more, it is nobody's to send from,
// also where senders need no verified domain, until it is verified for a customer.
func TestADomainIsTakenBack(t *testing.T) {
	t.Parallel()
	for name, anyDomain := range map[string]bool{"verified domains only": false, "any domain": true} {
		for _, method := range []string{"PUT", "DELETE"} {
			t.Run(name+", "+method, func(t *testing.T) {
				t.Parallel()
				b := setupFor(t, setupOptions{maxBytes: maxBytes, anyDomain: anyDomain})
				admin := b.adminKey()
				other, otherKey := b.newCustomer("Other", "other.test")
				mine, theirs := "/v1.0/customers/"+b.customer.ID+"/domains", "/v1.0/customers/"+other.ID+"/domains"
				send := func(key string) int { return b.with(key, "POST", "/v1.0/emails", basic).status }
				require.Contains(t, b.with(admin, "GET", mine, "").body, `"acme.test"`)
				require.NotEmpty(t, b.with(admin, "GET", mine+"/ACME.test", "").field(t, "verified_at"))

				kept := b.with(admin, "POST", mine, `{"name":"acme.test","verified":false}`)
				require.Equal(t, 409, kept.status, "it takes nothing back, and says so: %s", kept.body)
				require.Contains(t, kept.body, mine+"/acme.test")
				require.Equal(t, 200, b.with(admin, "POST", mine, `{"name":"acme.test"}`).status)
				require.Equal(t, 202, send(b.key))
				require.Equal(t, 409, b.with(admin, "POST", theirs, `{"name":"acme.test","verified":true}`).status)
				require.Equal(t, 404, b.with(admin, "DELETE", theirs+"/acme.test", "").status)
				require.Equal(t, 400, b.with(admin, "PUT", mine+"/acme.test", `{}`).status)

				body := map[string]string{"PUT": `{"verified":false}`}[method]
				require.Equal(t, 200, b.with(admin, method, mine+"/acme.test", body).status)
				require.Equal(t, map[string]int{"PUT": 200, "DELETE": 404}[method], b.with(admin, "GET", mine+"/acme.test", "").status)
				require.Equal(t, []int{403, 403}, []int{send(b.key), send(otherKey)}, "nobody sends from it")
				require.Equal(t, 200, b.with(admin, "POST", theirs, `{"name":"acme.test"}`).status)
				require.Equal(t, 403, send(otherKey), "a claim is no verification")

				require.Equal(t, 200, b.with(admin, "PUT", theirs+"/acme.test", `{"verified":true}`).status)
				require.Equal(t, []int{403, 202}, []int{send(b.key), send(otherKey)}, "it is the other's now")
				require.Equal(t, 200, b.with(admin, "PUT", theirs+"/acme.test", `{"verified":true}`).status, "again changes nothing")
			})
		}
	}
}
