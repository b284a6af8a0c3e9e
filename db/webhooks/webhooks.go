// Package webhooks keeps webhook endpoints and the deliveries for them: what an event is worth
// telling to whom (enqueue.go), who carries a delivery out (claim.go), and lists (deliveries.go).
package webhooks

import (
	"time"

	"github.com/postrider/postrider/db/internal/pg"
)

// Store has the endpoints and their deliveries. It is safe for concurrent use.
type Store struct {
	db   *pg.DB
	keys *pg.Keys
	// schedule spaces a delivery's attempts. Empty means endpoint.Schedule's.
	schedule []time.Duration
}

// New returns the webhooks of a database. keys seal the secrets of endpoints.
func New(db *pg.DB, keys *pg.Keys, schedule []time.Duration) *Store {
	return &Store{db, keys, schedule}
}
