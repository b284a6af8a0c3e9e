package db

import (
	"context"
	"sync"
)

// slots bounds how many transactions of one kind run at once, so that they leave
// connections of the pool to others. Owners take turns. An owner may have as many slots as
// are free afterwards, and one in any case: one alone has half of them.
type slots struct {
	n int

	mu      sync.Mutex
	used    int
	of      map[string]int
	waiting fairQueue[chan error]
	refused int64
}

func newSlots(n int, most backlogMax) *slots {
	return &slots{n: n, of: map[string]int{}, waiting: fairQueue[chan error]{max: most}}
}

// acquire waits for a slot; release gives it back, once. It fails where ctx ends first, and
// at once with errBacklog where too many wait.
func (s *slots) acquire(ctx context.Context, owner string) (release func(), err error) {
	release = sync.OnceFunc(func() { s.release(owner) })
	s.mu.Lock()
	ready := make(chan error, 1)
	if refused, full := s.waiting.push(owner, ready); full {
		s.refused++
		refused <- errBacklog()
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
	left := s.waiting.remove(owner, ready)
	s.mu.Unlock()
	if !left && <-ready == nil { // it was given while ctx ended
		release()
	}
	return nil, context.Cause(ctx)
}

// fill gives out the slots that are free.
func (s *slots) fill() {
	for s.used < s.n {
		owner, ready, ok := s.waiting.pop(func(owner string, _ chan error) bool { return s.of[owner] < max(1, s.n-s.used-1) })
		if !ok {
			return
		}
		s.used++
		s.of[owner]++
		ready <- nil
	}
}

func (s *slots) release(owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	if s.of[owner]--; s.of[owner] == 0 {
		delete(s.of, owner)
	}
	s.fill()
}

// count tells how many wait, and how many have been refused.
func (s *slots) count() (waiting int, refused int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting.n, s.refused
}
