package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun/driver/pgdriver"

	"github.com/postrider/postrider/internal/devstack"
)

func TestMain(m *testing.M) { Main(m) }

// migrateForTest makes one table with one row, and counts its calls.
func migrateForTest(calls *int) func(context.Context, string) error {
	return func(ctx context.Context, databaseURL string) error {
		*calls++
		db := open(databaseURL)
		_, err := db.ExecContext(ctx, "CREATE TABLE marks AS SELECT 'migrated'::text AS mark")
		return errors.Join(err, db.Close())
	}
}

func open(databaseURL string) *sql.DB {
	return sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(databaseURL)))
}

// session is a pool with one live connection to the database.
func session(t *testing.T, databaseURL string) *sql.DB {
	t.Helper()
	db := open(databaseURL)
	require.NoError(t, db.PingContext(t.Context()))
	return db
}

func marks(t *testing.T, db *sql.DB) int {
	t.Helper()
	var n int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM marks").Scan(&n))
	return n
}

func databases(t *testing.T, db *sql.DB) int {
	t.Helper()
	var n int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_database WHERE datname LIKE 'postrider\\_%'").Scan(&n))
	return n
}

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	calls := 0
	s := &server{migrate: migrateForTest(&calls)}
	var opened []*sql.DB
	code, err := s.run(func() int {
		t.Run("parallel", func(t *testing.T) {
			for range 8 {
				t.Run("test", func(t *testing.T) {
					t.Parallel()
					// Still open when the database is dropped.
					db := session(t, s.url(t))
					require.Equal(t, 1, marks(t, db))
					_, err := db.ExecContext(t.Context(), "INSERT INTO marks VALUES ('mine')")
					require.NoError(t, err)
					require.Equal(t, 2, marks(t, db))
					s.mu.Lock()
					opened = append(opened, db)
					s.mu.Unlock()
				})
			}
		})
		require.Equal(t, 1, databases(t, s.admin), "the template is all that is left")
		return 0
	})
	require.NoError(t, err)
	require.Zero(t, code)
	require.Equal(t, 1, calls)
	require.Len(t, opened, 8)
	for _, db := range opened {
		require.NoError(t, db.Close())
	}
	gone := open(s.address("postgres"))
	require.Error(t, gone.PingContext(t.Context()), "the server has been stopped")
	require.NoError(t, gone.Close())
}

func TestAnExternalServerIsLeftAsItWas(t *testing.T) {
	t.Parallel()
	external, err := devstack.StartPostgres(t.Context(), devstack.PostgresOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, external.Stop(context.Background())) })
	calls := 0
	s := &server{external: external.URL("postgres"), migrate: migrateForTest(&calls)}
	code, err := s.run(func() int {
		t.Run("test", func(t *testing.T) {
			db := session(t, s.url(t))
			require.Equal(t, 1, marks(t, db))
			require.NoError(t, db.Close())
		})
		return 3
	})
	require.NoError(t, err)
	require.Equal(t, 3, code)
	db := session(t, external.URL("postgres"))
	require.Zero(t, databases(t, db))
	require.NoError(t, db.Close())
}

func TestAFailedMigrationFailsEveryTest(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	calls := 0
	s := &server{migrate: func(context.Context, string) error { calls++; return broken }}
	_, err := s.run(func() int {
		for range 2 {
			require.ErrorIs(t, s.ready(t.Context()), broken)
		}
		return 1
	})
	require.NoError(t, err)
	require.Equal(t, 1, calls)
}

func TestWithoutMainItIsRefused(t *testing.T) {
	t.Parallel()
	require.ErrorIs(t, (&server{}).ready(t.Context()), errNoMain)
}

// The package's own way, with the real migrations.
func TestURLIsMigrated(t *testing.T) {
	t.Parallel()
	db := session(t, URL(t))
	var tables int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM information_schema.tables WHERE table_name = 'emails'").Scan(&tables))
	require.Equal(t, 1, tables)
	require.NoError(t, db.Close())
}
