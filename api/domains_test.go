package api_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A verified domain belongs to one customer, with and without the check of verified domains.
func TestDomainBelongsToOneCustomer(t *testing.T) {
	t.Parallel()
	b := setupFor(t, setupOptions{maxBytes: maxBytes, anyDomain: true})
	_, other := b.newCustomer("Other", "other.test")
	require.Equal(t, 202, b.with(other, "POST", "/v1.0/emails", strings.ReplaceAll(basic, "acme.test", "nobodys.test")).status)
	refused := b.with(other, "POST", "/v1.0/emails", basic)
	require.Equal(t, 403, refused.status, refused.body)
	require.Equal(t, "sender_domain_unverified", refused.field(t, "code"))
	require.Contains(t, refused.body, `"pointer":"/from"`)
	require.Equal(t, 403, b.with(other, "POST", "/v1.0/emails/batch", messages(basic)).status)
	require.Equal(t, 202, b.as("POST", "/v1.0/emails", basic).status)
}

// After a domain is deleted or its verification is taken back, no customer may send from it until it
// is verified again. That holds even if senders need no verified domain.
func TestOperatorTakesDomainBack(t *testing.T) {
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
