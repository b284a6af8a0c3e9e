package db

import (
	"context"
	"sync"
	"time"
)

// group makes calls of one kind together (group commit): those that come while one lot is
// under way wait for its end and go with the next lot, in one transaction. Under load an
// e-mail costs a fraction of a transaction; alone it waits for no other.
//
// Owners take turns: a lot has one call of each owner that waits, then a second one of
// each, until it is full. So an owner that waits is in the next lot, or, where more owners
// wait than one lot holds, in one of the next.
type group[Q, A any] struct {
	// call answers every question at its place. For several it may leave an answer
	// out; see do.
	call func(ctx context.Context, qs []Q) ([]A, error)
	// owner is whose turn a question takes. nil: all have one line.
	owner func(Q) string
	// weight is what a question adds to its lot, and heaviest what a lot has at most, unless
	// its first question alone has more. nil: a lot is bounded by groupMax alone.
	weight   func(Q) int
	heaviest int

	mu      sync.Mutex
	waiting fairQueue[*question[Q, A]]
	running bool
	refused int64
}

// question is one call, and once done is closed its answer.
type question[Q, A any] struct {
	ctx    context.Context
	q      Q
	done   chan struct{}
	answer A
	err    error
	alone  bool
}

const (
	// groupMax bounds what goes together.
	groupMax = 64
	// groupTimeout bounds a call for several, whose callers have times of their own.
	groupTimeout = 15 * time.Second
)

// do asks q. alone is false where it went together with others: an error, or an
// answer that is left out, is then worth asking for again by oneself. Where too many wait,
// the error is errBacklog, at once.
//
// If ctx ends first, the call may still be made.
func (g *group[Q, A]) do(ctx context.Context, q Q) (answer A, alone bool, err error) {
	x := &question[Q, A]{ctx: ctx, q: q, done: make(chan struct{})}
	owner := ""
	if g.owner != nil {
		owner = g.owner(q)
	}
	g.mu.Lock()
	if refused, full := g.waiting.push(owner, x); full {
		g.refused++
		refused.alone, refused.err = true, errBacklog()
		close(refused.done)
	}
	if !g.running {
		g.running = true
		go g.run()
	}
	g.mu.Unlock()
	select {
	case <-x.done:
		return x.answer, x.alone, x.err
	case <-ctx.Done():
		g.mu.Lock()
		g.waiting.remove(owner, x)
		g.mu.Unlock()
		return answer, true, context.Cause(ctx)
	}
}

func (g *group[Q, A]) run() {
	for {
		xs := g.take()
		if len(xs) == 0 {
			return
		}
		g.ask(xs)
	}
}

// take takes the next lot, or notes that none waits.
func (g *group[Q, A]) take() (xs []*question[Q, A]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	weight := 0
	for len(xs) < groupMax {
		_, x, ok := g.waiting.pop(func(_ string, x *question[Q, A]) bool {
			return len(xs) == 0 || g.weight == nil || weight+g.weight(x.q) <= g.heaviest
		})
		if !ok {
			break
		}
		if x.ctx.Err() != nil { // its caller has gone
			continue
		}
		if g.weight != nil {
			weight += g.weight(x.q)
		}
		xs = append(xs, x)
	}
	g.running = len(xs) > 0
	return xs
}

func (g *group[Q, A]) ask(xs []*question[Q, A]) {
	ctx, cancel := xs[0].ctx, context.CancelFunc(func() {})
	if len(xs) > 1 {
		ctx, cancel = context.WithTimeout(context.Background(), groupTimeout)
	}
	defer cancel()
	qs := make([]Q, len(xs))
	for i, x := range xs {
		qs[i] = x.q
	}
	answers, err := g.call(ctx, qs)
	for i, x := range xs {
		x.err, x.alone = err, len(xs) == 1
		if err == nil {
			x.answer = answers[i]
		}
		close(x.done)
	}
}

// count tells how many wait, and how many have been refused.
func (g *group[Q, A]) count() (waiting int, refused int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting.n, g.refused
}
