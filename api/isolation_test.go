package api_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/internal/account"
)

// credential is a credential of one kind.
type credential struct {
	name, token string
	// username is the user of a login token; empty for a key.
	username string
	// grant is what it may do; zero for an invalid one.
	grant account.Grant
	// refused is the status of each request with it; 0 for a valid one.
	refused int
}

// may reports whether it meets the requirement of a route.
func (c credential) may(r api.Route) bool {
	switch {
	case r.Public:
		return true
	case r.Unrestricted:
		return c.grant.Full()
	case r.Login:
		return c.grant.UserID != ""
	case r.Scope == "":
		return true
	}
	return c.grant.May(r.Scope) && (r.Also == "" || c.grant.May(r.Also))
}

// rights is an installation with two customers and an operator, with credentials of all kinds.
type rights struct {
	*bench
	a, b, operator account.Customer
	keyA           string
	credentials    []credential
	// mailbox and message belong to customer A.
	mailbox, message string
	// hooks are the endpoints of A, the oldest first.
	hooks []string
}

// secrets are texts in resources of A by the scope that may read them. "full" means an unrestricted
// credential.
var secrets = map[account.Scope]string{
	account.ScopeRead: "SECRETMAIL", account.ScopeMailboxes: "SECRETBOX", account.ScopeWebhooks: "secrethook", account.ScopeSend: "SECRETFILE", account.ScopeSuppressions: "secretlist", "full": "SECRETKEY",
}

const secretMail = `{"from":{"email":"shop@a.test","name":"SECRETMAIL"},"to":[{"email":"secretmail@x.test","name":"SECRETMAIL"}],"subject":"SECRETMAIL",
	"content":{"text":"SECRETMAIL","html":"<p>SECRETMAIL</p>"},"tags":["SECRETMAIL"],"metadata":{"k":"SECRETMAIL"},
	"attachments":[{"filename":"SECRETMAIL.txt","content":"aGk="}]}`

func setupRights(t *testing.T) *rights {
	r := &rights{bench: setupFor(t, setupOptions{maxBytes: maxBytes, linkBase: "https://mail.test"})}
	go func() { // the tests do not look at wake-ups
		for {
			select {
			case <-r.dispatch.woken:
			case <-t.Context().Done():
				return
			}
		}
	}()
	r.a, r.keyA = r.newCustomer("A", "a.test")
	r.b, _ = r.newCustomer("B", "b.test")
	r.operator, _ = r.newCustomer("Operator", "operator.test")
	near := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} // where httptest comes from
	soon := time.Now().Add(time.Hour)
	for _, c := range []account.Customer{r.a, r.b} {
		domain := strings.ToLower(c.Name) + ".test"
		r.key(c, "full", account.AccessKey{})
		for _, s := range account.Scopes() {
			if s != account.ScopeAdmin {
				r.key(c, string(s), account.AccessKey{Scopes: []account.Scope{s}})
			}
		}
		r.key(c, "networks", account.AccessKey{Networks: near})
		r.key(c, "sender_domains", account.AccessKey{SenderDomains: []string{domain}})
		r.key(c, "ending", account.AccessKey{ExpiresAt: soon})
		r.login(c, "login", false)
	}
	admin := []account.Scope{account.ScopeAdmin}
	r.key(r.operator, "admin", account.AccessKey{Scopes: admin})
	r.key(r.operator, "admin networks", account.AccessKey{Scopes: admin, Networks: near})
	r.key(r.operator, "admin sender_domains", account.AccessKey{Scopes: admin, SenderDomains: []string{"operator.test"}})
	r.key(r.operator, "admin ending", account.AccessKey{Scopes: admin, ExpiresAt: soon})
	r.login(r.operator, "login", true)
	r.useless(near)
	r.receive("From: x@x.test\r\nSubject: SECRETBOX\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/csv\r\nContent-Disposition: attachment; filename=a.csv\r\n\r\nSECRETBOX\r\n--b--\r\n")
	return r
}

func (r *rights) key(c account.Customer, name string, k account.AccessKey) {
	r.t.Helper()
	k.CustomerID, k.Name = c.ID, "SECRETKEY "+name
	_, token, err := r.store.Accounts.CreateAccessKey(r.t.Context(), k)
	require.NoError(r.t, err)
	g, err := r.store.Accounts.GrantByToken(r.t.Context(), token)
	require.NoError(r.t, err)
	r.credentials = append(r.credentials, credential{name: c.Name + ": " + name, token: token, grant: g})
}

func (r *rights) login(c account.Customer, name string, admin bool) {
	r.t.Helper()
	u, err := r.store.Accounts.CreateUser(r.t.Context(), c.ID, "user-"+c.Name, "correct horse", admin)
	require.NoError(r.t, err)
	token := r.token("user-" + c.Name)
	g, err := r.store.Accounts.GrantByUser(r.t.Context(), u.ID)
	require.NoError(r.t, err)
	r.credentials = append(r.credentials, credential{name: c.Name + ": " + name, token: token, username: u.Username, grant: g})
}

func (r *rights) token(username string) string {
	r.t.Helper()
	return r.call("POST", "/auth/login", `{"username":"`+username+`","password":"correct horse"}`).field(r.t, "token")
}

// useless adds invalid credentials.
func (r *rights) useless(near []netip.Prefix) {
	r.t.Helper()
	ctx := r.t.Context()
	make := func(k account.AccessKey) (account.AccessKey, string) {
		made, token, err := r.store.Accounts.CreateAccessKey(ctx, k)
		require.NoError(r.t, err)
		return made, token
	}
	deleted, deletedToken := make(account.AccessKey{CustomerID: r.a.ID})
	_, err := r.store.Accounts.DeleteAccessKey(ctx, r.a.ID, deleted.ID)
	require.NoError(r.t, err)
	_, expired := make(account.AccessKey{CustomerID: r.a.ID, ExpiresAt: time.Now().Add(-time.Hour)})
	_, far := make(account.AccessKey{CustomerID: r.a.ID, Networks: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}})
	suspended, suspendedToken := r.newCustomer("Suspended", "suspended.test")
	_, err = r.store.Accounts.UpdateCustomerAsOperator(ctx, suspended.ID, account.StatusSuspended, nil)
	require.NoError(r.t, err)
	r.credentials = append(r.credentials, credential{name: "none", refused: 401}, credential{name: "unknown key", token: account.NewToken(), refused: 401},
		credential{name: "deleted key", token: deletedToken, refused: 401}, credential{name: "expired key", token: expired, refused: 401},
		credential{name: "forged login", token: "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.", refused: 401},
		credential{name: "key from elsewhere", token: far, refused: 403}, credential{name: "suspended customer's key", token: suspendedToken, refused: 403})
}

// TestIsolation makes requests to all routes with all kinds of credentials, for
// resources of one customer. A credential grants, reads and deletes no more than its rights allow,
// and other customers' resources are not found. A new route fails here until it has a row.
func TestIsolation(t *testing.T) {
	t.Parallel()
	r := setupRights(t)
	rows := rightsRows()
	known := map[string]bool{}
	for _, route := range r.server.Routes() {
		name := route.Method + " " + route.Path
		known[name] = true
		asks, ok := rows[name]
		require.True(t, ok, "%s has no row in rightsRows: say what it is asked for", name)
		for i, c := range r.credentials {
			for _, q := range asks(r) {
				r.ask(route, c, q)
			}
			if !route.Public && !route.Login {
				for _, q := range asks(r) {
					r.ask(route, c, q.actingFor(r.a))
				}
			}
			if route.Login && c.username != "" { // these end the token that they are asked with
				r.credentials[i].token = r.token(c.username)
			}
		}
	}
	for name := range rows {
		require.True(t, known[name], "%s is no route", name)
	}
}

// ask makes a request and checks its answer and effects.
func (r *rights) ask(route api.Route, c credential, q request) {
	r.t.Helper()
	what := c.name + ": " + route.Method + " " + q.path + " " + q.body
	headers := []string{"Content-Type", "application/json"}
	if q.contentType != "" {
		headers[1] = q.contentType
	}
	if c.token != "" {
		headers = append(headers, "Authorization", "Bearer "+c.token)
	}
	if q.body == "" {
		headers = headers[2:]
	}
	got := r.call(route.Method, q.path, q.body, headers...)
	other := c.grant.Customer.ID != r.a.ID
	theirs := q.owned && other && route.Scope != account.ScopeAdmin && !q.acting
	switch {
	case route.Public:
		require.Less(r.t, got.status, 300, what)
	case c.refused != 0:
		require.Equal(r.t, c.refused, got.status, "%s: %s", what, got.body)
	case !c.may(route):
		require.Equal(r.t, 403, got.status, "%s: %s", what, got.body)
	case q.acting && !route.AnyCustomer:
		require.Equal(r.t, 400, got.status, "%s: %s", what, got.body)
		require.Contains(r.t, got.body, `"pointer":"customer_id"`, what)
	case q.acting && other && !c.grant.Admin():
		require.Equal(r.t, 403, got.status, "%s: %s", what, got.body)
	case theirs:
		require.Equal(r.t, 404, got.status, "%s: %s", what, got.body)
	case q.beyond != nil && q.beyond(c.grant):
		require.Equal(r.t, 403, got.status, "%s: %s", what, got.body)
	default:
		require.Less(r.t, got.status, 300, "%s: %s", what, got.body)
	}
	r.reads(c, got, what)
	r.gives(c, got, what)
	for _, k := range q.keys {
		if member, _ := c.grant.Exceeded(k.key); member != "" || c.refused != 0 {
			_, err := r.store.Accounts.GrantByToken(r.t.Context(), k.token)
			require.NoError(r.t, err, "%s has ended a key that may do more", what)
			still, err := r.store.Accounts.AccessKey(r.t.Context(), k.key.CustomerID, k.key.ID)
			require.NoError(r.t, err)
			require.Equal(r.t, k.key.ExpiresAt, still.ExpiresAt, what)
		}
	}
	if q.user != nil {
		if member, _ := c.grant.Exceeded(q.user.Rights()); member != "" || c.refused != 0 || !c.may(route) {
			still, err := r.store.Accounts.User(r.t.Context(), q.user.CustomerID, q.user.ID)
			require.NoError(r.t, err, "%s has ended a user who may do more", what)
			require.Equal(r.t, *q.user, still, what)
		}
	}
}

// reads checks that an answer contains nothing that the credential may not read.
func (r *rights) reads(c credential, got answer, what string) {
	r.t.Helper()
	for scope, text := range secrets {
		mine := c.refused == 0 && (c.grant.Customer.ID == r.a.ID || c.grant.Admin() && (scope == "full" || scope == account.ScopeSuppressions))
		if scope == "full" {
			mine = mine && (c.grant.Full() || c.grant.Admin())
		} else {
			mine = mine && c.grant.May(scope)
		}
		own := scope == "full" && c.grant.Full() // each customer's keys are named so
		if !mine && !own {
			require.NotContains(r.t, strings.ToLower(got.body), strings.ToLower(text), what)
		}
	}
}

// gives checks that a key in an answer has no more rights than the credential of the request.
func (r *rights) gives(c credential, got answer, what string) {
	r.t.Helper()
	if got.status >= 300 || !strings.Contains(got.body, `"token":"pr_`) {
		return
	}
	g, err := r.store.Accounts.GrantByToken(r.t.Context(), got.field(r.t, "token"))
	require.NoError(r.t, err)
	member, why := c.grant.Exceeded(account.AccessKey{Scopes: g.Scopes, SenderDomains: g.SenderDomains, Networks: g.Networks, ExpiresAt: g.ExpiresAt})
	require.Empty(r.t, member, "%s: %s", what, why)
	require.True(r.t, g.Customer.ID == c.grant.Customer.ID || c.grant.Admin(), what)
}

// A key that may manage or resend e-mails, and may not read them, sees their status only.
func TestManageScopeShowsNoContent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.as("POST", "/v1.0/emails", basic).field(t, "id")
	manage := b.as("POST", "/v1.0/accesskeys", `{"scopes":["emails:manage"]}`).field(t, "token")
	canceled := b.with(manage, "POST", "/v1.0/emails/"+id+"/cancel", "")
	require.Equal(t, 200, canceled.status, canceled.body)
	require.Equal(t, "canceled", canceled.field(t, "status"))
	require.NotContains(t, canceled.body, "bob@x.test")
	both := b.as("POST", "/v1.0/accesskeys", `{"scopes":["emails:manage","emails:read"]}`).field(t, "token")
	require.Contains(t, b.with(both, "POST", "/v1.0/emails/"+id+"/cancel", "").body, "bob@x.test")
	send := b.as("POST", "/v1.0/accesskeys", `{"scopes":["emails:send"]}`).field(t, "token")
	again := b.with(send, "POST", "/v1.0/emails/"+id+"/resend", "")
	require.Equal(t, 202, again.status, again.body)
	require.NotContains(t, again.body, "bob@x.test")
	require.NotContains(t, again.body, "Thanks")
	require.Contains(t, b.as("GET", "/v1.0/emails/"+again.field(t, "id"), "").body, "bob@x.test", "the new one goes to all")
	require.Contains(t, b.with(send, "POST", "/v1.0/emails", basic).body, "bob@x.test", "what the request said")
}

// A key with only the scope webhooks cannot send past events or waiting deliveries to a URL that it
// chooses.
func TestWebhooksScopeReadsNoPastEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := "/v1.0/webhooks/" + b.as("POST", "/v1.0/webhooks", `{"url":"https://hooks.x.test/in"}`).field(t, "id")
	hooks := b.as("POST", "/v1.0/accesskeys", `{"scopes":["webhooks"]}`).field(t, "token")
	require.Equal(t, 403, b.with(hooks, "POST", path+"/replay", `{"since":"2020-01-01T00:00:00Z"}`).status)
	require.Equal(t, 403, b.with(hooks, "PUT", path, `{"url":"https://evil.x.test/"}`).status)
	require.Equal(t, 200, b.with(hooks, "PUT", path, `{"url":"https://hooks.x.test/in","tags":["a"]}`).status)
	both := b.as("POST", "/v1.0/accesskeys", `{"scopes":["webhooks","emails:read"]}`).field(t, "token")
	require.Equal(t, 202, b.with(both, "POST", path+"/replay", `{"since":"2020-01-01T00:00:00Z"}`).status)
	require.Equal(t, 200, b.with(both, "PUT", path, `{"url":"https://other.x.test/"}`).status)
}
