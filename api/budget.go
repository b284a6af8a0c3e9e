package api

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/httpserver"
	"github.com/postrider/postrider/internal/spool"
	"github.com/postrider/postrider/internal/turns"
)

// budget is the memory that all requests of the process share, in four parts:
//
//  1. bodies: what is in memory of a body while its client sends it, 64 KiB at most; the rest
//     is in a file.
//  2. work: bodies that are whole, and what they and received messages become while they are
//     decoded, stored or parsed. Clients cannot hold it.
//  3. copies: what a batch makes of its message for one insert.
//  4. answers: what is read from Postgres, until the answer is made. While its client reads
//     it, 64 KiB of it are in memory at most; a larger one is in a file.
//
// Each customer has a share of each. A request that gets no memory within roomWait is answered
// 503.
//
// A request that needs more than a third of a part is charged nothing. It takes a turn instead:
// one such request is worked on at a time, from when its body is whole until its answer is
// made. The process has room for it beside the budget.
type budget struct {
	bodies, work, copies, answers *shares
	turns                         *turns.Turns
	// processors is what work on larger requests waits for; see compute.
	processors *turns.Turns
	// spool is for bodies and answers at their clients' pace.
	spool *spool.Pool
	// queries are connections to Postgres for what may take long there, or wait for a row's
	// lock: all changes but the acceptance of single e-mails that have no key, no callback and no
	// attachment, which share one, and what looks up credentials. Those have the rest of the pool.
	queries *shares
}

// longQueries is half of the pool: db.Options.MaxConns.
const longQueries = 10

const (
	// DefaultMemoryBytes is the budget's size.
	DefaultMemoryBytes = 256 << 20
	roomWait           = 10 * time.Second
	// turnWait is longer: a request that waits for its turn holds no memory. A turn does not
	// wait for clients, only for Postgres, where a statement ends after 30 s.
	turnWait = 60 * time.Second
	// inMemory is the largest body that is in memory while its client sends it, and the
	// largest answer that is while its client reads it, in bytes.
	inMemory = 64 << 10
	// LargestRequest is the most memory that a request with the turn takes, in bytes, with a
	// message of 25 MiB or a received one of 50 MiB.
	LargestRequest = 128 << 20
	// DefaultSpoolBytes is what the files of requests have together.
	DefaultSpoolBytes = 1 << 30
)

// NewSpool makes the files for what clients send and read slowly. dir is where they are, empty
// the system's directory for temporary files; all have at most limit bytes.
func NewSpool(dir string, limit int64) *spool.Pool {
	return spool.New(spool.Config{Name: "postrider-request", Dir: dir, DiskBytes: limit,
		DirSetting: "POSTRIDER_REQUEST_SPOOL_DIR", DiskSetting: "POSTRIDER_REQUEST_SPOOL_BYTES"})
}

func newBudget(opts Options) *budget {
	total := cmp.Or(opts.MemoryBytes, DefaultMemoryBytes)
	b := &budget{bodies: newShares(total / 4), answers: newShares(total / 4), work: newShares(total * 3 / 8), copies: newShares(total / 8), queries: newShares(longQueries),
		turns: opts.Turns, processors: opts.Processors, spool: opts.Spool}
	if b.processors == nil {
		b.processors = newProcessors()
	}
	if b.turns == nil {
		b.turns = &turns.Turns{}
	}
	if b.spool == nil {
		b.spool = NewSpool("", DefaultSpoolBytes)
	}
	return b
}

// shares is memory of which every owner may have as much as is free afterwards: one
// alone half of it, two a third each. There is always some left for who comes next. What
// is asked for at once counts as a third of it at most: two owners may have that much.
type shares struct {
	total int64

	mu      sync.Mutex
	used    int64
	of      map[string]int64
	waiting []*waitingShare
}

type waitingShare struct {
	owner string
	n     int64
	ready chan struct{}
}

func newShares(total int64) *shares { return &shares{total: total, of: map[string]int64{}} }

// acquire waits until owner may have n bytes more, and tells how many it was charged.
// It fails where ctx ends first.
func (s *shares) acquire(ctx context.Context, owner string, n int64) (int64, error) {
	n = min(n, s.most())
	s.mu.Lock()
	if s.fits(owner, n) {
		s.take(owner, n)
		s.mu.Unlock()
		return n, nil
	}
	w := &waitingShare{owner: owner, n: n, ready: make(chan struct{})}
	s.waiting = append(s.waiting, w)
	s.mu.Unlock()
	select {
	case <-w.ready:
		return n, nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.waiting {
		if s.waiting[i] == w {
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			return 0, ctx.Err()
		}
	}
	return n, nil // it was given while ctx ended
}

// try is acquire without waiting; it says whether owner has n bytes more.
func (s *shares) try(owner string, n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.fits(owner, n) {
		return false
	}
	s.take(owner, n)
	return true
}

// most is what is charged at once at most.
func (s *shares) most() int64 { return s.total / 3 }

func (s *shares) fits(owner string, n int64) bool { return s.of[owner]+n <= s.total-s.used-n }

func (s *shares) take(owner string, n int64) {
	s.used += n
	s.of[owner] += n
}

// release gives bytes back, and whoever waits and fits now gets them.
func (s *shares) release(owner string, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
	if s.of[owner] -= n; s.of[owner] == 0 {
		delete(s.of, owner)
	}
	left := s.waiting[:0]
	for _, w := range s.waiting {
		if s.fits(w.owner, w.n) {
			s.take(w.owner, w.n)
			close(w.ready)
			continue
		}
		left = append(left, w)
	}
	clear(s.waiting[len(left):])
	s.waiting = left
}

// held is what a request has of a shares.
type held struct {
	from  *shares
	owner string
	n     int64
}

// release gives it back; a second call does nothing.
func (h *held) release() {
	if n := h.n; n > 0 {
		h.n = 0
		h.from.release(h.owner, n)
	}
}

const (
	keyBudget = "budget"
	keyHeld   = "held"
	keyTurn   = "turn"
)

// accounted gives back what a request holds when it has been answered.
func (b *budget) accounted(c *gin.Context) {
	c.Set(keyBudget, b)
	defer releaseAll(c)
	c.Next()
}

var errNoRoom = email.Fail(email.CodeUnavailable, "too much is being received or read at once; try again")

var errNoTurn = email.Fail(email.CodeUnavailable, "other requests of this size are being worked on, one at a time; try again, or send smaller ones")

// hold waits for memory of a part, or for connections, which the request has until its answer
// is made, or until they are given back.
func hold(c *gin.Context, from *shares, n int64) error {
	if has, err := takeTurn(c, from, n); has || err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), roomWait)
	defer cancel()
	owner := shareOf(c)
	n, err := from.acquire(ctx, owner, n)
	if err != nil {
		return errNoRoom
	}
	c.Set(keyHeld, append(heldOf(c), &held{from: from, owner: owner, n: n}))
	return nil
}

// takeTurn says whether the request has the turn of large requests. It waits for the turn if the
// request takes more of a part than is charged at once. Bodies and connections need no turn: a
// client sends a body as slowly as it likes.
func takeTurn(c *gin.Context, from *shares, n int64) (bool, error) {
	b := budgetOf(c)
	if from == b.queries || from == b.bodies {
		return false, nil
	}
	if hasTurn(c) {
		return true, nil
	}
	if n <= from.most() {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), turnWait)
	defer cancel()
	done, err := b.turns.Acquire(ctx, shareOf(c))
	if err != nil {
		return false, errNoTurn
	}
	c.Set(keyTurn, done)
	return true, nil
}

// endTurn lets the next large request be worked on. This one is answered, or waits for an
// e-mail.
func endTurn(c *gin.Context) {
	if done, is := c.Value(keyTurn).(func()); is {
		done()
		c.Set(keyTurn, nil)
	}
}

func hasTurn(c *gin.Context) bool {
	_, is := c.Value(keyTurn).(func())
	return is
}

func heldOf(c *gin.Context) []*held {
	hs, _ := c.Value(keyHeld).([]*held)
	return hs
}

// releaseAll gives back all that a request holds: it has nothing large in memory any more.
func releaseAll(c *gin.Context) {
	for _, h := range heldOf(c) {
		h.release()
	}
	endTurn(c)
}

// release gives back what a request holds of a part.
func release(c *gin.Context, from *shares) {
	for _, h := range heldOf(c) {
		if h.from == from {
			h.release()
		}
	}
}

func budgetOf(c *gin.Context) *budget { return c.MustGet(keyBudget).(*budget) }

// holdAnswer is hold for what is read to be answered.
func holdAnswer(c *gin.Context, n int64) error {
	return hold(c, budgetOf(c).answers, n)
}

// holdPage is holdAnswer for a page of a list, which takes a long query.
func holdPage(c *gin.Context) error {
	if err := holdQuery(c); err != nil {
		return err
	}
	return holdAnswer(c, pageAnswer)
}

// holdQuery waits until the request may ask Postgres what may take long, once.
func holdQuery(c *gin.Context) error {
	queries := budgetOf(c).queries
	if slices.ContainsFunc(heldOf(c), func(h *held) bool { return h.from == queries && h.n > 0 }) {
		return nil
	}
	return hold(c, queries, 1)
}

// holdChange waits until the request may change what is in Postgres, where it may wait for the
// lock of a row that other requests of its customer change. A request without a credential does
// not wait: it would wait for all others without one.
func holdChange(c *gin.Context) error {
	if c.GetString(keyCustomerID) == "" {
		return nil
	}
	return holdQuery(c)
}

// change is a handler that changes something and reads no body: the request waits as in
// holdChange. Where there is a body, decode waits once it is whole.
func change(h handler) handler {
	return func(c *gin.Context) (int, any, error) {
		if err := holdChange(c); err != nil {
			return 0, nil, err
		}
		return h(c)
	}
}

// smallAnswer is what an answer has besides contents, pageAnswer what a page of a list
// takes, both as rows and as JSON, in bytes.
const (
	smallAnswer = 64 << 10
	pageAnswer  = 4 << 20
)

// shareOf names whose memory a request takes: its customer's, or before that is known
// its address's, an IPv6 /64 being one.
func shareOf(c *gin.Context) string {
	if id := c.GetString(keyCustomerID); id != "" {
		return id
	}
	return httpserver.ClientNetwork(c.ClientIP())
}
