package db

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"
	"github.com/uptrace/bun/migrate"

	"github.com/postrider/postrider/db/internal/pg"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

const (
	// migrationLock is the key of the advisory lock under which migrations run, so
	// that several processes starting at once queue up instead of failing.
	migrationLock = 0x706f737472696465 // "postride"
	// migrationTable has a row for each applied migration.
	migrationTable = "schema_migrations"
)

// Migration is one step of the schema, and whether it is applied.
type Migration struct {
	// Name is number and title, as 0001_init. Of a migration that this version does
	// not know it is the number alone.
	Name string
	// AppliedAt is zero where the migration is not applied.
	AppliedAt time.Time
	// Step is the migration's place in the order in which they were applied, from 1.
	// Migrations are taken back from the highest step on. 0: not applied.
	Step int
	// Unknown: applied by a newer version.
	Unknown bool
}

// MigrateUp brings the database to this binary's schema, and returns the
// migrations that it applied, also beside an error. Each is a transaction and a
// step of its own. Calling it again, or from several processes at once, is harmless.
func MigrateUp(ctx context.Context, databaseURL string) (applied []Migration, err error) {
	err = withMigrator(ctx, databaseURL, func(m *migrator) error {
		ms, err := m.status(ctx)
		if err != nil {
			return err
		}
		for _, step := range ms {
			if !step.AppliedAt.IsZero() {
				continue
			}
			done, err := m.up(ctx, step.Name)
			if err != nil {
				return fmt.Errorf("migrate up: %s: %w", step.Name, pg.Translate(err))
			}
			applied = append(applied, done)
		}
		return nil
	})
	return applied, err
}

// MigrationStatus lists the migrations that this version knows, and those that a
// newer one has applied, by number.
func MigrationStatus(ctx context.Context, databaseURL string) (out []Migration, err error) {
	err = withMigrator(ctx, databaseURL, func(m *migrator) error {
		out, err = m.status(ctx)
		return err
	})
	return out, err
}

// migrator applies and takes back single migrations.
type migrator struct {
	db    *bun.DB
	files fs.FS
	known migrate.MigrationSlice
	bun   func(...migrate.MigratorOption) *migrate.Migrator
}

// status reads what is applied.
func (m *migrator) status(ctx context.Context) ([]Migration, error) {
	var rows []struct {
		Name       string
		MigratedAt time.Time
	}
	if err := m.db.NewRaw("SELECT name, migrated_at FROM "+migrationTable+" ORDER BY id").Scan(ctx, &rows); err != nil {
		return nil, fmt.Errorf("migration status: %w", pg.Translate(err))
	}
	var out []Migration
	for _, k := range m.known {
		out = append(out, Migration{Name: k.String()})
	}
	for i, row := range rows {
		at := slices.IndexFunc(m.known, func(k migrate.Migration) bool { return k.Name == row.Name })
		if at < 0 {
			out, at = append(out, Migration{Name: row.Name, Unknown: true}), len(out)
		}
		out[at].AppliedAt, out[at].Step = row.MigratedAt.UTC(), i+1
	}
	slices.SortStableFunc(out, func(a, b Migration) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// find returns bun's migration of that name, number and title.
func (m *migrator) find(name string) (migrate.Migration, error) {
	for _, k := range m.known {
		if k.String() == name {
			return k, nil
		}
	}
	return migrate.Migration{}, fmt.Errorf("this version has no migration %s", name)
}

// up applies a migration and marks it as applied in the same transaction: killed
// between the two, a process would leave tables that the next one cannot make.
func (m *migrator) up(ctx context.Context, name string) (Migration, error) {
	known, err := m.find(name)
	if err != nil {
		return Migration{}, err
	}
	done := Migration{Name: name}
	mark := func(ctx context.Context, conn bun.IConn, _ *migrate.Migration) error {
		// A group of its own: versions that took back whole groups take back this one alone.
		row := conn.QueryRowContext(ctx, "INSERT INTO "+migrationTable+" (name, group_id) SELECT ?, count(*) + 1 FROM "+migrationTable+" RETURNING group_id, migrated_at", known.Name)
		return row.Scan(&done.Step, &done.AppliedAt)
	}
	if err := known.Up(ctx, m.bun(migrate.AfterMigration(mark)), &known); err != nil {
		return Migration{}, err
	}
	return done, nil
}

// ungroup gives each migration a group of its own. Versions before this one
// applied all that were missing as one group, and took that back as one.
func (m *migrator) ungroup(ctx context.Context) error {
	_, err := m.db.ExecContext(ctx, `UPDATE `+migrationTable+` AS s SET group_id = n.step
		FROM (SELECT id, row_number() OVER (ORDER BY id) AS step FROM `+migrationTable+`) AS n WHERE n.id = s.id AND s.group_id <> n.step`)
	return pg.Translate(err)
}

// withMigrator runs fn while holding the advisory lock on a connection of its
// own: a session lock must not travel back into a pool, and a migration may
// take longer than the pool's read timeout.
func withMigrator(ctx context.Context, databaseURL string, fn func(*migrator) error) (err error) {
	opts, err := pg.ConnectorOptions(databaseURL)
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
		return pg.Translate(err)
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
		return fmt.Errorf("take migration lock: %w", pg.Translate(err))
	}
	m := &migrator{db: db}
	if m.files, err = fs.Sub(migrationFiles, "migrations"); err != nil {
		return err
	}
	ms := migrate.NewMigrations()
	if err := ms.Discover(m.files); err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	m.known = ms.Sorted()
	m.bun = func(opts ...migrate.MigratorOption) *migrate.Migrator {
		return migrate.NewMigrator(db, ms, append(opts, migrate.WithTableName(migrationTable), migrate.WithLocksTableName("schema_migration_locks"))...)
	}
	if err := m.bun().Init(ctx); err != nil {
		return fmt.Errorf("prepare migration table: %w", pg.Translate(err))
	}
	if err := m.ungroup(ctx); err != nil {
		return fmt.Errorf("prepare migration table: %w", err)
	}
	return fn(m)
}

var errNothingApplied = errors.New("no migration is applied: there is nothing to take back")
