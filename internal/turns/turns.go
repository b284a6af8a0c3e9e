// Package turns lets one at a time in a process do what takes much memory.
package turns

import (
	"context"
	"slices"
	"sync"
)

// Turns is what they wait for. Owners take turns: of those who wait, one that did not have
// the last turn goes first.
type Turns struct {
	mu      sync.Mutex
	busy    bool
	last    string
	waiting []*waitingTurn
}

type waitingTurn struct {
	owner string
	ready chan struct{}
}

// Acquire waits for a turn; done ends it, once. It fails where ctx ends first.
func (t *Turns) Acquire(ctx context.Context, owner string) (done func(), err error) {
	done = sync.OnceFunc(t.next)
	t.mu.Lock()
	if !t.busy {
		t.busy, t.last = true, owner
		t.mu.Unlock()
		return done, nil
	}
	w := &waitingTurn{owner: owner, ready: make(chan struct{})}
	t.waiting = append(t.waiting, w)
	t.mu.Unlock()
	select {
	case <-w.ready:
		return done, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.waiting, w); i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
		return nil, ctx.Err()
	}
	return done, nil // it was given while ctx ended
}

// Waiting is how many wait.
func (t *Turns) Waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting)
}

// next ends a turn and gives it to who waits.
func (t *Turns) next() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.busy = false
		return
	}
	i := max(0, slices.IndexFunc(t.waiting, func(w *waitingTurn) bool { return w.owner != t.last }))
	w := t.waiting[i]
	t.waiting = slices.Delete(t.waiting, i, i+1)
	t.last = w.owner
	close(w.ready)
}
