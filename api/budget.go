package api

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"

	"github.com/postrider/postrider/email"
)

// budget is the memory that all requests of the process share, in four parts:
//
//  1. bodies: what clients send, from the first byte until the request ends.
//  2. work: what bodies and received messages become while they are decoded, stored or
//     parsed, about twice their size. Clients cannot hold it.
//  3. copies: what a batch makes of its message for one insert.
//  4. answers: what is read from Postgres and sent.
//
// Each customer has a share of each.
// A request that gets no memory within roomWait is answered 503. One that needs more
// than a third of a part is charged a third, and is worked on alone: one such request at
// a time may take more than it is charged.
type budget struct {
	bodies, work, copies, answers *shares
	alone                         alone
	// queries are connections to Postgres for what may take long there, or wait for a row's
	// lock: all but the acceptance of single e-mails, which share one, and what looks up
	// credentials. Those have the rest of the pool.
	queries *shares
}

// longQueries is half of the pool: db.Options.MaxConns.
const longQueries = 10

const (
	// DefaultMemoryBytes is the budget's size.
	DefaultMemoryBytes = 256 << 20
	roomWait           = 10 * time.Second
)

func newBudget(total int64) *budget {
	if total == 0 {
		total = DefaultMemoryBytes
	}
	return &budget{bodies: newShares(total * 3 / 8), answers: newShares(total / 4), work: newShares(total / 4), copies: newShares(total / 8), queries: newShares(longQueries)}
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

// shrink gives back what is more than n.
func (h *held) shrink(n int64) {
	if back := h.n - n; back > 0 {
		h.n = n
		h.from.release(h.owner, back)
	}
}

const (
	keyBudget = "budget"
	keyHeld   = "held"
	keyAlone  = "alone"
)

// accounted gives back what a request holds when it has been answered.
func (s *Server) accounted(c *gin.Context) {
	c.Set(keyBudget, s.budget)
	defer func() {
		endTurn(c)
		for _, h := range heldOf(c) {
			h.shrink(0)
		}
	}()
	c.Next()
}

var errNoRoom = email.Fail(email.CodeUnavailable, "too much is being received or read at once; try again")

// hold waits for memory of a part, which the request has until it is answered, or until
// it is shrunk.
func hold(c *gin.Context, from *shares, n int64) error {
	ctx, cancel := context.WithTimeout(c.Request.Context(), roomWait)
	defer cancel()
	if err := takeTurn(ctx, c, from, n); err != nil {
		return err
	}
	owner := shareOf(c)
	n, err := from.acquire(ctx, owner, n)
	if err != nil {
		return errNoRoom
	}
	c.Set(keyHeld, append(heldOf(c), &held{from: from, owner: owner, n: n}))
	return nil
}

// takeTurn waits until no other large request is worked on, if this one takes more of a part
// than is charged at once. Bodies need no turn: a client holds them, however long it takes.
func takeTurn(ctx context.Context, c *gin.Context, from *shares, n int64) error {
	b := budgetOf(c)
	if c.Value(keyAlone) != nil || from == b.bodies || n <= from.most() {
		return nil
	}
	done, err := b.alone.acquire(ctx, shareOf(c))
	if err != nil {
		return errNoRoom
	}
	c.Set(keyAlone, done)
	return nil
}

// endTurn lets the next large request be worked on. This one is answered, or waits for an
// e-mail.
func endTurn(c *gin.Context) {
	if done, is := c.Value(keyAlone).(func()); is {
		done()
		c.Set(keyAlone, nil)
	}
}

func heldOf(c *gin.Context) []*held {
	hs, _ := c.Value(keyHeld).([]*held)
	return hs
}

// shrinkTo gives back what is more than n of each of a request's shares of a part.
func shrinkTo(c *gin.Context, from *shares, n int64) {
	for _, h := range heldOf(c) {
		if h.from == from {
			h.shrink(n)
		}
	}
}

func budgetOf(c *gin.Context) *budget { return c.MustGet(keyBudget).(*budget) }

// holdAnswer is hold for what is read to be answered.
func (s *Server) holdAnswer(c *gin.Context, n int64) error {
	return hold(c, s.budget.answers, n)
}

// holdPage is holdAnswer for a page of a list, which takes a long query.
func (s *Server) holdPage(c *gin.Context) error {
	if err := s.holdQuery(c); err != nil {
		return err
	}
	return s.holdAnswer(c, pageAnswer)
}

// holdQuery waits until the request may ask Postgres what may take long, once.
func (s *Server) holdQuery(c *gin.Context) error {
	if slices.ContainsFunc(heldOf(c), func(h *held) bool { return h.from == s.budget.queries && h.n > 0 }) {
		return nil
	}
	return hold(c, s.budget.queries, 1)
}

// holdEmail is holdAnswer for an e-mail: its content as it is read, and as JSON twice.
func (s *Server) holdEmail(c *gin.Context, id string) error {
	if err := s.holdQuery(c); err != nil {
		return err
	}
	n, err := s.deps.Emails.ContentBytes(c.Request.Context(), customerOf(c).ID, id)
	if err != nil {
		return err
	}
	return s.holdAnswer(c, 3*n+smallAnswer)
}

// borrow waits for memory of a part until it is given back, before the answer.
func borrow(c *gin.Context, from *shares, n int64) (release func(), err error) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), roomWait)
	defer cancel()
	owner := shareOf(c)
	if err := takeTurn(ctx, c, from, n); err != nil {
		return nil, err
	}
	if n, err = from.acquire(ctx, owner, n); err != nil {
		return nil, errNoRoom
	}
	return func() { from.release(owner, n) }, nil
}

// smallAnswer is what an answer has besides contents, pageAnswer what a page of a list
// takes, both as rows and as JSON, in bytes.
const (
	smallAnswer = 64 << 10
	pageAnswer  = 4 << 20
)

// ready says that all that is left is to write an answer of n bytes: what it was made of
// is let go, and the request holds n bytes of the answers' memory.
func (s *Server) ready(c *gin.Context, n int) {
	shrinkTo(c, s.budget.answers, int64(n))
	shrinkTo(c, s.budget.queries, 0)
	endTurn(c)
}

// answer writes JSON.
func (s *Server) answer(c *gin.Context, status int, body any) {
	out, err := encoded(body)
	if err != nil {
		s.problem(c, fmt.Errorf("encode answer: %w", err))
		return
	}
	s.ready(c, len(out))
	c.Data(status, "application/json; charset=utf-8", out)
}

// encoded is JSON as encoding/json writes it, but for what it escapes for HTML and
// JavaScript: HTML would be five times as large, and no text is larger than it was in the
// request that brought it.
func encoded(body any) ([]byte, error) {
	var buf bytes.Buffer
	err := json.MarshalWrite(&buf, body, jsonv1.DefaultOptionsV1(), jsontext.EscapeForHTML(false), jsontext.EscapeForJS(false))
	return buf.Bytes(), err
}

// shareOf names whose memory a request takes: its customer's, or before that is known
// its address's, an IPv6 /64 being one.
func shareOf(c *gin.Context) string {
	if id := c.GetString(keyCustomerID); id != "" {
		return id
	}
	return networkOf(c.ClientIP())
}
