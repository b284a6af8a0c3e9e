// Package dbtest gives every test a Postgres database of its own, migrated and
// empty.
//
//  1. TestMain of the package calls Main, which stops the server at the end.
//  2. The first call of URL starts a private Postgres, or takes the one in
//     POSTRIDER_TEST_POSTGRES_URL, and migrates a template database, once per
//     process.
//  3. Each URL is a copy of the template, made in some 50 ms, and dropped with
//     its sessions when the test ends. So tests run in parallel.
//
// A package whose tests need it and which db imports must have them in an
// external test package (package x_test): dbtest imports db.
package dbtest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

// PostgresURLEnv names the server to use instead of a private one, as the URL of
// any database in it. Its user must be allowed to create databases.
const PostgresURLEnv = "POSTRIDER_TEST_POSTGRES_URL"

// shared is the server of this process.
var shared = &server{external: os.Getenv(PostgresURLEnv), migrate: func(ctx context.Context, databaseURL string) error {
	return migrate(ctx, databaseURL)
}}

// parallel is how many tests of a package run at once. They wait for Postgres and other
// processes most of the time, and do not use a processor meanwhile.
const parallel = "6"

// Main runs the tests of a package, stops what they started, and exits. It is
// the whole body of TestMain. -parallel overrides how many tests run at once.
func Main(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", parallel); err != nil {
			panic(err)
		}
	}
	code, err := shared.run(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// URL returns a fresh, migrated database, which is dropped when the test and its
// subtests have ended.
func URL(t testing.TB) string {
	t.Helper()
	return shared.url(t)
}

// run returns the exit code of tests, or 1 if they passed but something was left
// behind.
func (s *server) run(tests func() int) (int, error) {
	s.mu.Lock()
	s.running = true
	s.mu.Unlock()
	code := tests()
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	err := s.stop(ctx)
	if err != nil {
		err = fmt.Errorf("dbtest: %w", err)
		code = max(code, 1)
	}
	return code, err
}

// stepTimeout bounds the start, and each creation and removal of a database: long
// enough for a machine busy with other packages' tests.
const stepTimeout = 2 * time.Minute

var errNoMain = errors.New("call dbtest.Main from TestMain, so that the server is stopped")

func (s *server) url(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), stepTimeout)
	defer cancel()
	if err := s.ready(ctx); err != nil {
		t.Fatalf("dbtest: %v", err)
	}
	name, err := s.create(ctx)
	if err != nil {
		t.Fatalf("dbtest: %v", err)
	}
	t.Cleanup(func() {
		// The test's own context has ended.
		ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
		defer cancel()
		if err := s.drop(ctx, name); err != nil {
			t.Errorf("dbtest: %v", err)
		}
	})
	return s.address(name)
}
