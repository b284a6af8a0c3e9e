// Package accounts keeps customers, their users, access keys and sender domains, what they have
// used, and lists the audit log.
package accounts

import (
	"context"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/db/webhooks"
)

// Options of a Store.
type Options struct {
	// RequireVerifiedDomains refuses a default sender of a domain that the customer has not
	// proven.
	RequireVerifiedDomains bool
	// BounceHost is where domains' records for the return path lead to. Empty: there are none.
	BounceHost string
	// PasswordMemory is what hashing a password takes, in KiB. Defaults to 64 MiB.
	PasswordMemory int
	// WarmupChanged is called when a domain has got another warm-up plan or none, or was
	// deleted: e-mails may wait for a day of the old plan. Required.
	WarmupChanged func(ctx context.Context, customerID, domain string) error
}

// Store has the accounts. It is safe for concurrent use.
type Store struct {
	db       *pg.DB
	keys     *pg.Keys
	webhooks *webhooks.Store
	opts     Options
	passwords
}

// New returns the accounts of a database. keys seal the DKIM keys of domains. Each customer has an
// endpoint in hooks.
func New(db *pg.DB, keys *pg.Keys, hooks *webhooks.Store, opts Options) *Store {
	return &Store{db: db, keys: keys, webhooks: hooks, opts: opts, passwords: newPasswords(opts.PasswordMemory)}
}
