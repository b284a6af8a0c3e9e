package api

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/email"
)

// Limits of hashing passwords. A hash takes 64 MiB and about 0.15 s of two cores.
const (
	defaultHashesAtOnce = 2
	// hashesWaiting are those behind them; past that one of them is sent away.
	hashesWaiting = 64
	// hashPatience is how long a request waits at most.
	hashPatience = 10 * time.Second
	// maxKnown bounds how many logins are remembered.
	maxKnown = 10_000
)

var errHashing = email.Fail(email.CodeUnavailable, "too many passwords are being checked; try again in a few seconds")

// hashing is the queue in which passwords are hashed. Somebody who floods it waits longer
// than others: whoever has the fewest requests in the queue, by name and by network, goes
// first; among equals, who has logged in from there before, then who came last: who came
// first in a flood has most likely gone. Who would be last is sent away when it is full.
type hashing struct {
	atOnce   int
	mu       sync.Mutex
	running  int
	arrivals int
	waiting  []*hashTurn
	// known are names and networks of logins that succeeded.
	known    map[[32]byte]bool
	patience time.Duration
}

type hashTurn struct {
	name, network string
	known         bool
	arrival       int
	// begins gets nil when it is the turn's, or why it never is; it holds one.
	begins chan error
}

func newHashing(patience time.Duration, atOnce int) *hashing {
	return &hashing{atOnce: cmp.Or(atOnce, defaultHashesAtOnce), known: map[[32]byte]bool{}, patience: patience}
}

// enter waits for the turn of a request. Whoever gets nil calls leave.
func (h *hashing) enter(ctx context.Context, name, network string) error {
	t := h.queue(name, network)
	timer := time.NewTimer(h.patience)
	defer timer.Stop()
	var err error
	select {
	case err := <-t.begins:
		return err
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = errHashing
	}
	h.mu.Lock()
	i := slices.Index(h.waiting, t)
	if i >= 0 {
		h.waiting = slices.Delete(h.waiting, i, i+1)
	}
	h.mu.Unlock()
	if i < 0 && <-t.begins == nil { // the turn came at the same time, and is not taken
		h.leave()
	}
	return err
}

func (h *hashing) queue(name, network string) *hashTurn {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.arrivals++
	t := &hashTurn{name: name, network: network, known: h.known[guessKey(name, network)], arrival: h.arrivals, begins: make(chan error, 1)}
	if h.running < h.atOnce {
		h.running++
		t.begins <- nil
		return t
	}
	h.waiting = append(h.waiting, t)
	if len(h.waiting) > hashesWaiting {
		h.take(slices.MaxFunc(h.waiting, h.order)).begins <- errHashing
	}
	return t
}

// leave gives the turn to the next.
func (h *hashing) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.waiting) == 0 {
		h.running--
		return
	}
	h.take(slices.MinFunc(h.waiting, h.order)).begins <- nil
}

func (h *hashing) take(t *hashTurn) *hashTurn {
	i := slices.Index(h.waiting, t)
	h.waiting = slices.Delete(h.waiting, i, i+1)
	return t
}

// order is which of two goes first.
func (h *hashing) order(a, b *hashTurn) int {
	known := map[bool]int{true: 0, false: 1}
	return cmp.Or(cmp.Compare(h.crowd(a), h.crowd(b)), cmp.Compare(known[a.known], known[b.known]), cmp.Compare(b.arrival, a.arrival))
}

// crowd is how many wait with the same name, or from the same network. What others send
// does not count against one who is known.
func (h *hashing) crowd(t *hashTurn) int {
	names, networks, both := 0, 0, 0
	for _, w := range h.waiting {
		if w.name == t.name {
			names++
		}
		if w.network == t.network {
			networks++
		}
		if w.name == t.name && w.network == t.network {
			both++
		}
	}
	if t.known {
		return both
	}
	return max(names, networks)
}

// knows says whether a login of that name from that network has succeeded.
func (h *hashing) knows(name, network string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.known[guessKey(name, network)]
}

// succeeded remembers a login.
func (h *hashing) succeeded(name, network string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.known) >= maxKnown {
		for key := range h.known { // any: it costs a place in the queue, no more
			delete(h.known, key)
			break
		}
	}
	h.known[guessKey(name, network)] = true
}
