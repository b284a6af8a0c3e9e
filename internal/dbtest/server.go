package dbtest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/uptrace/bun/driver/pgdriver"

	"github.com/postrider/postrider/internal/devstack"
)

// adminSessions is how many databases are created or dropped at once. Each copy
// waits for a checkpoint, so more of them would only wait longer.
const adminSessions = 4

// server makes databases in one Postgres server.
type server struct {
	external string // its URL; empty starts a private one
	migrate  func(ctx context.Context, databaseURL string) error

	mu      sync.Mutex
	running bool  // between the start of run and stop
	started bool  // start was called
	err     error // of start, for every test after the first

	postgres *devstack.Postgres // nil for an external one
	base     *url.URL           // of any database
	admin    *sql.DB
	template string
	strategy string // clause of CREATE DATABASE
}

// ready starts the server and makes the template, the first time.
func (s *server) ready(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running {
		return errNoMain
	}
	if !s.started {
		s.started = true
		// One test's end must not fail the others.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepTimeout)
		defer cancel()
		s.err = s.start(ctx)
	}
	return s.err
}

func (s *server) start(ctx context.Context) error {
	address := s.external
	if address == "" {
		var err error
		if s.postgres, err = devstack.StartPostgres(ctx, devstack.PostgresOptions{}); err != nil {
			return err
		}
		address = s.postgres.URL("postgres")
	}
	var err error
	if s.base, err = url.Parse(address); err != nil {
		return fmt.Errorf("%s is not a URL", PostgresURLEnv) // the error would show the password
	}
	s.admin = sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(address), pgdriver.WithReadTimeout(stepTimeout)))
	s.admin.SetMaxOpenConns(adminSessions)
	s.admin.SetMaxIdleConns(adminSessions)
	var version int
	if err := s.admin.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	if version >= 150000 {
		// A copy of files is four times as fast as one through the log, but
		// Postgres 14 knows only that way and not its name.
		s.strategy = " STRATEGY file_copy"
	}
	return s.makeTemplate(ctx)
}

func (s *server) makeTemplate(ctx context.Context) error {
	name := newName("template")
	if _, err := s.admin.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		return fmt.Errorf("create the template: %w", err)
	}
	s.template = name
	if err := s.migrate(ctx, s.address(name)); err != nil {
		return fmt.Errorf("migrate the template: %w", err)
	}
	// A database with sessions cannot be copied, so it takes no more of them.
	if _, err := s.admin.ExecContext(ctx, "ALTER DATABASE "+name+" ALLOW_CONNECTIONS false"); err != nil {
		return fmt.Errorf("close the template: %w", err)
	}
	return nil
}

func (s *server) create(ctx context.Context) (string, error) {
	name := newName("test")
	if _, err := s.admin.ExecContext(ctx, "CREATE DATABASE "+name+" TEMPLATE "+s.template+s.strategy); err != nil {
		return "", fmt.Errorf("copy the template: %w", err)
	}
	return name, nil
}

// drop removes a database and cuts its sessions.
func (s *server) drop(ctx context.Context, name string) error {
	if _, err := s.admin.ExecContext(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

// stop gives back everything start made, however far it came.
func (s *server) stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = false
	var errs []error
	if s.template != "" && s.postgres == nil {
		errs = append(errs, s.drop(ctx, s.template))
	}
	if s.admin != nil {
		errs = append(errs, s.admin.Close())
	}
	if s.postgres != nil {
		errs = append(errs, s.postgres.Err(), s.postgres.Stop(ctx))
	}
	return errors.Join(errs...)
}

// address returns the URL of a database of the server.
func (s *server) address(database string) string {
	u := *s.base
	u.Path = "/" + database
	return u.String()
}

// newName makes a name that needs no quoting and that no other process, on the
// same external server, makes too. It sorts by time: so the names that
// killed processes left there show their age.
func newName(kind string) string {
	return fmt.Sprintf("postrider_%s_%s_%s", kind, time.Now().UTC().Format("20060102150405"), strings.ToLower(rand.Text()[:12]))
}
