package devstack

import (
	"bytes"
	"context"
	"database/sql"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun/driver/pgdriver"
)

func startPostgres(t *testing.T, options PostgresOptions) *Postgres {
	t.Helper()
	p, err := StartPostgres(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Stop(context.Background())) })
	return p
}

// query runs a statement and returns its one value.
func query(t *testing.T, databaseURL, statement string) (string, error) {
	t.Helper()
	db := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(databaseURL)))
	defer func() { require.NoError(t, db.Close()) }()
	var value string
	err := db.QueryRowContext(t.Context(), statement).Scan(&value)
	return value, err
}

func TestPostgresKeepsDataAcrossARestart(t *testing.T) {
	t.Parallel()
	for _, durable := range []bool{true, false} {
		t.Run("durable "+strconv.FormatBool(durable), func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			options := PostgresOptions{Dir: t.TempDir(), Durable: durable, Log: &log}
			first := startPostgres(t, options)
			execute(t, first.URL("postgres"), "CREATE TABLE kept AS SELECT 'here' AS v")
			require.NoError(t, first.Stop(t.Context()))
			require.NoError(t, first.Stop(t.Context()), "again")
			require.NoError(t, first.Err(), "an ordinary stop is no failure")

			second := startPostgres(t, options)
			v, err := query(t, second.URL("postgres"), "SELECT v FROM kept")
			require.NoError(t, err)
			require.Equal(t, "here", v)
			fsync, err := query(t, second.URL("postgres"), "SHOW fsync")
			require.NoError(t, err)
			require.Equal(t, map[bool]string{true: "on", false: "off"}[durable], fsync)
			require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("creating a database cluster")))
		})
	}
}

func execute(t *testing.T, databaseURL, statement string) {
	t.Helper()
	db := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(databaseURL)))
	_, err := db.ExecContext(t.Context(), statement)
	require.NoError(t, err)
	require.NoError(t, db.Close())
}

func TestPostgresIsPrivate(t *testing.T) {
	t.Parallel()
	p := startPostgres(t, PostgresOptions{Dir: t.TempDir()})

	t.Run("needs the password", func(t *testing.T) {
		wrong, err := url.Parse(p.URL("postgres"))
		require.NoError(t, err)
		wrong.User = url.UserPassword(postgresUser, "guess")
		_, err = query(t, wrong.String(), "SELECT 1")
		var refused pgdriver.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "28P01", refused.Field('C'))
	})
	t.Run("listens on 127.0.0.1 only", func(t *testing.T) {
		requireLinux(t)
		_, err := net.Dial("tcp", net.JoinHostPort("127.0.0.2", strconv.Itoa(p.Port())))
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	})
	t.Run("keeps its files from others", func(t *testing.T) {
		info, err := os.Stat(p.cluster.dir)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	})
}

func TestPostgresWithoutADirLeavesNothing(t *testing.T) {
	t.Parallel()
	p := startPostgres(t, PostgresOptions{})
	require.DirExists(t, p.cluster.dir)
	require.NoError(t, p.Stop(t.Context()))
	require.NoDirExists(t, p.cluster.dir)
	require.NoError(t, checkPort("postgres", p.Port(), ""))
}

func TestPostgresBeneathADirectoryOfRoot(t *testing.T) {
	t.Parallel()
	requireLinux(t)
	if os.Geteuid() != 0 {
		t.Skip("only root drops its privileges")
	}
	open, err := os.MkdirTemp("", "devstack-test-*")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(open)) })
	require.NoError(t, os.Chmod(open, 0o755))
	closed := filepath.Join(open, "closed")
	require.NoError(t, os.Mkdir(closed, 0o700))
	for range 2 { // creating, then starting again
		p := startPostgres(t, PostgresOptions{Dir: filepath.Join(closed, "dev"), Durable: true})
		require.NotNil(t, p.cluster.handle, "the directory is handed over, since its user may not enter")
		_, err := query(t, p.URL("postgres"), "SELECT 1")
		require.NoError(t, err)
		execute(t, p.URL("postgres"), "DROP DATABASE IF EXISTS another")
		execute(t, p.URL("postgres"), "CREATE DATABASE another")
		require.NoError(t, p.Stop(t.Context()))
	}
	p := startPostgres(t, PostgresOptions{Dir: filepath.Join(open, "dev")})
	require.Nil(t, p.cluster.handle, "it may enter here")
	account, err := unprivileged()
	require.NoError(t, err)
	barrier, err := account.barrier(t.Context(), filepath.Join(closed, "dev"))
	require.NoError(t, err)
	require.Equal(t, closed, barrier)
	require.ErrorContains(t, account.mustEnter(t.Context(), closed), closed+" may not be entered by user "+account.name)
}

func TestPostgresRefusesToStart(t *testing.T) {
	t.Parallel()

	t.Run("on a port in use", func(t *testing.T) {
		t.Parallel()
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer func() { require.NoError(t, taken.Close()) }()
		port := taken.Addr().(*net.TCPAddr).Port
		_, err = StartPostgres(t.Context(), PostgresOptions{Dir: t.TempDir(), Port: port, PortSetting: "POSTRIDER_DEV_POSTGRES_PORT"})
		require.ErrorIs(t, err, syscall.EADDRINUSE)
		require.ErrorContains(t, err, "port "+strconv.Itoa(port))
		require.ErrorContains(t, err, "POSTRIDER_DEV_POSTGRES_PORT")
	})

	t.Run("with data of another major version", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		p := startPostgres(t, PostgresOptions{Dir: dir})
		major := readVersion(t, p.cluster)
		require.NoError(t, p.Stop(t.Context()))
		require.NoError(t, os.WriteFile(p.cluster.path("data", "PG_VERSION"), []byte("9.4\n"), 0o600))
		_, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir})
		require.ErrorContains(t, err, "was made by Postgres 9.4, but")
		require.ErrorContains(t, err, "is Postgres "+major)
	})

	t.Run("with a broken configuration, and shows the log", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		p := startPostgres(t, PostgresOptions{Dir: dir})
		require.NoError(t, p.Stop(t.Context()))
		require.NoError(t, os.WriteFile(p.cluster.path("data", "postgresql.conf"), []byte("no_such_setting = 1\n"), 0o600))
		_, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir})
		require.ErrorContains(t, err, "ended at its start: exit status 1")
		require.ErrorContains(t, err, `unrecognized configuration parameter "no_such_setting"`)
	})

	t.Run("when cancelled, and leaves nothing", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		dir := t.TempDir()
		_, err := StartPostgres(ctx, PostgresOptions{Dir: dir, Log: writerFunc(func(string) { cancel() })})
		require.ErrorIs(t, err, context.Canceled)
		startPostgres(t, PostgresOptions{Dir: dir})
	})
}

type writerFunc func(string)

func (f writerFunc) Write(p []byte) (int, error) { f(string(p)); return len(p), nil }

func readVersion(t *testing.T, c *cluster) string {
	t.Helper()
	major, err := c.dataVersion()
	require.NoError(t, err)
	return major
}

func TestPostgresTriesAnotherPortIfOneIsTakenInBetween(t *testing.T) {
	t.Parallel()
	taken, pick := takenFirst(t)
	p := startPostgres(t, PostgresOptions{freePort: pick})
	require.NotEqual(t, taken, p.Port())
	_, err := query(t, p.URL("postgres"), "SELECT 1")
	require.NoError(t, err)
}

// takenFirst returns a chooser of ports whose first is in use, as if another
// process had been quicker.
func takenFirst(t *testing.T) (int, func() (int, error)) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	port, first := listener.Addr().(*net.TCPAddr).Port, true
	return port, func() (int, error) {
		if first {
			first = false
			return port, nil
		}
		return FreePort()
	}
}

func TestPostgresAfterAHardEnd(t *testing.T) {
	t.Parallel()
	requireLinux(t)

	t.Run("of the server", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		p := startPostgres(t, PostgresOptions{Dir: dir, Durable: true})
		execute(t, p.URL("postgres"), "CREATE TABLE kept AS SELECT 'here' AS v")
		require.NoError(t, syscall.Kill(p.cluster.postmaster(), syscall.SIGKILL))
		select {
		case <-p.Exited():
		case <-time.After(5 * time.Second):
			require.Fail(t, "Exited is not closed")
		}
		require.ErrorContains(t, p.Err(), "postgres ended unexpectedly: exit status 137")

		again := startPostgres(t, PostgresOptions{Dir: dir, Durable: true})
		v, err := query(t, again.URL("postgres"), "SELECT v FROM kept")
		require.NoError(t, err)
		require.Equal(t, "here", v)
	})

	t.Run("whose number another process now has", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		p := startPostgres(t, PostgresOptions{Dir: dir})
		require.NoError(t, p.Stop(t.Context()))
		stale := p.cluster.path("data", "postmaster.pid")
		// A process of the same user: Postgres takes the file of another user's for stale.
		other := exec.Command("sleep", "60")
		other.Dir, other.SysProcAttr = "/", &syscall.SysProcAttr{Credential: p.cluster.account.credential()}
		require.NoError(t, other.Start())
		t.Cleanup(func() {
			require.NoError(t, other.Process.Kill())
			require.Error(t, other.Wait()) // "signal: killed"
		})
		require.NoError(t, os.WriteFile(stale, []byte(strconv.Itoa(other.Process.Pid)+"\n"+p.cluster.path("data")+"\n"), 0o600))
		require.NoError(t, p.cluster.account.own(stale, 0o600))
		startPostgres(t, PostgresOptions{Dir: dir})
	})

	t.Run("of the process that started it", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		h := startHelper(t, "postgres", dir, "")
		requireOwnGroup(t, h.pids)
		c := &cluster{dir: filepath.Join(dir, "postgres")}

		_, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir})
		require.ErrorContains(t, err, "the server with pid "+strconv.Itoa(c.postmaster())+" is running in "+c.dir)

		h.kill()
		// At once: the new start waits for what the watchdog is still ending.
		startPostgres(t, PostgresOptions{Dir: dir})
		h.requireGone(t)
	})

	t.Run("of the process that started it without a directory", func(t *testing.T) {
		t.Parallel()
		h := startHelper(t, "postgres", "", "")
		require.DirExists(t, h.dir)
		h.kill()
		h.requireGone(t)
		require.NoDirExists(t, h.dir)
	})
}
