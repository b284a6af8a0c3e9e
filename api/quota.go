package api

import (
	"context"
	"errors"
	"sync"
)

// quota is an amount, such as bytes, that owners share. An owner may hold at most as much as is
// free afterwards: a single owner half of the total, two owners a third each. So there is always
// some left for the next owner. A single call acquires a third of the total at most, so that two
// owners can have that much.
type quota struct {
	total int64

	mu      sync.Mutex
	used    int64
	of      map[string]int64 // used, by owner
	waiting []*quotaWaiter
}

// quotaWaiter is a call of acquire that waits. ready is closed when it has acquired n.
type quotaWaiter struct {
	owner string
	n     int64
	ready chan struct{}
}

func newQuota(total int64) *quota { return &quota{total: total, of: map[string]int64{}} }

// errTooManyWait is the error of acquire if maxWaitingQuota calls of its owner wait.
var errTooManyWait = errors.New("too many calls of this owner wait")

// waitingOf is how many calls of an owner wait. The caller holds q.mu.
func (q *quota) waitingOf(owner string) (n int) {
	for _, w := range q.waiting {
		if w.owner == owner {
			n++
		}
	}
	return n
}

// acquire waits until owner may hold n more, and returns the amount that it acquired: n, or
// maxCharge if that is less. It returns an error if ctx ends first, and at once if
// maxWaitingQuota calls of the owner wait already.
func (q *quota) acquire(ctx context.Context, owner string, n int64) (int64, error) {
	n = min(n, q.maxCharge())
	q.mu.Lock()
	if q.fits(owner, n) {
		q.take(owner, n)
		q.mu.Unlock()
		return n, nil
	}
	if q.waitingOf(owner) >= maxWaitingQuota {
		q.mu.Unlock()
		return 0, errTooManyWait
	}
	w := &quotaWaiter{owner: owner, n: n, ready: make(chan struct{})}
	q.waiting = append(q.waiting, w)
	q.mu.Unlock()
	select {
	case <-w.ready:
		return n, nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.waiting {
		if q.waiting[i] == w {
			q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
			return 0, ctx.Err()
		}
	}
	return n, nil // acquired while ctx ended
}

// tryAcquire acquires n if owner may hold it now, and reports whether it did.
func (q *quota) tryAcquire(owner string, n int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.fits(owner, n) {
		return false
	}
	q.take(owner, n)
	return true
}

// maxCharge is the largest amount that a call of acquire acquires.
func (q *quota) maxCharge() int64 { return q.total / 3 }

// fits reports whether owner may hold n more. The caller holds q.mu.
func (q *quota) fits(owner string, n int64) bool { return q.of[owner]+n <= q.total-q.used-n }

// take adds n to what owner holds. The caller holds q.mu.
func (q *quota) take(owner string, n int64) {
	q.used += n
	q.of[owner] += n
}

// release returns n of what owner holds. Waiting calls that fit now acquire it, oldest first.
func (q *quota) release(owner string, n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used -= n
	if q.of[owner] -= n; q.of[owner] == 0 {
		delete(q.of, owner)
	}
	left := q.waiting[:0]
	for _, w := range q.waiting {
		if q.fits(w.owner, w.n) {
			q.take(w.owner, w.n)
			close(w.ready)
			continue
		}
		left = append(left, w)
	}
	clear(q.waiting[len(left):])
	q.waiting = left
}
