package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/devstack"
)

var (
	firstKey  = strings.Repeat("ab", 32) // newDeployment's
	secondKey = strings.Repeat("cd", 32)
)

// with returns the deployment with other settings, and ports of its own.
func (d *deployment) with(settings ...string) *deployment {
	return newDeployment(d.t, d.bin, d.database, "127.0.0.1:1", "smtp://127.0.0.1:1?tls=none", settings...)
}

// readyAt is /readyz of a process of its own port.
func (d *deployment) readyAt(address string) (status int, body string) {
	d.t.Helper()
	res, err := http.Get("http://" + address + "/readyz")
	if err != nil {
		return 0, err.Error()
	}
	data, err := io.ReadAll(res.Body)
	require.NoError(d.t, err)
	require.NoError(d.t, res.Body.Close())
	return res.StatusCode, string(data)
}

// TestStartRefusesAWrongSecretKey: nothing that would seal or sign with it runs.
func TestStartRefusesAWrongSecretKey(t *testing.T) {
	t.Parallel()
	port, err := devstack.FreePort()
	require.NoError(t, err)
	dir := t.TempDir()
	pg, err := devstack.StartPostgres(t.Context(), devstack.PostgresOptions{Dir: dir, Port: port})
	require.NoError(t, err)
	first := newDeployment(t, binary(t), pg.URL("postgres"), "127.0.0.1:1", "smtp://127.0.0.1:1?tls=none")
	first.run("", "migrate", "up", "--skip-temporal")
	first.run("", "customer", "create", "--name", "ACME")

	other := first.with("POSTRIDER_SECRET_KEY=" + secondKey)
	for _, args := range [][]string{{"serve"}, {"worker"}, {"serve", "--worker"}, {"customer", "create", "--name", "Other"}, {"secret", "rotate"}} {
		out, err := other.try("", args...)
		require.Error(t, err, args)
		require.Contains(t, out, "POSTRIDER_SECRET_KEY is not the key that this database's secrets are sealed with", args)
	}
	require.Contains(t, other.run("", "secret", "status"), "a key that is not set here")
	require.Regexp(t, `open with no key that is set +1 secret$`, other.run("", "secret", "status"))

	// Without Postgres the key cannot be checked: the process starts, is not ready, and ends
	// when Postgres is back.
	require.NoError(t, pg.Stop(t.Context()))
	api := other.start("serve")
	other.eventually("it starts", func() bool { status, _ := other.readyAt(other.api); return status == http.StatusServiceUnavailable })
	pg = startPostgres(t, devstack.PostgresOptions{Dir: dir, Port: port})
	require.Equal(t, first.database, pg.URL("postgres"))
	require.Error(t, api.cmd.Wait())
	require.Contains(t, api.output(), "is not the key that this database's secrets are sealed with")
}

// TestSecretRotate goes through the procedure of docs/operating.md.
func TestSecretRotate(t *testing.T) {
	t.Parallel()
	pg := startPostgres(t, devstack.PostgresOptions{})
	old := newDeployment(t, binary(t), pg.URL("postgres"), "127.0.0.1:1", "smtp://127.0.0.1:1?tls=none")
	old.run("", "migrate", "up", "--skip-temporal")
	secret := regexp.MustCompile(`whsec_\S+`).FindString(old.run("", "customer", "create", "--name", "ACME"))
	require.NotEmpty(t, secret)
	old.run("correct horse\n", "user", "create", "--customer", "ACME", "--username", "ann")
	up := func(d *deployment) *daemon {
		p := d.start("serve")
		d.eventually("ready", func() bool { status, _ := d.readyAt(d.api); return status == http.StatusOK })
		return p
	}
	login := func(d *deployment) string {
		status, _, data := d.call("POST", "/auth/login", `{"username":"ann","password":"correct horse"}`)
		require.Equal(t, http.StatusOK, status, string(data))
		var answer struct{ Token string }
		require.NoError(t, json.Unmarshal(data, &answer))
		return answer.Token
	}
	known := func(d *deployment, token string) int {
		status, _, _ := d.call("GET", "/v1.0/customer?token="+token, "")
		return status
	}
	up(old)
	oldWorker := old.start("worker")
	// There is no Temporal here; what a worker says of Postgres comes first.
	old.eventually("the key is right", func() bool {
		_, body := old.readyAt(old.health)
		return strings.Contains(body, "temporal does not answer")
	})

	// 1. Both keys everywhere, here from files. The old one goes on sealing and signing.
	file := func(name, content string) string {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, []byte(content+"\n"), 0o600))
		return path
	}
	both := old.with("POSTRIDER_SECRET_KEY=", "POSTRIDER_SECRET_KEY_FILE="+file("new", secondKey), "POSTRIDER_SECRET_KEY_OLD_FILE="+file("old", firstKey))
	api := up(both)
	require.Equal(t, http.StatusOK, known(old, login(both)), "who signs in at a new process is known to an old one")
	early := login(old)
	require.Equal(t, http.StatusOK, known(both, early))
	require.Contains(t, both.run("", "secret", "status"), "seals now                     POSTRIDER_SECRET_KEY_OLD")
	for _, d := range []*deployment{old, both} {
		status, body := d.readyAt(d.api)
		require.Equal(t, http.StatusOK, status, body)
	}

	// 2. Seal with the new key. A process that was left out says so.
	out := both.run("", "secret", "rotate")
	// A webhook's secret, and the installation's own keys that are made by then.
	require.Regexp(t, `done: POSTRIDER_SECRET_KEY seals everything, [1-3] secrets?;`, out)
	require.Contains(t, both.run("", "secret", "rotate"), "done:", "again is harmless")
	status, body := old.readyAt(old.api)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, "POSTRIDER_SECRET_KEY is not the key")
	status, body = old.readyAt(old.health)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, "POSTRIDER_SECRET_KEY is not the key")
	oldWorker.stop(t)
	status, body = both.readyAt(both.api)
	require.Equal(t, http.StatusOK, status, body)
	require.Equal(t, http.StatusOK, known(both, early), "logins from before last while the old key is there")
	late := login(both)

	// 3. The new key alone.
	api.stop(t)
	alone := old.with("POSTRIDER_SECRET_KEY=" + secondKey)
	up(alone)
	require.Equal(t, http.StatusOK, known(alone, late))
	require.Equal(t, http.StatusUnauthorized, known(alone, early))
	status2 := alone.run("", "secret", "status")
	require.Contains(t, status2, "seals now                     POSTRIDER_SECRET_KEY\n")
	require.Regexp(t, `POSTRIDER_SECRET_KEY +[1-3] secrets?\n`, status2)
	out, err := old.try("", "serve")
	require.Error(t, err)
	require.Contains(t, out, "is not the key")

	// Lost for good: nothing without the flag, and then a secret of its own.
	lost := old.with("POSTRIDER_SECRET_KEY=" + strings.Repeat("ef", 32))
	out, err = lost.try("", "secret", "reset")
	require.Error(t, err)
	require.Regexp(t, `[1-3] secrets? would be replaced`, out)
	require.Contains(t, lost.run("", "secret", "reset", "--yes-replace-secrets"), "has a new secret")
	up(lost)
}
