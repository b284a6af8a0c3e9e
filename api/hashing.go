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
	// maxKnown bounds how many logins are remembered, right ones and wrong ones.
	maxKnown = 10_000
	// failureKept is how long a wrong password counts in the queue.
	failureKept = 10 * time.Minute
)

var errHashing = email.Fail(email.CodeUnavailable, "too many passwords are being checked; try again in a few seconds")

// hashing is the queue in which passwords are hashed. Somebody who floods it waits longer
// than others: the network with the fewest wrong passwords in the last ten minutes goes first;
// among equals, whoever has the fewest requests in the queue, by name and by network; then who
// has logged in from there before, then who came first. Who would be last is sent away when it
// is full. So a network that has not guessed waits until each one that guesses has had one
// wrong password checked, at most.
type hashing struct {
	atOnce   int
	mu       sync.Mutex
	running  int
	arrivals int
	waiting  []*hashTurn
	// known are names and networks of logins that succeeded.
	known map[[32]byte]bool
	// wrong are the wrong passwords of networks, and of names from a network.
	wrong    map[[32]byte]failures
	patience time.Duration
	now      func() time.Time
}

type failures struct {
	n    int
	last time.Time
}

type hashTurn struct {
	name, network string
	// failed is where its wrong passwords are counted: a network's, or if the login is known
	// only those of its name from there.
	failed  [32]byte
	known   bool
	arrival int
	// begins gets nil when it is the turn's, or why it never is; it holds one.
	begins chan error
}

func newHashing(patience time.Duration, atOnce int, now func() time.Time) *hashing {
	return &hashing{atOnce: cmp.Or(atOnce, defaultHashesAtOnce), known: map[[32]byte]bool{}, wrong: map[[32]byte]failures{}, patience: patience, now: now}
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
	t := &hashTurn{name: name, network: network, failed: guessKey("", network), arrival: h.arrivals, begins: make(chan error, 1)}
	if pair := guessKey(name, network); h.known[pair] {
		t.known, t.failed = true, pair
	}
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
	return cmp.Or(cmp.Compare(h.failures(a), h.failures(b)), cmp.Compare(h.crowd(a), h.crowd(b)), cmp.Compare(known[a.known], known[b.known]), cmp.Compare(a.arrival, b.arrival))
}

// failures is how many wrong passwords count against a turn.
func (h *hashing) failures(t *hashTurn) int {
	f := h.wrong[t.failed]
	if h.now().Sub(f.last) >= failureKept {
		return 0
	}
	return f.n
}

// crowd is how many wait with the same name, or from the same network. For one who is known,
// only those count who are known with that name.
func (h *hashing) crowd(t *hashTurn) int {
	names, networks, known := 0, 0, 0
	for _, w := range h.waiting {
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
	forgetOne(h.known)
	h.known[guessKey(name, network)] = true
}

// failed remembers a wrong password.
func (h *hashing) failed(name, network string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, key := range [][32]byte{guessKey("", network), guessKey(name, network)} {
		f := h.wrong[key]
		if now := h.now(); now.Sub(f.last) < failureKept {
			f.n++
			f.last = now
		} else {
			forgetOne(h.wrong)
			f = failures{1, now}
		}
		h.wrong[key] = f
	}
}

// forgetOne makes room for another login to be remembered. Any one is forgotten: it costs a
// place in the queue, no more.
func forgetOne[V any](logins map[[32]byte]V) {
	if len(logins) < maxKnown {
		return
	}
	for key := range logins {
		delete(logins, key)
		return
	}
}
