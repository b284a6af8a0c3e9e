// Package membudget bounds an amount that all work of a process shares: bytes of memory, or
// connections. Owners take turns: one owner's waiting calls do not delay another's.
package membudget

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// ErrTooManyWaiting is the error of Acquire if MaxWaiting calls of its owner wait already.
var ErrTooManyWaiting = errors.New("too many calls of this owner wait")

// Options of a Budget.
type Options struct {
	// Total is the amount that all owners may hold together.
	Total int64
	// Shared leaves some of Total for the next owner: an owner may hold at most as much as is
	// free afterwards. A single owner has half of Total, two owners have a third each. One call
	// then acquires a third of Total at most, so that two owners can have that much. Without
	// Shared an owner may hold all of Total.
	Shared bool
	// MaxWaiting bounds the calls of an owner that wait; 0 is no bound.
	MaxWaiting int
}

// Budget is the amount. Waiting calls acquire it in this order:
//
//  1. A call that maxPassed others have overtaken. Nothing else is given until it fits, so that
//     a large call waits for a bounded number of small ones.
//  2. The owner that holds least, then the one that has waited longest since its last call.
//  3. The calls of one owner in the order in which they came. A call that does not fit is
//     passed over.
type Budget struct {
	opts Options

	mu   sync.Mutex
	used int64
	held map[string]int64 // used, by owner
	// owners have waiting calls; the one that acquired last comes last.
	owners  []*owner
	waiting int
	refused int64
}

// owner is an owner with waiting calls, the oldest first. There is at least one.
type owner struct {
	name  string
	calls []*call
}

// call is a call of Acquire that waits. ready is closed when it has acquired n.
type call struct {
	n     int64
	ready chan struct{}
	// passed counts the calls that have overtaken this one since it is its owner's first.
	passed int
}

// maxPassed is how many calls may overtake a waiting one.
const maxPassed = 100

// New returns a Budget of which nothing is held.
func New(opts Options) *Budget { return &Budget{opts: opts, held: map[string]int64{}} }

// MaxCharge is the largest amount that one call of Acquire acquires.
func (b *Budget) MaxCharge() int64 {
	if b.opts.Shared {
		return b.opts.Total / 3
	}
	return b.opts.Total
}

// Acquire waits until owner may hold n more. It returns the amount that it acquired: n, or
// MaxCharge if that is less. The caller releases that amount. Acquire fails with the error of ctx if
// ctx ends first, and at once with ErrTooManyWaiting.
func (b *Budget) Acquire(ctx context.Context, owner string, n int64) (int64, error) {
	n = min(n, b.MaxCharge())
	b.mu.Lock()
	if b.waiting == 0 && b.fits(owner, n) {
		b.take(owner, n)
		b.mu.Unlock()
		return n, nil
	}
	c := &call{n: n, ready: make(chan struct{})}
	b.push(owner, c)
	b.fill()
	select {
	case <-c.ready:
		b.mu.Unlock()
		return n, nil
	default:
	}
	if b.opts.MaxWaiting > 0 && b.waitingOf(owner) > b.opts.MaxWaiting {
		b.remove(owner, c)
		b.refused++
		b.mu.Unlock()
		return 0, ErrTooManyWaiting
	}
	b.mu.Unlock()
	select {
	case <-c.ready:
		return n, nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.remove(owner, c) {
		return n, nil // it was acquired while ctx ended
	}
	b.refused++
	b.fill() // others may have waited for this call to fit
	return 0, context.Cause(ctx)
}

// TryAcquire acquires n if owner may hold it now and no call waits, and reports whether it did.
func (b *Budget) TryAcquire(owner string, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting > 0 || !b.fits(owner, n) {
		return false
	}
	b.take(owner, n)
	return true
}

// Release returns n of what owner holds. Waiting calls acquire it.
func (b *Budget) Release(owner string, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.held[owner] -= n; b.held[owner] == 0 {
		delete(b.held, owner)
	}
	b.fill()
}

// State is what a Budget shows to operators.
type State struct {
	Total, Used int64
	// Waiting is how many calls wait. Refused counts the calls that failed, because too many
	// waited or because their context ended.
	Waiting int
	Refused int64
}

// State returns the present state.
func (b *Budget) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return State{Total: b.opts.Total, Used: b.used, Waiting: b.waiting, Refused: b.refused}
}

// fits reports whether owner may hold n more. The caller holds b.mu, as in all that follow.
func (b *Budget) fits(owner string, n int64) bool {
	free := b.opts.Total - b.used - n
	if b.opts.Shared {
		return b.held[owner]+n <= free
	}
	return free >= 0
}

// fitsAlone reports whether owner might hold n more if no other owner held anything.
func (b *Budget) fitsAlone(owner string, n int64) bool {
	held := b.held[owner]
	if b.opts.Shared {
		return held+n <= b.opts.Total-held-n
	}
	return held+n <= b.opts.Total
}

func (b *Budget) take(owner string, n int64) {
	b.used += n
	b.held[owner] += n
}

// fill gives waiting calls what is free.
func (b *Budget) fill() {
	for {
		o, c := b.next()
		if c == nil {
			return
		}
		for _, other := range b.owners {
			if first := other.calls[0]; other != o || first != c {
				first.passed++
			}
		}
		b.take(o.name, c.n)
		b.remove(o.name, c)
		if i := slices.Index(b.owners, o); i >= 0 { // its next call comes after the others'
			b.owners = append(slices.Delete(b.owners, i, i+1), o)
		}
		close(c.ready)
	}
}

// next returns the call that acquires next; nil is none.
func (b *Budget) next() (of *owner, c *call) {
	for _, o := range b.owners {
		first := o.calls[0]
		if first.passed >= maxPassed && (c == nil || first.passed > c.passed) && b.fitsAlone(o.name, first.n) {
			of, c = o, first
		}
	}
	if c != nil {
		if !b.fits(of.name, c.n) {
			return nil, nil
		}
		return of, c
	}
	for _, o := range b.owners {
		if of != nil && b.held[o.name] >= b.held[of.name] {
			continue
		}
		if i := slices.IndexFunc(o.calls, func(c *call) bool { return b.fits(o.name, c.n) }); i >= 0 {
			of, c = o, o.calls[i]
		}
	}
	return of, c
}

func (b *Budget) find(name string) *owner {
	if i := slices.IndexFunc(b.owners, func(o *owner) bool { return o.name == name }); i >= 0 {
		return b.owners[i]
	}
	return nil
}

func (b *Budget) waitingOf(name string) int {
	if o := b.find(name); o != nil {
		return len(o.calls)
	}
	return 0
}

func (b *Budget) push(name string, c *call) {
	o := b.find(name)
	if o == nil {
		o = &owner{name: name}
		b.owners = append(b.owners, o)
	}
	o.calls = append(o.calls, c)
	b.waiting++
}

// remove takes a call off the list, and reports whether it was there.
func (b *Budget) remove(name string, c *call) bool {
	o := b.find(name)
	if o == nil {
		return false
	}
	i := slices.Index(o.calls, c)
	if i < 0 {
		return false
	}
	b.waiting--
	if o.calls = slices.Delete(o.calls, i, i+1); len(o.calls) == 0 {
		b.owners = slices.DeleteFunc(b.owners, func(other *owner) bool { return other == o })
	}
	return true
}
