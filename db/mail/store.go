// Package mail keeps the e-mails: their acceptance, their attempts and their states.
//
//  1. Each exported method of Store is one transaction, unless its comment says otherwise.
//     Rows are private: the rows, the API's JSON and the payloads in workflow histories
//     change under three different rules.
//  2. Each change of a recipient's or an e-mail's state goes through a unitOfWork
//     (unit.go): lock the e-mails in the order of their ids, load their recipients, decide
//     in memory, then write all rows at once.
//  3. gate.go opens attempts, journal.go carries them through their phases, record.go
//     projects their outcomes. batch_*.go does so for many e-mails of a batch.
package mail

import (
	"log/slog"

	"github.com/postrider/postrider/db/accounts"
	"github.com/postrider/postrider/db/files"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/db/suppressions"
	"github.com/postrider/postrider/db/webhooks"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/endpoint"
	"github.com/postrider/postrider/internal/suppression"
)

// Options of a Store. db.Options has the defaults.
type Options struct {
	// MaxConns is the size of the pool. Acceptances that cannot share a transaction have two
	// fifths of it.
	MaxConns int
	// RequireVerifiedDomains refuses mail from domains the customer has not proven.
	RequireVerifiedDomains bool
	// BounceHost is the host of return paths of domains that have none of their own. Empty: senders'
	// addresses are the return paths.
	BounceHost string
	// LinkBase is where the links in messages lead; empty if this process does not know it.
	LinkBase string
	// MaxMessageBytes bounds a message with its files.
	MaxMessageBytes int64
	// Blocked are the files that are not sent; zero means the built-in list.
	Blocked email.Blocklist
	// Schedule spaces a recipient's attempts.
	Schedule delivery.Schedule
	// RecipientRates are how many recipients a domain may have in a time.
	RecipientRates delivery.Rates
	// WebhookBody makes the body of an event's deliveries in a format, and the type it
	// has there; an empty type is none. Required where webhooks exist.
	WebhookBody func(endpoint.Format, email.Event, email.Email) (kind string, body []byte, err error)
	// Observe receives the events of each transaction after its commit. nil: they are not observed.
	Observe func([]email.Event)
	// Log gets what fails after a commit. Required.
	Log *slog.Logger
}

// Parts are the stores that e-mails need.
type Parts struct {
	Accounts     *accounts.Store
	Files        *files.Store
	Webhooks     *webhooks.Store
	Suppressions *suppressions.Store
	Keys         *pg.Keys
}

// Store has the e-mails. It is safe for concurrent use.
type Store struct {
	db           *pg.DB
	accounts     *accounts.Store
	files        *files.Store
	webhooks     *webhooks.Store
	suppressions *suppressions.Store
	circuits     suppression.Circuits
	opts         Options
	runCache     *runCache
	warnings     warnings
	keys         *pg.Keys
	coalescers
}

// New returns the e-mails of a database.
func New(db *pg.DB, parts Parts, opts Options) *Store {
	s := &Store{db: db, accounts: parts.Accounts, files: parts.Files, webhooks: parts.Webhooks, suppressions: parts.Suppressions, opts: opts, runCache: newRunCache(), keys: parts.Keys}
	s.coalescers = newCoalescers(s)
	return s
}
