package worker

import (
	"context"
	"sync"
	"time"

	"go.temporal.io/sdk/worker"
)

// Slots are a worker's slots for workflow tasks. A starter that uses the worker's client
// waits for them: a start that finds no free slot is not eager, and costs Temporal half as
// much again.
type Slots struct {
	worker.SlotSupplier
	// patience is how long Await waits. Another worker of the fleet may have free slots.
	patience time.Duration

	mu   sync.Mutex
	free int
	// freed is closed when enough slots are free; nil while no starter waits.
	freed chan struct{}
}

const (
	// freeForStarts is how many slots have to be free for a start to go on: so many
	// starts may be under way at once.
	freeForStarts = 16
	// startPatience is how long a start waits for slots.
	startPatience = time.Second
)

func newSlots(n int) *Slots {
	return &Slots{SlotSupplier: fixed(n), patience: startPatience, free: n}
}

// Await returns when enough slots are free, after a second without any, or when ctx ends.
func (s *Slots) Await(ctx context.Context) {
	s.mu.Lock()
	if s.free >= freeForStarts {
		s.mu.Unlock()
		return
	}
	if s.freed == nil {
		s.freed = make(chan struct{})
	}
	freed := s.freed
	s.mu.Unlock()
	patience := time.NewTimer(s.patience)
	defer patience.Stop()
	select {
	case <-freed:
	case <-patience.C:
	case <-ctx.Done():
	}
}

func (s *Slots) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free += n
	if s.freed != nil && s.free >= freeForStarts {
		close(s.freed)
		s.freed = nil
	}
}

// ReserveSlot waits for a slot, for a poller.
func (s *Slots) ReserveSlot(ctx context.Context, info worker.SlotReservationInfo) (*worker.SlotPermit, error) {
	p, err := s.SlotSupplier.ReserveSlot(ctx, info)
	if err == nil {
		s.count(-1)
	}
	return p, err
}

// TryReserveSlot takes a slot for an eager start, if one is free.
func (s *Slots) TryReserveSlot(info worker.SlotReservationInfo) *worker.SlotPermit {
	p := s.SlotSupplier.TryReserveSlot(info)
	if p != nil {
		s.count(-1)
	}
	return p
}

// ReleaseSlot gives a slot back.
func (s *Slots) ReleaseSlot(info worker.SlotReleaseInfo) {
	s.SlotSupplier.ReleaseSlot(info)
	s.count(1)
}
