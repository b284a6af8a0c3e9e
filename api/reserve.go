package api

import (
	"context"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/httpserver"
	"github.com/postrider/postrider/internal/membudget"
	"github.com/postrider/postrider/internal/turns"
)

// reservation is what a request holds of a part of the budget.
type reservation struct {
	from  *membudget.Budget
	owner string
	n     int64
}

// release returns it. A second call does nothing.
func (r *reservation) release() {
	if n := r.n; n > 0 {
		r.n = 0
		r.from.Release(r.owner, n)
	}
}

const (
	keyBudget       = "budget"
	keyReservations = "reservations"
	keyTurn         = "turn"
)

// track is the middleware that releases what a request has reserved after its answer.
func (b *budget) track(c *gin.Context) {
	c.Set(keyBudget, b)
	defer releaseAll(c)
	c.Next()
}

var errNoMemory = email.Fail(email.CodeUnavailable, "too many requests are being received or answered at once; try again")

var errNoTurn = email.Fail(email.CodeUnavailable, "large requests are processed one at a time, and others are waiting; try again, or send a smaller request")

// reserve waits until the request may hold n of a part of the budget. The request holds it until
// release, or until its answer is complete. A large request takes a turn instead, see budget.
func reserve(c *gin.Context, from *membudget.Budget, n int64) error {
	if has, err := takeTurn(c, from, n); has || err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), reserveWait)
	defer cancel()
	owner := ownerOf(c)
	n, err := from.Acquire(ctx, owner, n)
	if err != nil {
		return errNoMemory
	}
	c.Set(keyReservations, append(reservationsOf(c), &reservation{from: from, owner: owner, n: n}))
	return nil
}

// tryReserve is reserve without waiting: it reports whether the request holds n more of a part. The
// request with the turn needs nothing.
func tryReserve(c *gin.Context, from *membudget.Budget, n int64) bool {
	if hasTurn(c) {
		return true
	}
	if n > from.MaxCharge() || !from.TryAcquire(ownerOf(c), n) {
		return false
	}
	c.Set(keyReservations, append(reservationsOf(c), &reservation{from: from, owner: ownerOf(c), n: n}))
	return true
}

// A request that waits keeps its connection, and the port has about 1,160 of them in a small
// container. So only so many requests of one customer may wait in one queue. The next one is
// answered 503 at once.
const (
	// maxWaitingTurns is for turns and processors, for which a request waits up to turnWait.
	maxWaitingTurns = 32
	// maxWaitingReservations is for a part of the budget, for which a request waits up to
	// reserveWait.
	maxWaitingReservations = 256
)

// takeTurn reports whether the request has the turn of large requests. It waits for the turn if n is
// more than a part of the budget allows at once. Bodies take no turn, because a client may send
// them slowly, and neither do connections.
func takeTurn(c *gin.Context, from *membudget.Budget, n int64) (bool, error) {
	b := budgetOf(c)
	if from == b.slowQueries || from == b.bodies {
		return false, nil
	}
	if hasTurn(c) {
		return true, nil
	}
	if n <= from.MaxCharge() {
		return false, nil
	}
	done, ok := awaitTurn(c, b.turns, maxWaitingTurns)
	if !ok {
		return false, errNoTurn
	}
	c.Set(keyTurn, done)
	return true, nil
}

// awaitTurn waits up to turnWait until the request's owner has a turn; done ends the turn. ok is
// false without a turn, and at once if maxWaiting requests of the owner wait already.
func awaitTurn(c *gin.Context, t *turns.Turns, maxWaiting int) (done func(), ok bool) {
	owner := ownerOf(c)
	ctx, cancel := context.WithTimeout(c.Request.Context(), turnWait)
	defer cancel()
	done, err := t.AcquireWithin(ctx, owner, maxWaiting)
	return done, err == nil
}

// endTurn passes the turn to the next large request, if this one has it.
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

func reservationsOf(c *gin.Context) []*reservation {
	rs, _ := c.Value(keyReservations).([]*reservation)
	return rs
}

// releaseAll releases all that a request has reserved. The request must hold nothing large in
// memory any more.
func releaseAll(c *gin.Context) {
	for _, r := range reservationsOf(c) {
		r.release()
	}
	endTurn(c)
}

// release releases what a request has reserved of one part.
func release(c *gin.Context, from *membudget.Budget) {
	for _, r := range reservationsOf(c) {
		if r.from == from {
			r.release()
		}
	}
}

// shrink releases what a request has reserved of one part, except n.
func shrink(c *gin.Context, from *membudget.Budget, n int64) {
	for _, r := range reservationsOf(c) {
		if r.from == from {
			kept := min(n, r.n)
			from.Release(r.owner, r.n-kept)
			r.n, n = kept, n-kept
		}
	}
}

// budgetOf returns the budget that track has put into the request.
func budgetOf(c *gin.Context) *budget { return c.MustGet(keyBudget).(*budget) }

// reserveAnswer reserves memory for what is read from Postgres for the answer.
func reserveAnswer(c *gin.Context, n int64) error {
	return reserve(c, budgetOf(c).answers, n)
}

// reservePage reserves what a page of a list needs: memory for rows of so many bytes, then a
// connection for a slow query. The connection comes last, so that a request that waits for memory
// holds none.
func reservePage(c *gin.Context, bytes int64) error {
	if err := reserveAnswer(c, pageTimes*bytes); err != nil {
		return err
	}
	return reserveQuery(c)
}

// reserveQuery reserves a connection for queries that may take long, unless the request has one.
// The request with the turn needs none: there is one such request, and others wait for its turn to
// end.
func reserveQuery(c *gin.Context) error {
	if hasTurn(c) {
		return nil
	}
	queries := budgetOf(c).slowQueries
	if slices.ContainsFunc(reservationsOf(c), func(r *reservation) bool { return r.from == queries && r.n > 0 }) {
		return nil
	}
	return reserve(c, queries, 1)
}

// reserveChange reserves a connection for a change, which may wait for a row lock that other
// requests of the customer hold. It does nothing for a request without a credential, because all
// of these would share one owner's part.
func reserveChange(c *gin.Context) error {
	if c.GetString(keyCustomerID) == "" {
		return nil
	}
	return reserveQuery(c)
}

// reservingChange returns a handler that calls reserveChange first. It is for handlers that change
// something and read no body. Handlers with a body call decode, which does the same.
func reservingChange(h handler) handler {
	return func(c *gin.Context) (int, any, error) {
		if err := reserveChange(c); err != nil {
			return 0, nil, err
		}
		return h(c)
	}
}

const (
	// smallAnswer is the memory of an answer without contents, in bytes.
	smallAnswer = 64 << 10
	// pageTimes is the memory of a page of a list, as rows and as JSON, in sizes of its rows.
	pageTimes = 4
	// smallEntry is the most that a batch or an event has in a list, in bytes. Most of it is the
	// text of an event, email.MaxReplyText.
	smallEntry = 2 << 10
)

// ownerOf returns the owner of what a request reserves: its customer's id, or the client's network
// before the request is authenticated.
func ownerOf(c *gin.Context) string {
	if id := c.GetString(keyCustomerID); id != "" {
		return id
	}
	return httpserver.ClientNetwork(c.ClientIP())
}
