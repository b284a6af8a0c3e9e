package db

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"
	"github.com/uptrace/bun/migrate"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrationLock is the key of the advisory lock under which migrations run, so
// that several processes starting at once queue up instead of failing.
const migrationLock = 0x706f737472696465 // "postride"

// Migration is one step of the schema, and whether it is applied.
type Migration struct {
	Name      string
	AppliedAt time.Time // zero: not applied
}

// MigrateUp brings the database to this binary's schema. Calling it again, or
// from several processes at once, is harmless.
func MigrateUp(ctx context.Context, databaseURL string) error {
	return withMigrator(ctx, databaseURL, func(m *migrate.Migrator) error {
		if _, err := m.Migrate(ctx); err != nil {
			return fmt.Errorf("migrate up: %w", err)
		}
		return nil
	})
}

// MigrateDown takes back the newest group of migrations, with the data in the
// tables they made.
func MigrateDown(ctx context.Context, databaseURL string) error {
	return withMigrator(ctx, databaseURL, func(m *migrate.Migrator) error {
		if _, err := m.Rollback(ctx); err != nil {
			return fmt.Errorf("migrate down: %w", err)
		}
		return nil
	})
}

// MigrationStatus lists the migrations this binary knows, oldest first.
func MigrationStatus(ctx context.Context, databaseURL string) ([]Migration, error) {
	var out []Migration
	err := withMigrator(ctx, databaseURL, func(m *migrate.Migrator) error {
		ms, err := m.MigrationsWithStatus(ctx)
		if err != nil {
			return fmt.Errorf("migration status: %w", err)
		}
		for _, s := range ms {
			out = append(out, Migration{Name: s.Name + "_" + s.Comment, AppliedAt: s.MigratedAt})
		}
		return nil
	})
	return out, err
}

// withMigrator runs fn while holding the advisory lock on a connection of its
// own: a session lock must not travel back into a pool, and a migration may
// take longer than the pool's read timeout.
func withMigrator(ctx context.Context, databaseURL string, fn func(*migrate.Migrator) error) (err error) {
	opts, err := connectorOptions(databaseURL)
	if err != nil {
		return err
	}
	opts = append(opts, pgdriver.WithReadTimeout(time.Hour), pgdriver.WithApplicationName("postrider migrate"))
	sqldb := sql.OpenDB(pgdriver.NewConnector(opts...))
	db := bun.NewDB(sqldb, pgdialect.New())
	defer func() {
		if cerr := db.Close(); cerr != nil && err == nil {
			err = fmt.Errorf("close after migration: %w", cerr)
		}
	}()
	conn, err := db.Conn(ctx)
	if err != nil {
		return translate(err)
	}
	defer func() {
		// Closing the connection gives the lock back even if this fails.
		if _, uerr := conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock(?)", int64(migrationLock)); uerr != nil && err == nil {
			err = fmt.Errorf("release migration lock: %w", uerr)
		}
		if cerr := conn.Close(); cerr != nil && err == nil {
			err = cerr
		}
	}()
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock(?)", int64(migrationLock)); err != nil {
		return fmt.Errorf("take migration lock: %w", translate(err))
	}
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return err
	}
	ms := migrate.NewMigrations()
	if err := ms.Discover(files); err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	m := migrate.NewMigrator(db, ms, migrate.WithMarkAppliedOnSuccess(true), migrate.WithTableName("schema_migrations"), migrate.WithLocksTableName("schema_migration_locks"))
	if err := m.Init(ctx); err != nil {
		return fmt.Errorf("prepare migration table: %w", translate(err))
	}
	return fn(m)
}
