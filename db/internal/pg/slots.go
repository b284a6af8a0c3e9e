package pg

import (
	"context"
	"sync"

	"github.com/postrider/postrider/internal/fairqueue"
)

// Slots bounds how many transactions of one kind run at once, so that they leave
// connections of the pool to others. Owners take turns. An owner may have as many slots as
// are free afterwards, and one in any case: one alone has half of them.
type Slots struct {
	n int

	mu      sync.Mutex
	used    int
	of      map[string]int
	refuse  func() error
	waiting fairqueue.Queue[chan error]
	refused int64
}

// NewSlots returns n free slots. most bounds the callers that wait for one.
func NewSlots(n int, most Backlog) *Slots {
	return &Slots{n: n, of: map[string]int{}, refuse: most.Refuse, waiting: fairqueue.Queue[chan error]{Max: most.Max}}
}

// Acquire waits for a slot; release returns it, and may be called twice. It fails with the cause
// of ctx, translated, if that ends first, and at once with the error of Backlog.Refuse if too many wait.
func (s *Slots) Acquire(ctx context.Context, owner string) (release func(), err error) {
	release = sync.OnceFunc(func() { s.release(owner) })
	s.mu.Lock()
	ready := make(chan error, 1)
	if refused, full := s.waiting.Push(owner, ready); full {
		s.refused++
		refused <- s.refuse()
	}
	s.fill()
	s.mu.Unlock()
	select {
	case err := <-ready:
		if err != nil {
			return nil, err
		}
		return release, nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	left := s.waiting.Remove(owner, ready)
	s.mu.Unlock()
	if !left && <-ready == nil { // it was given while ctx ended
		release()
	}
	return nil, Translate(context.Cause(ctx))
}

// fill gives out the slots that are free.
func (s *Slots) fill() {
	for s.used < s.n {
		owner, ready, ok := s.waiting.Pop(func(owner string, _ chan error) bool { return s.of[owner] < max(1, s.n-s.used-1) })
		if !ok {
			return
		}
		s.used++
		s.of[owner]++
		ready <- nil
	}
}

func (s *Slots) release(owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	if s.of[owner]--; s.of[owner] == 0 {
		delete(s.of, owner)
	}
	s.fill()
}

// Count returns how many callers wait, and how many were refused since the process began.
func (s *Slots) Count() (waiting int, refused int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting.Len(), s.refused
}
