// Package db keeps everything Postrider knows in Postgres, through bun. Open returns a store for
// each part: e-mails (db/mail), accounts, webhooks, files, mailboxes and reputations. db itself has the
// migrations.
//
// A part imports only parts that do not need it: pg <- audit <- webhooks <- accounts, pg <- files
// <- mailboxes, mail imports all of these but mailboxes, and reputation imports mail. Functions that take a transaction are what a
// part offers to another one within that transaction.
//
// Errors, in all parts: CodeUnavailable if Postgres does not answer, is overloaded, or has no
// schema or an older one; the comment of a method names its other Failures. An error that is not a
// Failure is a fault of the program.
package db

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"time"

	"github.com/postrider/postrider/db/accounts"
	"github.com/postrider/postrider/db/files"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/db/mail"
	"github.com/postrider/postrider/db/mailboxes"
	"github.com/postrider/postrider/db/reputation"
	"github.com/postrider/postrider/db/suppressions"
	"github.com/postrider/postrider/db/webhooks"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/endpoint"
)

// Options of a Store.
type Options struct {
	// SecretKey seals webhook secrets and DKIM keys; exactly 32 bytes.
	SecretKey []byte
	// OldSecretKey is the key before it, while that is being replaced; empty: there is
	// none.
	OldSecretKey []byte
	// MaxConns bounds the pool. Defaults to 20.
	MaxConns int
	// RequireVerifiedDomains refuses mail from domains the customer has not proven.
	RequireVerifiedDomains bool
	// BounceHost is the host of return paths. Empty: senders' addresses are the return paths.
	BounceHost string
	// LinkBase is where the links in messages lead, the public address of the API; empty if it has none.
	LinkBase string
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
	// ReputationPause pauses the broadcast stream of a sender domain whose reputation becomes critical.
	ReputationPause bool
	// WebhookSchedule spaces a delivery's attempts. Empty means endpoint.Schedule's.
	WebhookSchedule []time.Duration
	// WebhookBody makes the body of an event's deliveries in a format, and the type it
	// has there; an empty type is none. Required where webhooks exist.
	WebhookBody func(endpoint.Format, email.Event, email.Email) (kind string, body []byte, err error)
	// Observe receives the events of each transaction after its commit. nil: they are not observed.
	Observe func([]email.Event)
	// Log gets what fails after a commit and is not tried again. Defaults to slog.Default.
	Log *slog.Logger
}

// SecretKeyStatus is which keys this database's secrets are sealed with.
type SecretKeyStatus = pg.SecretKeyStatus

// Sealed counts stored secrets by the key that they are sealed with.
type Sealed = pg.Sealed

// ErrSecretKey says that the process does not have the key, or one of the keys, of this database.
// No secret is sealed with another key.
var ErrSecretKey = pg.ErrSecretKey

// DB is the door to Postgres: a store for each part of what is kept there. It is safe for
// concurrent use.
type DB struct {
	db *pg.DB

	Mail      *mail.Store
	Accounts  *accounts.Store
	Webhooks  *webhooks.Store
	Files     *files.Store
	Mailboxes *mailboxes.Store
	// Suppressions are the addresses that customers send nothing to.
	Suppressions *suppressions.Store
	// Reputation counts what becomes of mail, by sender domain.
	Reputation *reputation.Store
	// Keys are those that secrets are sealed with.
	Keys *pg.Keys
}

// Open makes a DB. It does not connect: Ready says whether it can. Its error names the setting that
// is wrong: a key or the URL.
func Open(databaseURL string, opts Options) (*DB, error) {
	keys, err := pg.NewKeyring(opts.SecretKey, opts.OldSecretKey)
	if err != nil {
		return nil, err
	}
	if opts.MaxConns == 0 {
		opts.MaxConns = 20
	}
	if opts.MaxMessageBytes == 0 {
		opts.MaxMessageBytes = email.DefaultMaxMessageBytes
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if len(opts.Schedule.Steps) == 0 {
		opts.Schedule = delivery.DefaultSchedule()
	}
	database, err := pg.Open(databaseURL, opts.MaxConns)
	if err != nil {
		return nil, err
	}
	d := &DB{db: database, Keys: pg.NewKeys(database, keys), Files: files.New(database), Mailboxes: mailboxes.New(database), Reputation: reputation.New(database, opts.ReputationPause)}
	d.Suppressions = suppressions.New(database, d.Keys)
	d.Webhooks = webhooks.New(database, d.Keys, opts.WebhookSchedule)
	d.Accounts = accounts.New(database, d.Keys, d.Webhooks, accounts.Options{
		RequireVerifiedDomains: opts.RequireVerifiedDomains, BounceHost: opts.BounceHost, PasswordMemory: opts.PasswordMemory,
		WarmupChanged: func(ctx context.Context, customerID, domain string) error {
			return d.Mail.ReleaseWarmup(ctx, customerID, domain)
		},
	})
	d.Mail = mail.New(database, mail.Parts{Accounts: d.Accounts, Files: d.Files, Webhooks: d.Webhooks, Suppressions: d.Suppressions, Keys: d.Keys}, mail.Options{
		MaxConns: opts.MaxConns, RequireVerifiedDomains: opts.RequireVerifiedDomains, BounceHost: opts.BounceHost, LinkBase: opts.LinkBase, MaxMessageBytes: opts.MaxMessageBytes, Blocked: opts.Blocked,
		Schedule: opts.Schedule, RecipientRates: opts.RecipientRates, WebhookBody: opts.WebhookBody, Observe: opts.Observe, Log: opts.Log,
	})
	return d, nil
}

// Close gives the connections back.
func (d *DB) Close() error { return d.db.Close() }

// Ready reports whether Postgres answers, has the schema, and seals with a key that this process
// has. Its error is CodeUnavailable, with ErrSecretKey in the chain if only the key is missing.
func (d *DB) Ready(ctx context.Context) error {
	var n int
	if err := d.db.NewRaw("SELECT 1 FROM emails LIMIT 1").Scan(ctx, &n); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return pg.Translate(err)
	}
	return d.Keys.Ready(ctx)
}
