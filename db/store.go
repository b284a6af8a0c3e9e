// Package db keeps everything Postrider knows in Postgres, through bun.
//
//  1. Store is the only exported type with methods; each exported method is one
//     transaction. Models are private: the rows, the API's JSON and the
//     payloads in workflow histories change under three different rules.
//  2. Whatever changes a recipient's or an e-mail's state goes through a change
//     (change.go): lock the e-mails in the order of their ids, load their
//     recipients, decide in memory, then write all rows at once.
//  3. gate.go opens attempts, journal.go carries them through their phases,
//     record.go projects their outcomes.
package db

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

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/endpoint"
)

// Limits of one statement on the server's side. A context's end does not stop
// a statement there, so these do.
const (
	statementTimeout = 30 * time.Second
	lockTimeout      = 10 * time.Second
	idleInTxTimeout  = time.Minute
)

// Options of a Store.
type Options struct {
	// SecretKey seals webhook secrets; exactly 32 bytes.
	SecretKey []byte
	// OldSecretKey is the key before it, while that is being replaced; empty: there is
	// none.
	OldSecretKey []byte
	// MaxConns bounds the pool. Defaults to 20.
	MaxConns int
	// RequireVerifiedDomains refuses mail from domains the customer has not proven.
	RequireVerifiedDomains bool
	// MaxMessageBytes bounds a message with its files. Defaults to
	// email.DefaultMaxMessageBytes.
	MaxMessageBytes int64
	// Blocked are the files that are not sent; zero means the built-in list.
	Blocked email.Blocklist
	// PasswordMemory is what hashing a password takes, in KiB. Defaults to 64 MiB, as RFC
	// 9106 section 4 recommends; only tests, which hash many, take less.
	PasswordMemory int
	// Schedule spaces a recipient's attempts. Defaults to delivery.DefaultSchedule.
	Schedule delivery.Schedule
	// RecipientRates are how many recipients a domain may have in a time.
	RecipientRates delivery.Rates
	// WebhookSchedule spaces a delivery's attempts. Empty means endpoint.Schedule's.
	WebhookSchedule []time.Duration
	// WebhookBody makes the body of an event's deliveries in a format, and the type it
	// has there; an empty type is none. Required where webhooks exist.
	WebhookBody func(endpoint.Format, email.Event, email.Email) (kind string, body []byte, err error)
	// Observe is told of events after their commit. nil means that nobody listens.
	Observe func([]email.Event)
}

// Store is the one door to Postgres. It is safe for concurrent use.
type Store struct {
	db   *bun.DB
	keys keyring
	opts Options
	passwords
	together
}

// Open makes a Store. It does not connect yet: Ready says whether it can.
func Open(databaseURL string, opts Options) (*Store, error) {
	keys, err := newKeyring(opts.SecretKey, opts.OldSecretKey)
	if err != nil {
		return nil, err
	}
	if opts.MaxConns == 0 {
		opts.MaxConns = 20
	}
	if opts.MaxMessageBytes == 0 {
		opts.MaxMessageBytes = email.DefaultMaxMessageBytes
	}
	if len(opts.Schedule.Steps) == 0 {
		opts.Schedule = delivery.DefaultSchedule()
	}
	copts, err := connectorOptions(databaseURL)
	if err != nil {
		return nil, err
	}
	copts = append(copts,
		pgdriver.WithReadTimeout(statementTimeout+10*time.Second),
		pgdriver.WithApplicationName("postrider"),
		pgdriver.WithConnParams(map[string]any{
			"statement_timeout":                   statementTimeout.Milliseconds(),
			"lock_timeout":                        lockTimeout.Milliseconds(),
			"idle_in_transaction_session_timeout": idleInTxTimeout.Milliseconds(),
			// Prepared statements find rows by key: a plan for all values is as good as
			// one for these, and is made once.
			"plan_cache_mode": "force_generic_plan",
			// That one is made while the tables of a young installation are empty, and would
			// read them in full ever after. Where no index serves, it still does.
			"enable_seqscan": false,
			"jit":            false, // it would take such a one for worth compiling
		}))
	sqldb := sql.OpenDB(preparing{pgdriver.NewConnector(copts...)})
	sqldb.SetMaxOpenConns(opts.MaxConns)
	sqldb.SetMaxIdleConns(opts.MaxConns)
	sqldb.SetConnMaxIdleTime(5 * time.Minute)
	// What a migration adds while this process runs is not its concern.
	s := &Store{db: bun.NewDB(sqldb, pgdialect.New(), bun.WithDiscardUnknownColumns()), keys: keys, opts: opts, passwords: newPasswords(opts.PasswordMemory)}
	s.together = newTogether(s)
	return s, nil
}

// connectorOptions reads a database URL. The driver panics on a bad one, so
// its shape is checked first.
func connectorOptions(databaseURL string) (opts []pgdriver.Option, err error) {
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

// Close gives the connections back.
func (s *Store) Close() error { return s.db.Close() }

// Ready reports whether Postgres answers, has the schema, and seals with a key that
// this process has. ErrSecretKey if it has not.
func (s *Store) Ready(ctx context.Context) error {
	var n int
	if err := s.db.NewRaw("SELECT 1 FROM emails LIMIT 1").Scan(ctx, &n); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return translate(err)
	}
	k, err := s.keyState(ctx, s.db)
	if err != nil {
		return translate(err)
	}
	return k.err()
}

// inTx runs fn in one transaction at READ COMMITTED: the row lock orders
// writers, nothing here relies on a snapshot.
func (s *Store) inTx(ctx context.Context, fn func(tx bun.Tx) error) error {
	return translate(s.db.RunInTx(ctx, nil, func(_ context.Context, tx bun.Tx) error { return fn(tx) }))
}
