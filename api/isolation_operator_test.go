package api_test

import (
	"strings"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/account"
)

// user creates a user of customer A with the password hash of A's other user, because hashing is
// slow.
func (r *rights) user(admin bool) account.User {
	r.t.Helper()
	id := uuid.NewString()
	_, err := r.raw.NewRaw(`INSERT INTO users (id, customer_id, username, password_hash, admin)
		SELECT ?, customer_id, ?, password_hash, ? FROM users WHERE username = 'user-A'`, id, "SECRETKEY-"+id, admin).Exec(r.t.Context())
	require.NoError(r.t, err)
	u, err := r.store.Accounts.User(r.t.Context(), r.a.ID, id)
	require.NoError(r.t, err)
	return u
}

// operatorRows are the requests to an operator's routes for keys, users and domains.
func operatorRows() map[string]asking {
	customer := func(part string) asking {
		return on(func(r *rights) string { return "/v1.0/customers/" + r.a.ID + part }, "")
	}
	// A user with no more rights than the credential, and one with more.
	user := func(part, body string) asking {
		return func(r *rights) (out []request) {
			for _, admin := range []bool{false, true} {
				u := r.user(admin)
				out = append(out, request{path: "/v1.0/customers/" + r.a.ID + "/users/" + u.ID + part, body: body, owned: true, user: &u, beyond: func(g account.Grant) bool {
					member, _ := g.Exceeded(u.Rights())
					return member != ""
				}})
			}
			return out
		}
	}
	domain := func(body string) asking {
		return func(r *rights) []request {
			name := strings.ReplaceAll(uuid.NewString(), "-", "") + ".test"
			_, err := r.store.Accounts.AddDomain(r.t.Context(), r.a.ID, name, true)
			require.NoError(r.t, err)
			return []request{{path: "/v1.0/customers/" + r.a.ID + "/domains/" + name, body: body, owned: true, beyond: func(g account.Grant) bool { return !g.MaySendFrom(name) }}}
		}
	}
	return map[string]asking{
		"POST /v1.0/auth/password": func(*rights) []request {
			return []request{{path: "/v1.0/auth/password", body: `{"password":"correct horse","new_password":"correct horse"}`}}
		},
		"POST /v1.0/auth/revoke": func(*rights) []request { return []request{{path: "/v1.0/auth/revoke"}} },
		"DELETE /v1.0/customers/:id": func(r *rights) []request {
			c, _, err := r.store.Accounts.CreateCustomer(r.t.Context(), "Brief", "", "")
			require.NoError(r.t, err)
			return []request{{path: "/v1.0/customers/" + c.ID, owned: true, beyond: func(g account.Grant) bool {
				member, _ := g.Exceeded(account.AccessKey{Scopes: []account.Scope{account.ScopeAdmin}})
				return member != ""
			}}}
		},
		"GET /v1.0/customers/:id/users": customer("/users"),
		"GET /v1.0/customers/:id/users/:user": on(func(r *rights) string {
			return "/v1.0/customers/" + r.a.ID + "/users/" + r.user(false).ID
		}, ""),
		"DELETE /v1.0/customers/:id/users/:user":       user("", ""),
		"POST /v1.0/customers/:id/users/:user/revoke":  user("/revoke", ""),
		"PUT /v1.0/customers/:id/users/:user/password": user("/password", `{"password":"battery staple"}`),
		"GET /v1.0/customers/:id/domains":              customer("/domains"),
		"GET /v1.0/customers/:id/domains/:domain":      customer("/domains/a.test"),
		"PUT /v1.0/customers/:id/domains/:domain":      domain(`{"verified":false}`),
		"DELETE /v1.0/customers/:id/domains/:domain":   domain(""),
	}
}
