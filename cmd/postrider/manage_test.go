package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/devstack"
)

// TestAccountCommands: what create makes is listed, shown and ended, and
// nothing reaches another customer's.
func TestAccountCommands(t *testing.T) {
	t.Parallel()
	pg := startPostgres(t, devstack.PostgresOptions{})
	d := newDeployment(t, binary(t), pg.URL("postgres"), "127.0.0.1:1", "smtp://127.0.0.1:1?tls=none")
	d.run("", "migrate", "up", "--skip-temporal")
	create := func(name string) string {
		return regexp.MustCompile(`id +(\S+)`).FindStringSubmatch(d.run("", "customer", "create", "--name", name))[1]
	}
	acme, other := create("ACME"), create("Other")
	require.Regexp(t, `(?s)^ID +NAME +STATUS +CREATED\n`+other+` +Other +active +\S+Z\n`+acme+` +ACME +active +\S+Z$`, d.run("", "customer", "list"))
	refused := func(want string, args ...string) {
		t.Helper()
		out, err := d.try("", args...)
		require.Error(t, err, args)
		require.Contains(t, out, want)
	}

	out := d.run("", "domain", "add", "acme.test", "--customer", "ACME")
	require.Contains(t, out, "acme.test pending: mail from it is refused until its records are found\n")
	require.Contains(t, out, "postrider domain add acme.test --customer "+acme+" --verified")
	require.Contains(t, out, "pr1r._domainkey.acme.test. IN TXT ( \"v=DKIM1; k=rsa; p=")
	require.Regexp(t, `acme.test +pending +- +- +\S+Z$`, d.run("", "domain", "list", "--customer", "ACME"))
	require.Equal(t, "acme.test verified", d.run("", "domain", "add", "acme.test", "--customer", acme, "--verified"))
	require.Regexp(t, `(?m)^verified +\S+Z$`, d.run("", "domain", "show", "acme.test", "--customer", "ACME"))
	d.run("", "domain", "add", "bare.test", "--customer", acme, "--verified")
	bare := d.run("", "domain", "show", "bare.test", "--customer", acme)
	require.Regexp(t, `(?m)^next check +none, because it has no DKIM keys: postrider domain verify makes some$`, bare)
	require.Contains(t, bare, "SPF through -: the domain is not checked, because it has no DKIM keys")
	d.run("", "domain", "verify", "bare.test", "--customer", acme)
	require.NotContains(t, d.run("", "domain", "show", "bare.test", "--customer", acme), "no DKIM keys")
	refused("there is no such domain", "domain", "delete", "acme.test", "--customer", "Other")
	require.Contains(t, d.run("", "domain", "unverify", "ACME.test", "--customer", "ACME"), "acme.test is not verified")
	require.Regexp(t, `(?m)^verified +-$`, d.run("", "domain", "show", "acme.test", "--customer", "ACME"))
	d.run("", "domain", "add", "acme.test", "--customer", acme, "--verified")
	require.Equal(t, "acme.test is deleted\nnobody sends from it until it is verified for a customer: postrider domain add acme.test --customer CUSTOMER --verified",
		d.run("", "domain", "delete", "ACME.test", "--customer", "ACME"))
	require.NotContains(t, d.run("", "domain", "list", "--customer", "ACME"), "acme.test")

	d.run("long enough\n", "user", "create", "--customer", "ACME", "--username", "ann")
	require.Regexp(t, `ann +\S+ +false +\S+Z$`, d.run("", "user", "list", "--customer", "ACME"))
	require.Contains(t, d.run("", "user", "show", "ann", "--customer", "ACME"), acme)
	for _, verb := range []string{"delete", "revoke"} {
		refused("there is no such user", "user", verb, "ann", "--customer", "Other")
	}
	refused("the password has 0 bytes: give one of 8 to 1024", "user", "password", "ann", "--customer", "ACME")
	login := func(password string) (status int, token string) {
		t.Helper()
		var out struct{ Token string }
		status, _, body := d.call("POST", "/auth/login", `{"username":"ann","password":"`+password+`"}`)
		require.NoError(t, json.Unmarshal(body, &out))
		return status, out.Token
	}
	reads := func(token string) int {
		t.Helper()
		status, _, _ := d.call("GET", "/v1.0/customer?token="+token, "")
		return status
	}
	first := d.serve()
	_, token := login("long enough")
	require.Equal(t, 200, reads(token))
	require.Equal(t, "ann is logged out everywhere", d.run("", "user", "revoke", "ann", "--customer", "ACME"))
	require.Equal(t, 401, reads(token))
	_, token = login("long enough")
	require.Equal(t, 200, reads(token))
	require.Equal(t, "ann has a new password, and is logged out everywhere", d.run("still long enough\n", "user", "password", "ann", "--customer", "ACME"))
	require.Equal(t, 401, reads(token))
	status, _ := login("long enough")
	require.Equal(t, 401, status)
	status, _ = login("still long enough")
	require.Equal(t, 200, status)
	first.stop(t)
	require.Equal(t, "ann is deleted", d.run("", "user", "delete", "ann", "--customer", "ACME"))
	refused("there is no such user", "user", "show", "ann", "--customer", "ACME")

	token = d.run("", "key", "create", "--customer", "ACME", "--name", "shop", "--scope", "emails:send")
	list := d.run("", "key", "list", "--customer", "ACME")
	prefix := strings.Fields(strings.Split(list, "\n")[1])[1]
	require.True(t, strings.HasPrefix(token, prefix))
	require.NotContains(t, list+d.run("", "key", "show", prefix, "--customer", "ACME"), token)
	require.Regexp(t, `(?m)^scopes +emails:send$`, d.run("", "key", "show", prefix, "--customer", "ACME"))
	refused("there is no such access key", "key", "delete", prefix, "--customer", "Other")

	// A disabled customer's key is refused and works again; a deleted one does not.
	d.run("", "domain", "add", "acme.test", "--customer", "ACME", "--verified")
	api := d.serve()
	answers := func(status int) {
		t.Helper()
		got, _, body := d.call("POST", "/v1.0/emails/preview?accesskey="+token, `{"from":{"email":"a@acme.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":"t"}`)
		require.Equal(t, status, got, string(body))
	}
	answers(200)
	require.Contains(t, d.run("", "customer", "disable", "ACME"), "postrider pause --customer "+acme)
	require.Regexp(t, `(?m)^status +suspended$`, d.run("", "customer", "show", "ACME"))
	answers(403)
	require.Equal(t, "ACME is active", d.run("", "customer", "enable", "ACME"))
	answers(200)
	require.Equal(t, prefix+" is deleted", d.run("", "key", "delete", prefix, "--customer", "ACME"))
	answers(401)
	require.NotContains(t, api.output(), `"route":"/readyz"`, "probes are not logged at info")
	require.Contains(t, api.output(), `"route":"/v1.0/emails/preview"`)
	api.stop(t)

	// With mail it is disabled, without it is deleted and its names are free.
	require.NoError(t, dbtest.FillUnseen(t.Context(), pg.URL("postgres"), acme, 1))
	refused("the customer has e-mails, which stay on record: suspend it with `postrider customer disable`", "customer", "delete", "ACME")
	d.run("long enough\n", "user", "create", "--customer", "Other", "--username", "ann")
	require.Equal(t, "Other is deleted", d.run("", "customer", "delete", "Other"))
	refused("there is no such customer", "customer", "delete", "Other")
	require.NotContains(t, d.run("", "customer", "list"), "Other")
	create("Other")
	d.run("long enough\n", "user", "create", "--customer", "ACME", "--username", "ann")
}

// TestFindCustomerRefusesAnAmbiguousName: each command that takes a customer refuses a
// name that several have and lists their ids, and tells whose things it has changed.
func TestFindCustomerRefusesAnAmbiguousName(t *testing.T) {
	t.Parallel()
	pg := startPostgres(t, devstack.PostgresOptions{})
	d := newDeployment(t, binary(t), pg.URL("postgres"), "127.0.0.1:1", "smtp://127.0.0.1:1?tls=none")
	d.run("", "migrate", "up", "--skip-temporal")
	create := func() string {
		return regexp.MustCompile(`id +(\S+)`).FindStringSubmatch(d.run("", "customer", "create", "--name", "Twin"))[1]
	}
	first, second := create(), create()
	commands := func(customer string) [][]string {
		return [][]string{
			{"key", "create", "--customer", customer}, {"key", "list", "--customer", customer},
			{"user", "create", "--customer", customer, "--username", "ann"}, {"user", "delete", "ann", "--customer", customer},
			{"domain", "add", "twin.test", "--customer", customer}, {"domain", "warmup", "twin.test", "--customer", customer, "--plan", "50"},
			{"domain", "reputation", "twin.test", "--customer", customer},
			{"user", "create", "--customer", customer, "--username", "bob"}, {"user", "password", "bob", "--customer", customer}, {"user", "revoke", "bob", "--customer", customer},
			{"domain", "unverify", "twin.test", "--customer", customer}, {"domain", "delete", "twin.test", "--customer", customer},
			{"pause", "--customer", customer}, {"unpause", "--customer", customer},
			{"pause", "--customer", customer, "--domain", "twin.test", "--stream", "broadcast"}, {"unpause", "--customer", customer, "--domain", "twin.test", "--stream", "broadcast"},
			{"customer", "disable", customer}, {"customer", "enable", customer}, {"customer", "show", customer},
		}
	}
	for _, args := range commands("Twin") {
		out, err := d.try("long enough\n", args...)
		require.Error(t, err, args)
		require.Regexp(t, `several customers have the name "Twin"; give the id of one of them:\n  `+first+`  made \S+\n  `+second+`  made \S+\n$`, out, args)
	}
	require.Contains(t, d.run("", "pauses"), "nothing is paused")
	for _, customer := range []string{first, second} {
		require.Regexp(t, `(?m)^keys +0$`, d.run("", "customer", "show", customer))
	}
	for _, args := range append(commands(second), []string{"customer", "delete", second}) {
		cmd := exec.CommandContext(t.Context(), d.bin, args...)
		var said bytes.Buffer
		cmd.Env, cmd.Stdin, cmd.Stderr = d.env, strings.NewReader("long enough\n"), &said
		require.NoError(t, cmd.Run(), "%s: %s", args, said.String())
		require.Contains(t, said.String(), "customer "+second+", Twin\n", args)
	}
	require.Contains(t, d.run("", "customer", "show", "Twin"), first, "a deleted namesake does not count")
}

func TestLogDurations(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	newLog(&out, slog.LevelInfo).With("a", time.Minute).Info("m", "timeout", 150*time.Second, slog.Group("g", "b", time.Millisecond))
	require.Contains(t, out.String(), `"a":"1m0s","timeout":"2m30s","g":{"b":"1ms"}`)
}

// TestUnknownSubcommands: a script with a slip of the pen does not go on.
func TestUnknownSubcommands(t *testing.T) {
	t.Parallel()
	groups := 0
	for _, group := range root().Commands() {
		if !group.HasSubCommands() {
			continue
		}
		groups++
		cmd := root()
		cmd.SetArgs([]string{group.Name(), "frobnicate"})
		require.ErrorContains(t, cmd.ExecuteContext(t.Context()), `there is no command "frobnicate"`, group.Name())
	}
	require.GreaterOrEqual(t, groups, 5)
}
