package api

import (
	"context"
	"slices"
	"sync"
)

// alone lets one request at a time do what takes more memory than an owner's share, from
// when it is decoded or read until its answer is made. Owners take turns: of those who
// wait, one that did not have the last turn goes first.
type alone struct {
	mu      sync.Mutex
	busy    bool
	last    string
	waiting []*waitingTurn
}

type waitingTurn struct {
	owner string
	ready chan struct{}
}

// acquire waits for a turn; done ends it, once. It fails where ctx ends first.
func (a *alone) acquire(ctx context.Context, owner string) (done func(), err error) {
	done = sync.OnceFunc(a.next)
	a.mu.Lock()
	if !a.busy {
		a.busy, a.last = true, owner
		a.mu.Unlock()
		return done, nil
	}
	w := &waitingTurn{owner: owner, ready: make(chan struct{})}
	a.waiting = append(a.waiting, w)
	a.mu.Unlock()
	select {
	case <-w.ready:
		return done, nil
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := slices.Index(a.waiting, w); i >= 0 {
		a.waiting = slices.Delete(a.waiting, i, i+1)
		return nil, ctx.Err()
	}
	return done, nil // it was given while ctx ended
}

// next ends a turn and gives it to who waits.
func (a *alone) next() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) == 0 {
		a.busy = false
		return
	}
	i := max(0, slices.IndexFunc(a.waiting, func(w *waitingTurn) bool { return w.owner != a.last }))
	w := a.waiting[i]
	a.waiting = slices.Delete(a.waiting, i, i+1)
	a.last = w.owner
	close(w.ready)
}
