// Package reputation counts what becomes of each sender domain's mail, and judges the domains by it.
//
//  1. RollUp (rollup.go) reads the events of each customer in the order of its feed, and adds them to
//     the table reputation_days, in one transaction with the customer's cursor.
//  2. The same transaction derives the bands of the domains again (bands.go). A worse band goes to
//     webhooks and the audit log, and may pause the domain's broadcast stream.
//  3. Report (report.go) reads all of that for one domain.
//
// A transaction of RollUp locks one cursor. No transaction that sends mail takes that lock.
package reputation

import (
	"github.com/postrider/postrider/db/internal/pg"
)

// lotMax is how many events one transaction reads.
const lotMax = 5000

// Store has the counts and the bands. It is safe for concurrent use.
type Store struct {
	db *pg.DB
	// pause: a domain that becomes critical has its broadcast stream paused.
	pause bool
}

// New returns the reputations of a database. With pause, a domain that becomes critical has its
// broadcast stream paused.
func New(db *pg.DB, pause bool) *Store { return &Store{db: db, pause: pause} }
