package api

import (
	"cmp"
	"time"

	"github.com/postrider/postrider/internal/membudget"
	"github.com/postrider/postrider/internal/spool"
	"github.com/postrider/postrider/internal/turns"
)

// budget is the memory that all requests of the process share, in four parts:
//
//  1. bodies: the first 64 KiB of each body while its client sends it. The rest is in a file.
//  2. work: complete bodies, and what is made of them and of received messages to decode, store
//     or parse them. A slow client cannot keep it reserved.
//  3. copies: the messages that a batch makes of its template for one insert.
//  4. answers: what is read from Postgres, until the answer is complete. While its client reads
//     it, an answer of more than 64 KiB is in a file.
//
// Customers share a part, and take turns where they wait for it. A request that cannot reserve
// memory within reserveWait is answered 503, and at once if maxWaitingReservations of its customer
// wait.
//
// A request that needs more than a third of a part reserves nothing and takes a turn instead. One
// such request is processed at a time, from when its body is complete until its answer is. The
// process has LargestRequest for it in addition to the budget.
type budget struct {
	bodies, work, copies, answers *membudget.Budget
	turns                         *turns.Turns
	// processors limits concurrent work; see compute.
	processors processors
	// spool holds bodies and answers while clients send and read them.
	spool *spool.Pool
	// slowQueries limits the connections to Postgres of queries that may take long or wait for a
	// row lock. These are pages of lists, statistics, reads of e-mails, and all changes but
	// accepting single e-mails without idempotency key, callback and attachment. The rest of the
	// pool is for accepting those, for credentials, and for the request that has the turn.
	slowQueries *membudget.Budget
}

// maxSlowQueries is half of the default of db.Options.MaxConns.
const maxSlowQueries = 10

const (
	// DefaultMemoryBytes is the default size of the budget.
	DefaultMemoryBytes = 256 << 20
	// reserveWait is how long a request waits to reserve memory or a connection.
	reserveWait = 10 * time.Second
	// turnWait is how long a request waits for its turn. It is longer than reserveWait, because a
	// waiting request holds no memory. The request with the turn does not wait for its client,
	// only for Postgres, where a statement times out after 30 s.
	turnWait = 60 * time.Second
	// maxInMemory limits what is in memory of a body while its client sends it, in bytes. It also
	// limits what is in memory of an answer while its client reads it.
	maxInMemory = 64 << 10
	// LargestRequest is the most memory of a request with the turn, in bytes. It is for messages of
	// 25 MiB and received messages of 50 MiB.
	LargestRequest = 128 << 20
	// DefaultSpoolBytes is the default limit of all spool files of requests together.
	DefaultSpoolBytes = 1 << 30
)

// NewSpool returns a pool of spool files for bodies and answers. dir is their directory; empty is
// the system's directory for temporary files. All files together have at most limit bytes.
func NewSpool(dir string, limit int64) *spool.Pool {
	return spool.New(spool.Config{Name: "postrider-request", Dir: dir, DiskBytes: limit,
		DirSetting: "POSTRIDER_REQUEST_SPOOL_DIR", DiskSetting: "POSTRIDER_REQUEST_SPOOL_BYTES"})
}

func newBudget(opts Options) *budget {
	total := cmp.Or(opts.MemoryBytes, DefaultMemoryBytes)
	part := func(n int64) *membudget.Budget {
		return membudget.New(membudget.Options{Total: n, Shared: true, MaxWaiting: maxWaitingReservations})
	}
	b := &budget{bodies: part(total / 4), answers: part(total / 4), work: part(total * 3 / 8), copies: part(total / 8), slowQueries: part(maxSlowQueries),
		turns: opts.Turns, processors: newProcessors(opts), spool: opts.Spool}
	if b.turns == nil {
		b.turns = &turns.Turns{}
	}
	if b.spool == nil {
		b.spool = NewSpool("", DefaultSpoolBytes)
	}
	return b
}
