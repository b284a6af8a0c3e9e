package main

import (
	"database/sql"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun/driver/pgdriver"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/devstack"
)

// TestMigrateDown: as an operator meets it, on an installation
// with mail.
func TestMigrateDown(t *testing.T) {
	t.Parallel()
	pg := startPostgres(t, devstack.PostgresOptions{})
	d := newDeployment(t, binary(t), pg.URL("postgres"), "127.0.0.1:1", "smtp://127.0.0.1:1?tls=none")
	out := d.run("", "migrate", "up", "--skip-temporal")
	require.Contains(t, out, "postgres: applied 0001_init\n")
	require.Contains(t, out, "the database held no schema of postrider")
	require.Equal(t, "postgres: up to date, nothing was applied", d.run("", "migrate", "up", "--skip-temporal"))
	status := d.run("", "migrate", "status")
	lines := strings.Split(status, "\n")
	last := lines[len(lines)-1]
	require.Regexp(t, `^0001_init +applied \S+Z  step 1$`, lines[0])
	require.Contains(t, last, "the first that migrate down takes back")

	raw := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(pg.URL("postgres"))))
	t.Cleanup(func() { require.NoError(t, raw.Close()) })
	count := func(query string) (n int) {
		require.NoError(t, raw.QueryRowContext(t.Context(), query).Scan(&n))
		return n
	}
	customer := regexp.MustCompile(`id +(\S+)`).FindStringSubmatch(d.run("", "customer", "create", "--name", "ACME"))[1]
	require.NoError(t, dbtest.FillUnseen(t.Context(), pg.URL("postgres"), customer, 50))

	// Without the flag, and with it while mail is open, nothing is changed.
	out, err := d.try("", "migrate", "down")
	require.Error(t, err)
	require.Contains(t, out, strings.Fields(last)[0])
	require.Contains(t, out, "nothing was changed")
	require.Contains(t, out, "--yes-delete-data")
	require.Contains(t, out, "restore a backup")
	require.Equal(t, status, d.run("", "migrate", "status"))
	_, err = raw.ExecContext(t.Context(), "UPDATE emails SET status = 'queued', attempts = 0, date_at = NULL WHERE id = (SELECT min(id::text)::uuid FROM emails)")
	require.NoError(t, err)
	for _, args := range [][]string{{"migrate", "down"}, {"migrate", "down", "--yes-delete-data"}} {
		out, err = d.try("", args...)
		require.Error(t, err)
		require.Contains(t, out, "nothing was changed: 1 e-mails are not finished")
	}
	require.Equal(t, status, d.run("", "migrate", "status"))
	require.Equal(t, 50, count("SELECT count(*) FROM emails"))
	_, err = raw.ExecContext(t.Context(), "UPDATE emails SET status = 'canceled', next_action_at = NULL WHERE status = 'queued'")
	require.NoError(t, err)

	// One step a command, with what it deletes, down to the mail itself.
	steps := len(lines)
	for step := steps; step > 1; step-- {
		out = d.run("", "migrate", "down", "--yes-delete-data")
		require.Contains(t, out, "taken back; deleted:")
		require.Equal(t, step-1, count("SELECT count(*) FROM schema_migrations"), out)
		require.Equal(t, 50, count("SELECT count(*) FROM emails"))
	}
	out, err = d.try("", "migrate", "down")
	require.Error(t, err)
	require.Regexp(t, `table emails +50 rows`, out)
	require.Regexp(t, `table customers +1 row\n`, out)
	d.run("", "migrate", "down", "--yes-delete-data")
	out, err = d.try("", "migrate", "down", "--yes-delete-data")
	require.Error(t, err)
	require.Contains(t, out, "nothing to take back")
	require.Contains(t, d.run("", "migrate", "status"), "not applied")

	applied, err := db.MigrateUp(t.Context(), pg.URL("postgres"))
	require.NoError(t, err)
	require.Len(t, applied, steps)
}
