package deploy_test

import (
	"context"
	"database/sql"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun/driver/pgdriver"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/internal/devstack"
)

// The roles of the compose file, on a real Postgres: each owns what is its own and
// reaches nothing else, and our migrations need no superuser.
func TestRoles(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("psql"); err != nil {
		t.Skip("psql is not installed: apt-get install postgresql-client")
	}
	pg, err := devstack.StartPostgres(t.Context(), devstack.PostgresOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Stop(context.WithoutCancel(t.Context()))) })
	// The private server's superuser is called postrider: make it as the image's is.
	owner, err := url.Parse(pg.URL("postgres"))
	require.NoError(t, err)
	password, _ := owner.User.Password()
	const temporal = `it's "another" $one\`
	open := func(role, password, database string) *sql.DB {
		t.Helper()
		conn := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithAddr("127.0.0.1:"+strconv.Itoa(pg.Port())), pgdriver.WithInsecure(true),
			pgdriver.WithUser(role), pgdriver.WithPassword(password), pgdriver.WithDatabase(database)))
		t.Cleanup(func() { require.NoError(t, conn.Close()) })
		return conn
	}
	_, err = open("postrider", password, "postgres").ExecContext(t.Context(), "CREATE ROLE postgres SUPERUSER LOGIN PASSWORD 'super'")
	require.NoError(t, err)
	super := open("postgres", "super", "postgres")
	_, err = super.ExecContext(t.Context(), "ALTER ROLE postrider RENAME TO bootstrap")
	require.NoError(t, err)
	roles := func(password string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", filepath.Join("postgres", "roles.sh"))
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "PGHOST=127.0.0.1", "PGPORT=" + strconv.Itoa(pg.Port()), "PGUSER=postgres", "PGPASSWORD=super",
			"APPLICATION_PASSWORD=" + password, "TEMPORAL_PASSWORD=" + temporal}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		require.Equal(t, "roles: done\n", string(out), "nothing else, and no password")
	}
	roles("first")
	secret := func() (text string) {
		require.NoError(t, super.QueryRowContext(t.Context(), "SELECT rolpassword FROM pg_authid WHERE rolname = 'postrider'").Scan(&text))
		return text
	}
	before := secret()
	require.Contains(t, before, "SCRAM-SHA-256$")
	for _, role := range []string{"postrider", "temporal"} {
		var may bool
		require.NoError(t, super.QueryRowContext(t.Context(),
			"SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls FROM pg_roles WHERE rolname = $1 AND rolcanlogin", role).Scan(&may))
		require.False(t, may, role)
	}

	_, err = db.MigrateUp(t.Context(), "postgres://postrider:first@127.0.0.1:"+strconv.Itoa(pg.Port())+"/postrider?sslmode=disable")
	require.NoError(t, err)
	for _, statement := range []string{"CREATE TABLE t (n int)", "CREATE EXTENSION btree_gin"} { // as Temporal's schemas do
		_, err := open("temporal", temporal, "temporal_visibility").ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	_, err = open("temporal", temporal, "temporal").ExecContext(t.Context(), "CREATE DATABASE temporal")
	require.ErrorContains(t, err, "permission denied to create database", "schema.sh must not try")
	for database, role := range map[string]string{"postrider": "temporal", "temporal": "postrider", "temporal_visibility": "postrider"} {
		require.ErrorContains(t, open(role, map[string]string{"postrider": "first", "temporal": temporal}[role], database).PingContext(t.Context()), "permission denied for database", "%s in %s", role, database)
	}
	_, err = open("postrider", "first", "postrider").ExecContext(t.Context(), "COPY (SELECT 1) TO PROGRAM 'true'")
	require.ErrorContains(t, err, "must be superuser")

	roles("second")
	require.NotEqual(t, before, secret(), "a changed password takes effect")
}
