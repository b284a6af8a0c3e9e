package db

import (
	"context"
	"sync"
	"time"
)

// group has calls of one kind made together: those that come while one is under way
// wait for its end and go with the next, in one transaction. Under load a mail so
// costs a fraction of one; alone it waits for nobody.
type group[Q, A any] struct {
	// call answers every question at its place. For several it may leave an answer
	// out; see do.
	call func(ctx context.Context, qs []Q) ([]A, error)

	mu      sync.Mutex
	waiting []*question[Q, A]
	running bool
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
// answer that is left out, is then worth asking for again by oneself.
//
// If ctx ends first, the call may still be made.
func (g *group[Q, A]) do(ctx context.Context, q Q) (answer A, alone bool, err error) {
	x := &question[Q, A]{ctx: ctx, q: q, done: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, x)
	if !g.running {
		g.running = true
		go g.run()
	}
	g.mu.Unlock()
	select {
	case <-x.done:
		return x.answer, x.alone, x.err
	case <-ctx.Done():
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

// take takes who waits, or notes that nobody does.
func (g *group[Q, A]) take() (xs []*question[Q, A]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.waiting), groupMax)
	for _, x := range g.waiting[:n] {
		if x.ctx.Err() == nil {
			xs = append(xs, x)
		}
	}
	g.waiting = append([]*question[Q, A](nil), g.waiting[n:]...)
	if len(xs) == 0 && len(g.waiting) > 0 { // all of them had gone
		xs, g.waiting = g.waiting[:1:1], g.waiting[1:]
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
