// Package turns lets one at a time in a process do what takes much memory.
package turns

import (
	"context"
	"slices"
	"sync"
)

// Turns is what they wait for. Owners take turns, however many turns each of them waits for:
// every owner that waits gets one before an owner gets its second.
type Turns struct {
	mu   sync.Mutex
	busy bool
	// last had the last turn.
	last string
	// owners wait, in the order in which they get a turn; each for those in waiting, the first
	// that came first.
	owners  []string
	waiting map[string][]*waitingTurn
}

type waitingTurn struct{ ready chan struct{} }

// Acquire waits for a turn; done ends it, once. It fails where ctx ends first.
func (t *Turns) Acquire(ctx context.Context, owner string) (done func(), err error) {
	done = sync.OnceFunc(t.next)
	t.mu.Lock()
	if !t.busy {
		t.busy, t.last = true, owner
		t.mu.Unlock()
		return done, nil
	}
	w := &waitingTurn{ready: make(chan struct{})}
	t.add(owner, w)
	t.mu.Unlock()
	select {
	case <-w.ready:
		return done, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.take(owner, w) {
		return nil, ctx.Err()
	}
	return done, nil // it was given while ctx ended
}

// Waiting is how many wait.
func (t *Turns) Waiting() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, of := range t.waiting {
		n += len(of)
	}
	return n
}

// next ends a turn and gives it to who waits.
func (t *Turns) next() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.owners) == 0 {
		t.busy = false
		return
	}
	i := max(0, slices.IndexFunc(t.owners, func(owner string) bool { return owner != t.last }))
	t.last = t.owners[i]
	w := t.waiting[t.last][0]
	t.take(t.last, w)
	if len(t.waiting[t.last]) > 0 { // its next comes after the others'
		t.owners = append(slices.Delete(t.owners, i, i+1), t.last)
	}
	close(w.ready)
}

func (t *Turns) add(owner string, w *waitingTurn) {
	if t.waiting == nil {
		t.waiting = map[string][]*waitingTurn{}
	}
	if len(t.waiting[owner]) == 0 {
		t.owners = append(t.owners, owner)
	}
	t.waiting[owner] = append(t.waiting[owner], w)
}

// take takes one off the list, and says whether it was there.
func (t *Turns) take(owner string, w *waitingTurn) bool {
	of := t.waiting[owner]
	i := slices.Index(of, w)
	if i < 0 {
		return false
	}
	if t.waiting[owner] = slices.Delete(of, i, i+1); len(of) == 1 {
		delete(t.waiting, owner)
		t.owners = slices.DeleteFunc(t.owners, func(o string) bool { return o == owner })
	}
	return true
}
