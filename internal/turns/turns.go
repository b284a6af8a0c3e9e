// Package turns lets one at a time in a process do what takes much memory, or a few what takes
// a processor.
package turns

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"
)

// Turns is what they wait for. Owners take turns, however many turns each of them waits for.
// The next turn goes to the owner
//
//  1. that has the fewest now, then
//  2. whose turns took the least time of late, in steps of a quarter of a second, so that one with
//     long turns does not delay one with short turns more than once, then
//  3. that did not have the last one, then
//  4. that has waited longest since its own last one.
//
// The zero value gives one turn at a time.
type Turns struct {
	// AtOnce is how many have a turn at the same time; 0 is one.
	AtOnce int
	// Now is the clock; nil is time.Now.
	Now func() time.Time

	mu      sync.Mutex
	running map[string]int
	given   int
	refused int64
	// spent is how long the turns of owners took of late.
	spent map[string]spent
	// last had the last turn.
	last string
	// owners wait, in the order in which they get a turn; each for those in waiting, the first
	// that came first.
	owners  []string
	waiting map[string][]*waitingTurn
}

// waitingTurn gets the time when its turn begins; ready holds one.
type waitingTurn struct{ ready chan time.Time }

// spent is a time, half of which is forgotten in halfLife.
type spent struct {
	time time.Duration
	at   time.Time
}

const (
	halfLife = 30 * time.Second
	// step is the least difference of times spent that counts.
	step = 250 * time.Millisecond
	// maxSpent is how many owners are remembered before those of less than a step are forgotten.
	maxSpent = 1000
)

func (s spent) left(now time.Time) time.Duration {
	return time.Duration(float64(s.time) * math.Exp2(-float64(now.Sub(s.at))/float64(halfLife)))
}

// ErrTooManyWaiting is the error of AcquireWithin if too many calls of its owner wait.
var ErrTooManyWaiting = errors.New("too many calls of this owner wait")

// Acquire waits for a turn; done ends it, once. It fails where ctx ends first.
func (t *Turns) Acquire(ctx context.Context, owner string) (done func(), err error) {
	return t.AcquireWithin(ctx, owner, math.MaxInt)
}

// AcquireWithin is Acquire, but it fails at once with ErrTooManyWaiting if maxWaiting calls of the
// owner wait already.
func (t *Turns) AcquireWithin(ctx context.Context, owner string, maxWaiting int) (done func(), err error) {
	var began time.Time // set when the turn is given, before done can be called
	done = sync.OnceFunc(func() { t.end(owner, began) })
	t.mu.Lock()
	if t.given < max(1, t.AtOnce) {
		began = t.give(owner)
		t.mu.Unlock()
		return done, nil
	}
	if len(t.waiting[owner]) >= maxWaiting {
		t.refused++
		t.mu.Unlock()
		return nil, ErrTooManyWaiting
	}
	w := &waitingTurn{ready: make(chan time.Time, 1)}
	t.add(owner, w)
	t.mu.Unlock()
	select {
	case began = <-w.ready:
		return done, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.take(owner, w) {
		t.refused++
		return nil, ctx.Err()
	}
	began = <-w.ready
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

// Refused counts the calls that failed, because too many waited or because their context ended.
func (t *Turns) Refused() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refused
}

func (t *Turns) now() time.Time {
	if t.Now != nil {
		return t.Now()
	}
	return time.Now()
}

// give notes a turn of an owner; t.mu is held.
func (t *Turns) give(owner string) (began time.Time) {
	if t.running == nil {
		t.running, t.spent = map[string]int{}, map[string]spent{}
	}
	t.given++
	t.running[owner]++
	t.last = owner
	return t.now()
}

// end ends a turn and gives it to who comes next.
func (t *Turns) end(owner string, began time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	t.given--
	if t.running[owner]--; t.running[owner] == 0 {
		delete(t.running, owner)
	}
	t.spent[owner] = spent{t.spent[owner].left(now) + now.Sub(began), now}
	if len(t.spent) > maxSpent {
		for o, s := range t.spent {
			if s.left(now) < step {
				delete(t.spent, o)
			}
		}
	}
	if len(t.owners) == 0 {
		return
	}
	next := slices.MinFunc(t.owners, func(a, b string) int { // the first of equal ones
		return cmp.Or(cmp.Compare(t.running[a], t.running[b]), cmp.Compare(t.spent[a].left(now)/step, t.spent[b].left(now)/step), t.wasLast(a)-t.wasLast(b))
	})
	w := t.waiting[next][0]
	t.take(next, w)
	if i := slices.Index(t.owners, next); i >= 0 { // its next comes after the others'
		t.owners = append(slices.Delete(t.owners, i, i+1), next)
	}
	w.ready <- t.give(next)
}

func (t *Turns) wasLast(owner string) int {
	if owner == t.last {
		return 1
	}
	return 0
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
