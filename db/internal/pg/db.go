package pg

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"
)

// Limits of one statement, enforced by the server. The end of a context does not stop a statement
// there; these limits do.
const (
	statementTimeout = 30 * time.Second
	LockTimeout      = 10 * time.Second
	idleInTxTimeout  = time.Minute
)

// DB is a pool of connections that know the prepared statements.
type DB struct{ *bun.DB }

// Open makes a pool of at most maxConns connections. It does not connect yet.
func Open(databaseURL string, maxConns int) (*DB, error) {
	opts, err := ConnectorOptions(databaseURL)
	if err != nil {
		return nil, err
	}
	opts = append(opts,
		pgdriver.WithReadTimeout(statementTimeout+10*time.Second),
		pgdriver.WithApplicationName("postrider"),
		pgdriver.WithConnParams(map[string]any{
			"statement_timeout":                   statementTimeout.Milliseconds(),
			"lock_timeout":                        LockTimeout.Milliseconds(),
			"idle_in_transaction_session_timeout": idleInTxTimeout.Milliseconds(),
			// Prepared statements find rows by key: a plan for all values is as good as
			// one for these, and is made once.
			"plan_cache_mode": "force_generic_plan",
			// That plan is made while the tables of a young installation are empty. Without this it
			// would read them in full for as long as the connection lives. Where no index serves,
			// Postgres still reads the table in full.
			"enable_seqscan": false,
			"jit":            false, // it would take such a one for worth compiling
		}))
	sqldb := sql.OpenDB(preparing{pgdriver.NewConnector(opts...)})
	sqldb.SetMaxOpenConns(maxConns)
	sqldb.SetMaxIdleConns(maxConns)
	sqldb.SetConnMaxIdleTime(5 * time.Minute)
	// A migration may add columns while this process runs.
	return &DB{bun.NewDB(sqldb, pgdialect.New(), bun.WithDiscardUnknownColumns())}, nil
}

// ConnectorOptions reads a database URL. The driver panics on a bad one, so
// its shape is checked first.
func ConnectorOptions(databaseURL string) (opts []pgdriver.Option, err error) {
	u, err := url.Parse(databaseURL)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") || u.Host == "" || strings.Trim(u.Path, "/") == "" {
		return nil, errors.New("DATABASE_URL: expected postgres://user:password@host:5432/database?sslmode=verify-full")
	}
	defer func() {
		if p := recover(); p != nil {
			opts, err = nil, fmt.Errorf("DATABASE_URL: %v", p)
		}
	}()
	c := pgdriver.NewConnector(pgdriver.WithDSN(databaseURL)) // panics on an option it does not know
	_ = c
	return []pgdriver.Option{pgdriver.WithDSN(databaseURL)}, nil
}

// InTx runs fn in one transaction at READ COMMITTED: the row lock orders writers, no code here
// relies on a snapshot. Errors are translated.
func (db *DB) InTx(ctx context.Context, fn func(tx bun.Tx) error) error {
	return Translate(db.RunInTx(ctx, nil, func(_ context.Context, tx bun.Tx) error { return fn(tx) }))
}
