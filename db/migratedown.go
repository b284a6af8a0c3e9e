package db

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/migrate"

	"github.com/postrider/postrider/db/internal/pg"
)

// Loss is data that taking back a migration deletes or overwrites.
type Loss struct {
	// The lost table, column or rows, as "table emails", "column emails.paused", "rows of blobs".
	What string
	// Rows counts the rows of a table; of a column those that hold another value
	// than its default.
	Rows int64
}

// Down is what taking back one migration means.
type Down struct {
	// Migration is the newest step.
	Migration
	// Losses are in the order of the migration's statements. Empty: no data is lost.
	Losses []Loss
	// Unfinished is how many e-mails are queued or being sent. Unless it is 0 nothing
	// is taken back.
	Unfinished int64
}

// ErrUnfinished says that a migration is not taken back while mail is not finished.
var ErrUnfinished = errors.New("wait until they have ended, or cancel them, and try again; to return to an earlier state restore a backup of Postgres")

// PlanDown returns what MigrateDown would delete. It changes nothing and takes no lock that others
// wait for.
func PlanDown(ctx context.Context, databaseURL string) (plan Down, err error) {
	err = withMigrator(ctx, databaseURL, func(m *migrator) error {
		plan, err = m.newest(ctx)
		if err != nil {
			return err
		}
		return m.weigh(ctx, m.db, &plan)
	})
	if err != nil {
		return Down{}, fmt.Errorf("migrate down: %w", err)
	}
	return plan, nil
}

// MigrateDown takes back one migration, which has to be the newest that is applied, with the data
// in what it made. It counts and deletes the same data: both happen in one transaction that keeps
// others from changing an e-mail. Its error is ErrUnfinished if mail is not finished.
func MigrateDown(ctx context.Context, databaseURL, name string) (done Down, err error) {
	err = withMigrator(ctx, databaseURL, func(m *migrator) error {
		done, err = m.newest(ctx)
		if err != nil {
			return err
		}
		if done.Name != name {
			return fmt.Errorf("%s is no longer the newest migration, %s is: run it again", name, done.Name)
		}
		return m.down(ctx, &done)
	})
	if err != nil {
		return Down{}, fmt.Errorf("migrate down: %w", err)
	}
	return done, nil
}

// newest is the step that was applied last.
func (m *migrator) newest(ctx context.Context) (Down, error) {
	ms, err := m.status(ctx)
	if err != nil {
		return Down{}, err
	}
	var d Down
	for _, step := range ms {
		if step.Step > d.Step {
			d.Migration = step
		}
	}
	switch {
	case d.Step == 0:
		return Down{}, errNothingApplied
	case d.Unknown:
		return Down{}, fmt.Errorf("migration %s was applied by a newer version of postrider: take it back with that version", d.Name)
	}
	return d, nil
}

// down takes a migration back and its mark away, in one transaction.
func (m *migrator) down(ctx context.Context, d *Down) error {
	known, err := m.find(d.Name)
	if err != nil {
		return err
	}
	if known.Down == nil {
		return fmt.Errorf("%s cannot be taken back", d.Name)
	}
	weigh := func(ctx context.Context, conn bun.IConn, _ *migrate.Migration) error {
		// A lock that is waited for keeps all that come later waiting, too.
		if _, err := conn.ExecContext(ctx, "SET LOCAL lock_timeout = "+fmt.Sprint(pg.LockTimeout.Milliseconds())); err != nil {
			return err
		}
		if exists, err := tableExists(ctx, conn, "emails"); err != nil {
			return err
		} else if exists {
			if _, err := conn.ExecContext(ctx, "LOCK TABLE emails IN ACCESS EXCLUSIVE MODE"); err != nil {
				return fmt.Errorf("lock the table emails (stop API and workers first): %w", err)
			}
		}
		if err := m.weigh(ctx, conn, d); err != nil {
			return err
		}
		if d.Unfinished > 0 {
			return fmt.Errorf("%d e-mails are not finished: %w", d.Unfinished, ErrUnfinished)
		}
		return nil
	}
	unmark := func(ctx context.Context, conn bun.IConn, _ *migrate.Migration) error {
		_, err := conn.ExecContext(ctx, "DELETE FROM "+migrationTable+" WHERE name = ?", known.Name)
		return err
	}
	if err := known.Down(ctx, m.bun(migrate.BeforeMigration(weigh), migrate.AfterMigration(unmark)), &known); err != nil {
		return fmt.Errorf("%s: %w", d.Name, pg.Translate(err))
	}
	return nil
}

// weigh counts what taking back deletes, and the mail that stands against it.
func (m *migrator) weigh(ctx context.Context, conn bun.IConn, d *Down) error {
	text, err := fs.ReadFile(m.files, d.Name+".tx.down.sql")
	if err != nil {
		return err
	}
	statements, err := losses(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", d.Name, err)
	}
	d.Losses = nil
	for _, l := range statements {
		query := "SELECT count(*) FROM " + l.table
		switch {
		case l.column != "":
			value, err := columnDefault(ctx, conn, l.table, l.column)
			if err != nil {
				return err
			}
			query += " WHERE " + l.column + " IS NOT NULL AND " + l.column + " IS DISTINCT FROM " + value
		case l.where != "":
			query += " WHERE " + l.where
		}
		loss := Loss{What: l.what}
		if err := conn.QueryRowContext(ctx, query).Scan(&loss.Rows); err != nil {
			return fmt.Errorf("count %s: %w", l.what, err)
		}
		d.Losses = append(d.Losses, loss)
	}
	exists, err := tableExists(ctx, conn, "emails")
	if err != nil || !exists {
		return err
	}
	if err := conn.QueryRowContext(ctx, "SELECT count(*) FROM emails WHERE status IN ('queued', 'sending')").Scan(&d.Unfinished); err != nil {
		return fmt.Errorf("count unfinished e-mails: %w", err)
	}
	return nil
}

func tableExists(ctx context.Context, conn bun.IConn, name string) (exists bool, err error) {
	err = conn.QueryRowContext(ctx, "SELECT to_regclass(?) IS NOT NULL", name).Scan(&exists)
	return exists, err
}

// columnDefault is the SQL of a column's default, NULL if it has none.
func columnDefault(ctx context.Context, conn bun.IConn, table, column string) (sql string, err error) {
	err = conn.QueryRowContext(ctx, `SELECT coalesce((SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef AS d
		JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE a.attrelid = to_regclass(?) AND a.attname = ?), 'NULL')`, table, column).Scan(&sql)
	return sql, err
}

// lossy is a part of a down migration that deletes or overwrites data: a table, a
// column of one, or the rows of one that fulfil a condition.
type lossy struct{ what, table, column, where string }

var (
	sqlComment  = regexp.MustCompile(`--[^\n]*`)
	sqlSpace    = regexp.MustCompile(`\s+`)
	dropTable   = regexp.MustCompile(`^DROP TABLE ([a-z0-9_, ]+)$`)
	alterTable  = regexp.MustCompile(`^ALTER TABLE ([a-z0-9_]+) (.+)$`)
	dropColumn  = regexp.MustCompile(`\bDROP COLUMN ([a-z0-9_]+)`)
	deleteRows  = regexp.MustCompile(`^DELETE FROM ([a-z0-9_]+)(?: WHERE (.+))?$`)
	updateRows  = regexp.MustCompile(`^UPDATE ([a-z0-9_]+) SET .+? WHERE (.+)$`)
	losesNoRows = regexp.MustCompile(`^(DROP INDEX|CREATE INDEX|CREATE UNIQUE INDEX|DROP FUNCTION) `)
)

// losses reads a down migration. A statement that it does not know is an error: it might delete
// data that the operator was not asked about.
func losses(text string) ([]lossy, error) {
	var out []lossy
	for statement := range strings.SplitSeq(sqlComment.ReplaceAllString(text, ""), ";") {
		statement = strings.TrimSpace(sqlSpace.ReplaceAllString(statement, " "))
		if statement == "" || losesNoRows.MatchString(statement) {
			continue
		}
		if m := dropTable.FindStringSubmatch(statement); m != nil {
			for table := range strings.SplitSeq(m[1], ",") {
				table = strings.TrimSpace(table)
				out = append(out, lossy{what: "table " + table, table: table})
			}
		} else if m := alterTable.FindStringSubmatch(statement); m != nil {
			for _, c := range dropColumn.FindAllStringSubmatch(m[2], -1) {
				out = append(out, lossy{what: "column " + m[1] + "." + c[1], table: m[1], column: c[1]})
			}
		} else if m := deleteRows.FindStringSubmatch(statement); m != nil {
			out = append(out, lossy{what: "rows of " + m[1], table: m[1], where: m[2]})
		} else if m := updateRows.FindStringSubmatch(statement); m != nil {
			out = append(out, lossy{what: "rows changed in " + m[1], table: m[1], where: m[2]})
		} else {
			return nil, fmt.Errorf("the statement %q is not understood, so that what it deletes is not known", statement)
		}
	}
	return out, nil
}
