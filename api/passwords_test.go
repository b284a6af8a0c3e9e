package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/httpserver"
)

// clock is a clock that the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// setupLogins starts an API behind a proxy, with the user ann.
func setupLogins(t *testing.T, o setupOptions) *bench {
	t.Helper()
	o.maxBytes, o.proxies = maxBytes, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	b := setupFor(t, o)
	b.user("ann", false)
	return b
}

func (b *bench) user(name string, admin bool) account.User {
	b.t.Helper()
	u, err := b.store.Accounts.CreateUser(b.t.Context(), b.customer.ID, name, "correct horse", admin)
	require.NoError(b.t, err)
	return u
}

func (b *bench) loginFrom(ip, username, password string) answer {
	b.t.Helper()
	return b.call("POST", "/auth/login", fmt.Sprintf(`{"username":%q,"password":%q}`, username, password), "X-Forwarded-For", ip)
}

// Concurrent guesses do not exceed the limit.
func TestConcurrentGuessLimit(t *testing.T) {
	t.Parallel()
	at := newClock()
	b := setupLogins(t, setupOptions{clock: at.Now})
	got := map[int]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			a := b.loginFrom("198.51.100.1", "ann", "wrong")
			mu.Lock()
			defer mu.Unlock()
			got[a.status]++
		})
	}
	wg.Wait()
	require.Equal(t, map[int]int{401: 10, 429: 90}, got)
	refused := b.loginFrom("198.51.100.1", "ann", "correct horse")
	require.Equal(t, 429, refused.status)
	require.Equal(t, "30", refused.header.Get("Retry-After"))
	at.pass(30 * time.Second)
	require.Equal(t, 200, b.loginFrom("198.51.100.1", "ann", "correct horse").status)
	require.Equal(t, 200, b.loginFrom("198.51.100.1", "ann", "correct horse").status, "a right one does not count")
}

// Wrong passwords from one other network, or from many, do not lock a login.
func TestGuessesFromOtherNetworksLockNoLogin(t *testing.T) {
	t.Parallel()
	b := setupLogins(t, setupOptions{clock: newClock().Now})
	for i := range 11 {
		want := 401
		if i == 10 {
			want = 429
		}
		require.Equal(t, want, b.loginFrom("198.51.100.1", "ann", "wrong").status)
	}
	for i := range 12 {
		require.Equal(t, 401, b.loginFrom(fmt.Sprintf("198.51.100.%d", 100+i), "ann", "wrong").status)
	}
	require.Equal(t, 200, b.loginFrom("198.51.100.2", "ann", "correct horse").status)
	require.Equal(t, 200, b.loginFrom("2001:db8::1", "ann", "correct horse").status)
}

// A host has a /64 of IPv6 addresses, so a /64 has one limit.
func TestIPv6NetworkSharesGuessLimit(t *testing.T) {
	t.Parallel()
	for a, want := range map[string]string{
		"2001:db8:0:1::7": "2001:db8:0:1::/64", "2001:db8:0:1:ffff::7": "2001:db8:0:1::/64", "2001:db8:0:2::7": "2001:db8:0:2::/64",
		"fe80::1%eth0": "fe80::/64", "::ffff:192.0.2.7": "192.0.2.7", "192.0.2.7": "192.0.2.7", "": "",
	} {
		require.Equal(t, want, httpserver.ClientNetwork(a), a)
	}
	b := setupLogins(t, setupOptions{clock: newClock().Now})
	got := map[int]int{}
	for i := range 70 {
		got[b.loginFrom(fmt.Sprintf("2001:db8:0:1::%x", i+1), fmt.Sprintf("user%d", i), "wrong").status]++
	}
	require.Equal(t, map[int]int{401: 50, 429: 20}, got)
	require.Equal(t, 200, b.loginFrom("2001:db8:0:2::1", "ann", "correct horse").status)
}

// A client that guesses at many names does not lock logins that have succeeded from the same
// network before.
func TestKnownLoginIgnoresGuessesOfItsNetwork(t *testing.T) {
	t.Parallel()
	b := setupLogins(t, setupOptions{clock: newClock().Now})
	b.user("bob", false)
	require.Equal(t, 200, b.loginFrom("198.51.100.1", "ann", "correct horse").status)
	for i := range 50 {
		require.Equal(t, 401, b.loginFrom("198.51.100.1", fmt.Sprintf("user%d", i), "wrong").status)
	}
	require.Equal(t, 429, b.loginFrom("198.51.100.1", "bob", "correct horse").status)
	require.Equal(t, 200, b.loginFrom("198.51.100.1", "ann", "correct horse").status)
	require.Equal(t, 200, b.loginFrom("198.51.100.2", "bob", "correct horse").status)
}

// gone cancels the request while its password is being checked.
type gone struct {
	api.Logins
	leave context.CancelFunc
}

func (g *gone) Authenticate(ctx context.Context, username, password string) (account.User, error) {
	if g.leave != nil {
		g.leave()
	}
	return g.Logins.Authenticate(ctx, username, password)
}

// A wrong password counts even if the client closes the connection before the answer.
func TestCanceledLoginCountsAsGuess(t *testing.T) {
	t.Parallel()
	g := &gone{}
	b := setupLogins(t, setupOptions{clock: newClock().Now, logins: func(a api.Logins) api.Logins { g.Logins = a; return g }})
	for range 10 {
		ctx, cancel := context.WithCancel(t.Context())
		g.leave = cancel
		req := httptest.NewRequestWithContext(ctx, "POST", "/auth/login", strings.NewReader(`{"username":"ann","password":"wrong"}`))
		req.Header.Set("X-Forwarded-For", "198.51.100.1")
		b.server.ServeHTTP(httptest.NewRecorder(), req)
	}
	require.Equal(t, 429, b.loginFrom("198.51.100.1", "ann", "correct horse").status)
}

// The order of the queue, and which request a full queue refuses.
func TestHashQueueOrder(t *testing.T) {
	t.Parallel()
	begun := func(turn api.Turn) bool {
		t.Helper()
		ok, err := turn.Begun()
		require.NoError(t, err)
		return ok
	}
	busy := func() api.Queue {
		q := api.NewQueue(time.Hour)
		for i := range api.HashesAtOnce {
			require.True(t, begun(q.Arrive("first", fmt.Sprint(i))))
		}
		return q
	}
	t.Run("a single request of a name goes before many of another name", func(t *testing.T) {
		q := busy()
		alone := q.Arrive("bob", "home")
		for i := range 10 {
			q.Arrive("ann", fmt.Sprint("bot", i))
		}
		q.Leave()
		require.True(t, begun(alone))
		require.Equal(t, api.HashesAtOnce, q.Running())
	})
	t.Run("a single request of a network goes before many of another network", func(t *testing.T) {
		q := busy()
		alone := q.Arrive("bob", "home")
		for i := range 10 {
			q.Arrive(fmt.Sprint("name", i), "bot")
		}
		q.Leave()
		require.True(t, begun(alone))
	})
	t.Run("a known login goes before many of the same name", func(t *testing.T) {
		q := busy()
		q.Succeeded("ann", "home")
		known := q.Arrive("ann", "home")
		for i := range 10 {
			q.Arrive("ann", fmt.Sprint("bot", i))
		}
		q.Leave()
		require.True(t, begun(known))
	})
	t.Run("the newest request goes first among equal ones", func(t *testing.T) {
		q := busy()
		older, newer := q.Arrive("ann", "a"), q.Arrive("bob", "b")
		q.Leave()
		require.True(t, begun(newer))
		require.False(t, begun(older))
		q.Leave()
		require.True(t, begun(older))
		q.Leave()
		q.Leave()
		require.Zero(t, q.Running())
	})
	t.Run("a full queue refuses the newest of many alike", func(t *testing.T) {
		q := busy()
		alone := q.Arrive("bob", "home")
		oldest := q.Arrive("ann", "bot")
		for i := range api.HashesWaiting - 2 {
			q.Arrive("ann", fmt.Sprint("bot", i))
		}
		newest := q.Arrive("ann", "one more")
		_, err := newest.Begun()
		require.Equal(t, email.CodeUnavailable, email.FailureCode(err))
		require.False(t, begun(oldest))
		require.Equal(t, api.HashesWaiting, q.Waiting())
		q.Leave()
		require.True(t, begun(alone))
	})
	t.Run("a first login goes before a full queue of guesses from other sites for other names", func(t *testing.T) {
		q := busy()
		for i := range 3 * api.HashesWaiting {
			q.Arrive(fmt.Sprint("name", i), fmt.Sprint("bot", i))
		}
		alone := q.Arrive("bob", "home")
		for i := range 1000 { // the next tries of the same sites
			q.Arrive(fmt.Sprint("other", i), fmt.Sprint("bot", i%(3*api.HashesWaiting)))
		}
		q.Leave()
		require.True(t, begun(alone))
		require.Equal(t, api.HashesWaiting-1, q.Waiting())
	})
	t.Run("all networks of an IPv6 /48 are one site", func(t *testing.T) {
		q := busy()
		alone := q.Arrive("bob", "home")
		for i := range 1000 {
			q.Arrive(fmt.Sprint("name", i), fmt.Sprintf("2001:db8:0:%x::/64", i))
		}
		q.Leave()
		require.False(t, begun(alone), "the newest, the first of its site")
		q.Leave()
		require.True(t, begun(alone))
	})
	t.Run("a right login of a known network goes before any number of guesses at its name", func(t *testing.T) {
		q := busy()
		q.Succeeded("ann", "home")
		for i := range 1000 {
			q.Arrive("ann", fmt.Sprint("bot", i))
		}
		known := q.Arrive("ann", "home")
		first := q.Arrive("bob", "elsewhere")
		for i := range 1000 {
			q.Arrive("ann", fmt.Sprint("more", i))
		}
		q.Leave()
		q.Leave()
		require.True(t, begun(known))
		require.True(t, begun(first))
	})
	t.Run("a network with one wrong password goes before guessing networks", func(t *testing.T) {
		q := busy()
		for i := range api.HashesWaiting {
			for range 3 {
				q.Arrive(fmt.Sprint("name", i), fmt.Sprint("bot", i))
			}
		}
		for q.Waiting() > 0 {
			q.Leave()
		}
		require.NotNil(t, q.Arrive("bob", "home")) // the wrong one
		for i := range api.HashesWaiting {
			q.Arrive(fmt.Sprint("name", i), fmt.Sprint("bot", i))
		}
		mistyped := q.Arrive("bob", "home")
		q.Leave()
		q.Leave()
		require.True(t, begun(mistyped))
	})
	t.Run("guesses of its network do not count against a known login", func(t *testing.T) {
		q := busy()
		q.Succeeded("ann", "home")
		other := q.Arrive("bob", "elsewhere")
		for i := range 10 {
			q.Arrive(fmt.Sprint("name", i), "home")
		}
		known := q.Arrive("ann", "home")
		q.Leave()
		require.True(t, begun(known))
		require.False(t, begun(other))
	})
}

// heldLogins sends the name of each login to began, and blocks it until free is closed or receives.
type heldLogins struct {
	api.Logins
	began chan string
	free  chan struct{}
}

func (h *heldLogins) Authenticate(ctx context.Context, username, password string) (account.User, error) {
	h.began <- username
	<-h.free
	return h.Logins.Authenticate(ctx, username, password)
}

// A first login is checked while more addresses guess than the queue has room for. Each of them has
// one wrong password before.
func TestFirstLoginDuringGuesses(t *testing.T) {
	t.Parallel()
	h := &heldLogins{began: make(chan string), free: make(chan struct{})}
	b := setupLogins(t, setupOptions{clock: newClock().Now, logins: func(a api.Logins) api.Logins { h.Logins = a; return h }})
	const addresses = 80
	address := func(i int) string { return fmt.Sprintf("198.51.100.%d", i+1) }
	var guesses sync.WaitGroup
	guess := func(i int) {
		guesses.Go(func() { b.loginFrom(address(i), fmt.Sprint("bot", i), "wrong") })
	}
	for i := range addresses {
		guess(i)
		<-h.began
		h.free <- struct{}{}
		guesses.Wait()
	}
	for i := range addresses {
		guess(i)
	}
	for range api.HashesAtOnce {
		<-h.began
	}
	require.Eventually(t, func() bool { return b.server.PasswordsWaiting() == api.HashesWaiting }, time.Minute, time.Millisecond)
	right := make(chan answer)
	go func() { right <- b.loginFrom("203.0.113.1", "ann", "correct horse") }()
	// The request that the full queue refuses is answered.
	require.Eventually(t, func() bool { return b.server.Seen("ann") }, time.Minute, time.Millisecond)
	h.free <- struct{}{}
	require.Equal(t, "ann", <-h.began)
	close(h.free)
	go func() {
		for range h.began {
		}
	}()
	require.Equal(t, 200, (<-right).status)
	guesses.Wait()
	close(h.began)
}

// A request leaves the queue after its patience, or when it is canceled.
func TestHashQueueTimeout(t *testing.T) {
	t.Parallel()
	q := api.NewQueue(time.Nanosecond)
	for range api.HashesAtOnce {
		q.Arrive("ann", "home")
	}
	require.Equal(t, email.CodeUnavailable, email.FailureCode(q.Enter(t.Context(), "bob", "home")))
	q2 := api.NewQueue(time.Hour)
	for range api.HashesAtOnce {
		q2.Arrive("ann", "home")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, q2.Enter(ctx, "bob", "home"), context.Canceled)
	for _, left := range []api.Queue{q, q2} {
		require.Zero(t, left.Waiting())
		for range api.HashesAtOnce {
			left.Leave()
		}
		require.Zero(t, left.Running(), "no turn is lost")
	}
}

// A known login that was refused goes before a first login all the same.
func TestARefusedKnownLoginIsNoTry(t *testing.T) {
	t.Parallel()
	busy := func(patience time.Duration) api.Queue {
		q := api.NewQueue(patience)
		for i := range api.HashesAtOnce {
			q.Arrive("first", fmt.Sprint(i))
		}
		q.Succeeded("ann", "home")
		return q
	}
	// next requires that a login of ann from home begins before those that wait.
	next := func(t *testing.T, q api.Queue) {
		t.Helper()
		ann := q.Arrive("ann", "home")
		q.Leave()
		begun, err := ann.Begun()
		require.NoError(t, err)
		require.True(t, begun)
	}
	t.Run("after its patience", func(t *testing.T) {
		t.Parallel()
		q := busy(time.Nanosecond)
		require.Equal(t, email.CodeUnavailable, email.FailureCode(q.Enter(t.Context(), "ann", "home")))
		q.Arrive("bob", "office")
		next(t, q)
	})
	t.Run("by a full queue", func(t *testing.T) {
		t.Parallel()
		q := busy(time.Hour)
		for i := range api.HashesWaiting - 1 {
			q.Arrive(fmt.Sprint("name", i), fmt.Sprint("network", i))
		}
		first, second := q.Arrive("ann", "home"), q.Arrive("ann", "home")
		_, err := second.Begun()
		require.Equal(t, email.CodeUnavailable, email.FailureCode(err))
		q.Leave()
		begun, err := first.Begun()
		require.NoError(t, err)
		require.True(t, begun)
		q.Succeeded("ann", "home")
		next(t, q)
	})
}

// Each login is logged and audited with its address, and without its user name and password.
func TestLoginsAreLoggedAndAudited(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	b := setupLogins(t, setupOptions{log: &log})
	ann, err := b.store.Accounts.UserByName(t.Context(), b.customer.ID, "ann")
	require.NoError(t, err)
	require.Equal(t, 200, b.loginFrom("198.51.100.1", "ann", "correct horse").status)
	require.Equal(t, 401, b.loginFrom("198.51.100.2", "ann", "SECRETGUESS").status)
	require.Equal(t, 401, b.loginFrom("198.51.100.3", "SECRETNAME", "SECRETGUESS").status)
	type row struct{ Actor, Addr, Action, Target, Detail, Customer string }
	var got []row
	audited, _, err := b.store.Accounts.Audit(t.Context(), "", email.Cursor{}, 3)
	require.NoError(t, err)
	for _, a := range audited {
		require.NotEmpty(t, a.Actor.RequestID)
		got = append(got, row{a.Actor.Name, a.Actor.RemoteAddr, a.Action, a.Target, a.Detail, a.CustomerID})
	}
	require.Equal(t, []row{
		{"anonymous", "198.51.100.3", "user.login_failed", "", "unknown username", ""},
		{"anonymous", "198.51.100.2", "user.login_failed", ann.ID, "wrong password", b.customer.ID},
		{"user:" + ann.ID, "198.51.100.1", "user.login", ann.ID, "", b.customer.ID},
	}, got)

	type line struct {
		Msg, Reason string
		Addr        string `json:"remote_addr"`
		User        string `json:"user_id"`
	}
	var lines []line
	for text := range strings.Lines(log.String()) {
		var l line
		require.NoError(t, json.Unmarshal([]byte(text), &l))
		if strings.HasPrefix(l.Msg, "login.") {
			lines = append(lines, l)
		}
	}
	require.Equal(t, []line{
		{"login.succeeded", "", "198.51.100.1", ann.ID}, {"login.failed", "unauthorized", "198.51.100.2", ann.ID}, {"login.failed", "unauthorized", "198.51.100.3", ""},
	}, lines)
	require.NotContains(t, log.String(), "SECRET")
	require.NotContains(t, log.String(), "correct horse")
	list := b.as("GET", "/v1.0/audit", "").body
	require.Contains(t, list, "198.51.100.2", "the customer sees guesses at its users")
	require.NotContains(t, list, "198.51.100.3")
}

// A change of the password, by the user or the operator, and a revocation end all login tokens.
func TestChangePasswordRevokesTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.adminKey()
	ann, bob := b.user("ann", false), b.user("bob", false)
	users := "/v1.0/customers/" + b.customer.ID + "/users/"
	login := func(name, password string) string {
		t.Helper()
		a := b.call("POST", "/auth/login", fmt.Sprintf(`{"username":%q,"password":%q}`, name, password))
		require.Equal(t, 200, a.status, a.body)
		return a.field(t, "token")
	}
	status := func(token string) int { return b.with(token, "GET", "/v1.0/customer", "").status }
	bystander, old, other := login("bob", "correct horse"), login("ann", "correct horse"), login("ann", "correct horse")

	wrong := b.with(old, "POST", "/v1.0/auth/password", `{"password":"wrong","new_password":"battery staple"}`)
	require.Equal(t, 403, wrong.status, wrong.body)
	require.Equal(t, 400, b.with(old, "POST", "/v1.0/auth/password", `{"password":"correct horse","new_password":"short"}`).status)
	require.Equal(t, 403, b.as("POST", "/v1.0/auth/password", `{"password":"correct horse","new_password":"battery staple"}`).status, "a key has no password")
	require.Equal(t, 200, status(old))
	changed := b.with(old, "POST", "/v1.0/auth/password", `{"password":"correct horse","new_password":"battery staple"}`)
	require.Equal(t, 200, changed.status, changed.body)
	require.Equal(t, []int{401, 401, 200}, []int{status(old), status(other), status(changed.field(t, "token"))})
	require.Equal(t, 401, b.call("POST", "/auth/login", `{"username":"ann","password":"correct horse"}`).status)

	token := login("ann", "battery staple")
	require.Equal(t, 200, b.with(admin, "PUT", users+ann.ID+"/password", `{"password":"third password"}`).status)
	require.Equal(t, 401, status(token))
	token = login("ann", "third password")
	require.Equal(t, 200, b.with(admin, "POST", users+ann.ID+"/revoke", "").status)
	require.Equal(t, 401, status(token))
	token = login("ann", "third password")
	require.Equal(t, 200, b.with(token, "POST", "/v1.0/auth/revoke", "").status)
	require.Equal(t, 401, status(token))
	token = login("ann", "third password")
	require.Equal(t, 200, b.with(admin, "DELETE", users+ann.ID, "").status)
	require.Equal(t, 401, status(token))
	require.Equal(t, 401, b.call("POST", "/auth/login", `{"username":"ann","password":"third password"}`).status)
	require.Equal(t, 200, status(bystander), "of one user only")
	require.Equal(t, 404, b.with(admin, "DELETE", users+ann.ID, "").status)
	list := b.with(admin, "GET", strings.TrimSuffix(users, "/"), "")
	require.Contains(t, list.body, bob.ID)
	require.NotContains(t, list.body, ann.ID)
}

// A client with a stolen token cannot guess the present password without a limit.
func TestChangePasswordGuessLimit(t *testing.T) {
	t.Parallel()
	b := setupLogins(t, setupOptions{clock: newClock().Now})
	token := b.loginFrom("198.51.100.1", "ann", "correct horse").field(t, "token")
	change := func(present string) answer {
		return b.call("POST", "/v1.0/auth/password", fmt.Sprintf(`{"password":%q,"new_password":"battery staple"}`, present), "Authorization", "Bearer "+token, "X-Forwarded-For", "198.51.100.1")
	}
	for range 10 {
		require.Equal(t, 403, change("wrong").status)
	}
	require.Equal(t, 429, change("correct horse").status)
	require.Equal(t, 200, b.loginFrom("198.51.100.1", "ann", "correct horse").status, "the user's own logins go on")
}

func TestWrongPasswordLimit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.store.Accounts.CreateUser(t.Context(), b.customer.ID, "ann", "correct horse", true)
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

	_, err = b.store.Accounts.CreateUser(t.Context(), b.customer.ID, "bob", "correct horse", false)
	require.NoError(t, err)
	for range 15 {
		require.Equal(t, 200, b.call("POST", "/v1.0/auth/login", `{"username":"bob","password":"correct horse"}`).status, "only failures count")
	}
	token := b.call("POST", "/v1.0/auth/login", `{"username":"bob","password":"correct horse"}`).field(t, "token")
	require.Equal(t, 200, b.with(token, "GET", "/v1.0/accesskeys", "").status)
	require.Equal(t, 403, b.with(token, "GET", "/v1.0/pauses", "").status, "this user is no admin")
}
