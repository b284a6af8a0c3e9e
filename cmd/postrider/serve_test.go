package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/devstack"
	"github.com/postrider/postrider/internal/logtest"
	"github.com/postrider/postrider/internal/smtptest"
)

// deployment is Postgres, Temporal and a relay, with the environment that points
// postrider's commands to them.
type deployment struct {
	t   testing.TB
	bin string
	env []string
	// database is where the commands keep things.
	database string
	// api and health are where serve and worker listen.
	api, health string
	// key is a customer's, once there is one; namespace is Temporal's.
	key, namespace string
	// stream is that of what post sends; empty is transactional.
	stream email.Stream
	// sendAt is when what post sends is due; zero is at once.
	sendAt time.Time
}

func deploy(t *testing.T, relay *smtptest.Peer) *deployment {
	t.Helper()
	pg := startPostgres(t, devstack.PostgresOptions{})
	temporal := startTemporal(t, devstack.TemporalOptions{})
	return newDeployment(t, binary(t), pg.URL("postgres"), temporal.Address(), "smtp://"+relay.Addr()+"?tls=none&name=peer")
}

func startPostgres(t testing.TB, options devstack.PostgresOptions) *devstack.Postgres {
	t.Helper()
	pg, err := devstack.StartPostgres(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Stop(context.WithoutCancel(t.Context()))) })
	return pg
}

func startTemporal(t testing.TB, options devstack.TemporalOptions) *devstack.Temporal {
	t.Helper()
	options.CLI, options.Headless = filepath.Join(temporalOnPath(t), "temporal"), true
	temporal, err := devstack.StartTemporal(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, temporal.Stop(context.WithoutCancel(t.Context()))) })
	return temporal
}

func freeAddress(t testing.TB) string {
	t.Helper()
	p, err := devstack.FreePort()
	require.NoError(t, err)
	return "127.0.0.1:" + strconv.Itoa(p)
}

// newDeployment points to parts that run already. extra settings win.
func newDeployment(t testing.TB, bin, database, temporal, relays string, extra ...string) *deployment {
	t.Helper()
	d := &deployment{t: t, bin: bin, database: database, api: freeAddress(t), health: freeAddress(t)}
	d.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "DATABASE_URL=" + database, "TEMPORAL_ADDRESS=" + temporal,
		"POSTRIDER_SMTP_URLS=" + relays, "POSTRIDER_SECRET_KEY=" + strings.Repeat("ab", 32),
		"POSTRIDER_LISTEN=" + d.api, "POSTRIDER_HEALTH_LISTEN=" + d.health, "POSTRIDER_PUBLIC_URL=https://mail.example.com",
	}, extra...)
	return d
}

// run runs a command to its end and returns what it printed.
func (d *deployment) run(stdin string, args ...string) string {
	d.t.Helper()
	out, err := d.try(stdin, args...)
	require.NoError(d.t, err, "%v: %s", args, out)
	return strings.TrimSpace(out)
}

func (d *deployment) try(stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(d.t.Context(), d.bin, args...)
	cmd.Env, cmd.Stdin = d.env, strings.NewReader(stdin)
	out, err := cmd.Output()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		out = append(out, failed.Stderr...)
	}
	return string(out), err
}

// daemon is a command that runs until it is stopped.
type daemon struct {
	cmd *exec.Cmd
	printed
}

// printed is what a process has written so far.
type printed struct{ logtest.Buffer }

func (p *printed) output() string { return p.String() }

func (d *deployment) start(args ...string) *daemon { return d.startWith(nil, args...) }

// startWith starts a daemon with settings of its own.
func (d *deployment) startWith(extra []string, args ...string) *daemon {
	d.t.Helper()
	p := &daemon{cmd: exec.Command(d.bin, args...)} // ended below, with a signal
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = append(slices.Clone(d.env), extra...), p, p
	require.NoError(d.t, p.cmd.Start())
	d.t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill() // it may have ended by itself
			_ = p.cmd.Wait()         // killed: that is no news
		}
	})
	return p
}

// stop ends a daemon as an orchestrator does.
func (p *daemon) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.cmd.Wait(), p.output())
}

func (d *deployment) eventually(what string, ok func() bool) {
	d.t.Helper()
	require.Eventually(d.t, ok, patience, 50*time.Millisecond, what)
}

// client acts for the customer of the key. It tries once: an answer that does not
// come fails a test.
func (d *deployment) client() *client.Client {
	d.t.Helper()
	c, err := client.New("http://"+d.api, d.key, client.WithRetry(client.Retry{Tries: 1}), checked(d.t, "http://"+d.api))
	require.NoError(d.t, err)
	return c
}

func (d *deployment) call(method, path, body string) (int, http.Header, []byte) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, "http://"+d.api+path, strings.NewReader(body))
	require.NoError(d.t, err)
	res, err := http.DefaultClient.Do(req)
	require.NoError(d.t, err)
	data, err := io.ReadAll(res.Body)
	require.NoError(d.t, err)
	require.NoError(d.t, res.Body.Close())
	check(d.t, "http://"+d.api, []byte(body), res, data)
	return res.StatusCode, res.Header, data
}

// TestServeAndWorker is a real deployment in small: migrate, a customer, the API
// and the worker as processes of their own, a relay that is not ours.
func TestServeAndWorker(t *testing.T) {
	t.Parallel()
	relay := (&smtptest.Peer{Extensions: []string{"SIZE 1000000", "DSN"}}).Start(t)
	d := deploy(t, relay)

	require.Contains(t, d.run("", "migrate", "status"), "0001_init")
	require.Contains(t, d.run("", "migrate", "status"), "not applied")
	out, err := d.try("", "customer", "create", "--name", "Early")
	require.Error(t, err)
	require.Contains(t, out, "postrider migrate up", "the error says what to do")
	require.Contains(t, d.run("", "migrate", "up", "--skip-temporal"), "up to date")

	worker := d.start("worker")
	d.eventually("the worker says what it waits for", func() bool { return strings.Contains(worker.output(), "run `postrider migrate up`") })
	require.Contains(t, d.run("", "migrate", "up"), "temporal: search attributes")
	d.eventually("the worker starts", func() bool { return strings.Contains(worker.output(), "worker.started") })
	require.Equal(t, 1, strings.Count(worker.output(), "worker.waiting"), "it says so once")
	require.NotContains(t, d.run("", "migrate", "status"), "not applied")

	created := d.run("", "customer", "create", "--name", "ACME")
	require.Contains(t, created, "whsec_")
	d.run("correct horse\n", "user", "create", "--customer", "ACME", "--username", "ann")
	d.key = d.run("", "key", "create", "--customer", "ACME", "--name", "test")
	require.Equal(t, "acme.test verified", d.run("", "domain", "add", "ACME.test", "--customer", "ACME", "--verified"))
	require.Equal(t, "acme.test no warm-up", d.run("", "domain", "warmup", "acme.test", "--customer", "ACME"))
	require.Equal(t, "acme.test day 1 of 3: 0 of 50 recipients", d.run("", "domain", "warmup", "acme.test", "--customer", "ACME", "--plan", "50, 100,200"))
	require.Equal(t, "acme.test begins on 2999-11-27", d.run("", "domain", "warmup", "acme.test", "--customer", "ACME", "--plan", "50", "--from", "2999-11-27"))
	require.Equal(t, "acme.test begins on 2999-11-27", d.run("", "domain", "warmup", "acme.test", "--customer", "ACME"))
	require.Equal(t, "acme.test no warm-up", d.run("", "domain", "warmup", "acme.test", "--customer", "ACME", "--off"))
	for _, bad := range [][]string{{"user", "create", "--customer", "ACME", "--username", "x"}, {"key", "create", "--customer", "Nobody"}, {"domain", "add", "not a domain", "--customer", "ACME"}, {"domain", "warmup", "acme.test", "--customer", "ACME", "--plan", "50,many"},
		{"domain", "warmup", "acme.test", "--customer", "ACME", "--from", "2999-11-27"}, {"domain", "warmup", "acme.test", "--customer", "ACME", "--plan", ""},
		{"domain", "warmup", "acme.test", "--customer", "ACME", "--plan", "50", "--from", "1999-01-01"}, {"domain", "warmup", "other.test", "--customer", "ACME", "--off"},
		{"domain", "warmup", "acme.test", "--customer", "ACME", "--plan", "50", "--off"}, {"customer", "create", "--name", " "}} {
		out, err := d.try("short\n", bad...)
		require.Error(t, err, bad)
		require.Regexp(t, `(?m)^postrider: `, out, bad)
	}

	api := d.start("serve")
	d.eventually("the API answers", func() bool { _, err := d.try("", "health", "--ready"); return err == nil })
	d.ready()
	status, header, data := d.call("POST", "/v1.0/emails?accesskey="+d.key, `{"from":{"email":"shop@acme.test"},"to":[{"email":"bob@y.test"}],"bcc":[{"email":"eve@y.test"}],"subject":"s","content":"Hi"}`)
	require.Equal(t, http.StatusAccepted, status, string(data))
	var mail client.Email
	require.NoError(t, json.Unmarshal(data, &mail))
	require.Equal(t, "https://mail.example.com/v1.0/emails/"+mail.ID, header.Get("Location"))
	c := d.client()
	d.eventually("delivered", func() bool {
		mail, err = c.Get(t.Context(), mail.ID)
		require.NoError(t, err)
		return mail.Status == email.StatusDelivered
	})
	require.Len(t, relay.Messages(), 1)
	got := relay.Messages()[0]
	require.Equal(t, "shop@acme.test", got.From)
	require.Equal(t, []string{"bob@y.test", "eve@y.test"}, got.To)
	require.NotContains(t, got.Data, "eve@y.test")
	require.Equal(t, email.AcceptsRelay, mail.Recipients[0].AcceptedBy.Means)
	status, _, data = d.call("POST", "/auth/login", `{"username":"ann","password":"correct horse"}`)
	require.Equal(t, http.StatusOK, status, string(data))

	// "Mail must stop now" takes one command, and so does letting it go on.
	require.Contains(t, d.run("", "pause", "--reason", "spam run"), "spam run")
	_, err = c.Send(t.Context(), client.Message{From: client.Address{Email: "shop@acme.test"}, To: []client.Address{{Email: "paused@y.test"}}, Subject: "s", Content: client.Content{Text: "Hi"}})
	require.NoError(t, err)
	d.eventually("stopped", func() bool { return strings.Contains(d.run("", "pauses"), "1 e-mail waits") })
	require.Len(t, relay.Messages(), 1)
	require.Contains(t, d.run("", "unpause"), "nothing is paused")
	d.eventually("delivered after the pause", func() bool { return len(relay.Messages()) == 2 })
	out, err = d.try("", "pause", "--stream", "pigeon")
	require.Error(t, err)
	require.Contains(t, out, "transactional or broadcast")
	_, err = d.try("", "pause", "--stream", "broadcast", "--relay", "peer")
	require.Error(t, err, "one at a time")

	_, _, data = d.call("GET", "/metrics", "")
	require.Contains(t, string(data), "postrider_emails_accepted_total 2")
	res, err := http.Get("http://" + d.health + "/metrics")
	require.NoError(t, err)
	data, err = io.ReadAll(res.Body)
	require.NoError(t, errors.Join(err, res.Body.Close()))
	require.Contains(t, string(data), `postrider_recipient_outcomes_total{outcome="delivered",reason=""} 3`)
	require.Contains(t, string(data), `postrider_relay_up{relay="peer"} 1`)

	require.Contains(t, api.output(), `"POSTRIDER_SECRET_KEY":"set"`, "settings are printed at start, secrets as set")
	for _, secret := range []string{strings.Repeat("ab", 32), d.key} {
		require.NotContains(t, api.output()+worker.output(), secret)
	}
	api.stop(t)
	worker.stop(t)
	require.Contains(t, worker.output(), "worker.draining")
	d.run("", "migrate", "down", "--yes-delete-data")
	require.Contains(t, d.run("", "migrate", "status"), "not applied")
}

// TestInvalidSettings: everything that is wrong is said at once.
func TestInvalidSettings(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), binary(t), "serve")
	cmd.Env = []string{"DATABASE_URL=mysql://x", "POSTRIDER_SECRET_KEY=short", "POSTRIDER_SMPT_URLS=x", "POSTRIDER_LISTEN=nowhere"}
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	for _, name := range []string{"DATABASE_URL", "POSTRIDER_SECRET_KEY", "did you mean POSTRIDER_SMTP_URLS", "POSTRIDER_LISTEN"} {
		require.Contains(t, string(out), name)
	}
}
