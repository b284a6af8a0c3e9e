package api

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/httpserver"
)

// A hash takes 64 MiB and about 0.15 s of two cores.
const (
	defaultHashesAtOnce = 2
	// hashesWaiting is the most requests that wait. When there are more, one is refused.
	hashesWaiting = 64
	// hashPatience is the default of Options.HashPatience.
	hashPatience = 10 * time.Second
	// maxRemembered limits the remembered logins, and the remembered counts of failures.
	maxRemembered = 10_000
	// failureKept is how long wrong passwords count, since the last one.
	failureKept = 10 * time.Minute
)

var errHashing = email.Fail(email.CodeUnavailable, "too many passwords are being checked; try again in a few seconds")

// hashQueue is a priority queue of requests that hash passwords. Clients that flood it wait longer
// than others, and so do logins of a name that is guessed at. The order is:
//
//  1. the request whose name and site (see tries) have the fewest tries without success in the last
//     ten minutes;
//  2. the request with the fewest others of its name or network in the queue;
//  3. a login that has succeeded from its network before;
//  4. the newest request.
//
// A login that has succeeded from its network before counts its own tries only, not those of its
// name elsewhere, and not refused ones. When the queue is full, it refuses the last request in this
// order.
//
// A site is first in the order once: its next tries come after a first login, and a refused try
// counts too. The newest request goes first. So a first login does not wait for a burst of guesses
// before it, even if each has another site and another name.
type hashQueue struct {
	atOnce   int // most concurrent hashes
	mu       sync.Mutex
	running  int
	arrivals int
	waiting  []*hashRequest
	// known has the pairs of name and network whose logins succeeded.
	known map[[32]byte]bool
	// tries counts the requests without success by site, by name, and by pair of name and network.
	// The site of an IPv6 network is its /48, because one host may have all its networks.
	tries    map[[32]byte]failures
	patience time.Duration
	now      func() time.Time
}

// failures counts tries without success.
type failures struct {
	n    int
	last time.Time
}

// hashRequest is a request in the queue.
type hashRequest struct {
	name, network string
	// tries is how many there were before, of its site or its name if those are more; of the pair if
	// the pair is known.
	tries   int
	known   bool
	arrival int
	// started receives nil when the request may hash, or the error that refuses it. Its buffer is
	// one.
	started chan error
}

func newHashQueue(patience time.Duration, atOnce int, now func() time.Time) *hashQueue {
	return &hashQueue{atOnce: cmp.Or(atOnce, defaultHashesAtOnce), known: map[[32]byte]bool{}, tries: map[[32]byte]failures{}, patience: patience, now: now}
}

// enter waits until a request may hash. The caller calls leave if the error is nil. Otherwise the
// error is errHashing or that of ctx.
func (q *hashQueue) enter(ctx context.Context, name, network string) error {
	t := q.enqueue(name, network)
	timer := time.NewTimer(q.patience)
	defer timer.Stop()
	var err error
	select {
	case err := <-t.started:
		return err
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = errHashing
	}
	q.mu.Lock()
	i := slices.Index(q.waiting, t)
	if i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
		if errors.Is(err, errHashing) {
			q.refused(t)
		}
	}
	q.mu.Unlock()
	if i < 0 && <-t.started == nil { // it was started at the same time, and does not hash
		q.leave()
	}
	return err
}

// enqueue adds a request. It starts it if fewer than atOnce are running.
func (q *hashQueue) enqueue(name, network string) *hashRequest {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.arrivals++
	t := &hashRequest{name: name, network: network, known: q.known[guessKey(name, network)], arrival: q.arrivals, started: make(chan error, 1)}
	pair, ofName, ofSite := tryKeys(name, network)
	if t.tries = max(q.triesOf(ofName), q.triesOf(ofSite)); t.known {
		t.tries = q.triesOf(pair)
	}
	for _, key := range [][32]byte{pair, ofName, ofSite} {
		q.tried(key, 1)
	}
	if q.running < q.atOnce {
		q.running++
		t.started <- nil
		return t
	}
	q.waiting = append(q.waiting, t)
	if len(q.waiting) > hashesWaiting {
		last := q.take(slices.MaxFunc(q.waiting, q.order))
		q.refused(last)
		last.started <- errHashing
	}
	return t
}

// refused no longer counts a refused request as a try of its pair, if the pair is known: the user
// did nothing wrong, and a next login would come after all first ones. The caller holds q.mu.
func (q *hashQueue) refused(t *hashRequest) {
	if t.known {
		q.tried(guessKey(t.name, t.network), -1)
	}
}

// leave ends a hash and starts the first waiting request.
func (q *hashQueue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.running--
		return
	}
	q.take(slices.MinFunc(q.waiting, q.order)).started <- nil
}

// take removes a request from waiting and returns it.
func (q *hashQueue) take(t *hashRequest) *hashRequest {
	i := slices.Index(q.waiting, t)
	q.waiting = slices.Delete(q.waiting, i, i+1)
	return t
}

// order compares two requests: it is negative if a goes first.
func (q *hashQueue) order(a, b *hashRequest) int {
	known := map[bool]int{true: 0, false: 1}
	return cmp.Or(cmp.Compare(a.tries, b.tries), cmp.Compare(q.sameOrigin(a), q.sameOrigin(b)), cmp.Compare(known[a.known], known[b.known]), cmp.Compare(b.arrival, a.arrival))
}

// tryKeys returns the keys in tries of a request.
func tryKeys(name, network string) (pair, ofName, ofSite [32]byte) {
	return guessKey(name, network), guessKey(name, "name"), guessKey("", httpserver.NetworkSite(network))
}

// triesOf returns how many tries a key has.
func (q *hashQueue) triesOf(key [32]byte) int {
	f := q.tries[key]
	if q.now().Sub(f.last) >= failureKept {
		return 0
	}
	return f.n
}

// tried adds n to the tries of a key.
func (q *hashQueue) tried(key [32]byte, n int) {
	if _, is := q.tries[key]; !is {
		if n < 0 {
			return
		}
		evictOne(q.tries)
	}
	q.tries[key] = failures{max(0, q.triesOf(key)+n), q.now()}
}

// sameOrigin returns how many requests wait with the same name, or from the same network if those
// are more. For a known login it counts only known ones with the same name.
func (q *hashQueue) sameOrigin(t *hashRequest) int {
	names, networks, known := 0, 0, 0
	for _, w := range q.waiting {
		if w.name == t.name {
			names++
		}
		if w.network == t.network {
			networks++
		}
		if w.name == t.name && w.known {
			known++
		}
	}
	if t.known {
		return known
	}
	return max(names, networks)
}

// knows reports whether a login of the name from the network has succeeded.
func (q *hashQueue) knows(name, network string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.known[guessKey(name, network)]
}

// succeeded records a successful login. Its try no longer counts.
func (q *hashQueue) succeeded(name, network string) {
	q.mu.Lock()
	evictOne(q.known)
	q.known[guessKey(name, network)] = true
	q.mu.Unlock()
	q.uncount(name, network)
}

// uncount no longer counts a request as a try.
func (q *hashQueue) uncount(name, network string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	pair, ofName, ofSite := tryKeys(name, network)
	for _, key := range [][32]byte{pair, ofName, ofSite} {
		q.tried(key, -1)
	}
}

// evictOne removes an arbitrary entry if the map is full. The login of the entry only loses its
// priority in the queue.
func evictOne[V any](logins map[[32]byte]V) {
	if len(logins) < maxRemembered {
		return
	}
	for key := range logins {
		delete(logins, key)
		return
	}
}
