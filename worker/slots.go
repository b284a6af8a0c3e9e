package worker

import (
	"context"
	"sync"
	"time"

	"go.temporal.io/sdk/worker"

	"github.com/postrider/postrider/email"
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
	// freed has, by how many slots a starter waits for, what is closed when so many are free.
	freed map[int]chan struct{}
}

const (
	// freeForUrgent is how many slots have to be free for a start of transactional mail to go on: so
	// many starts of it may be under way at once.
	freeForUrgent = 4
	// freeForBroadcast is the same for broadcast mail: it is not started while it uses 60 slots, because
	// the mail of a customer waits for what is under way of another's. That takes a second where a
	// worker sends sixty mails a second. An attempt that takes longer than its inline time goes on as an
	// activity, and holds no slot.
	freeForBroadcast = slots - 60
	// startPatience is how long a start waits for slots.
	startPatience = time.Second
)

func newSlots(n int) *Slots {
	return &Slots{SlotSupplier: fixed(n), patience: startPatience, free: n, freed: map[int]chan struct{}{}}
}

// Await waits until enough slots are free for a start of a stream, and reports whether they are. It
// gives up after a second, or when ctx ends. Broadcast mail leaves some to transactional mail.
func (s *Slots) Await(ctx context.Context, stream email.Stream) bool {
	need := freeForUrgent
	if stream == email.StreamBroadcast {
		need = freeForBroadcast
	}
	s.mu.Lock()
	if s.free >= need {
		s.mu.Unlock()
		return true
	}
	if s.freed[need] == nil {
		s.freed[need] = make(chan struct{})
	}
	freed := s.freed[need]
	s.mu.Unlock()
	patience := time.NewTimer(s.patience)
	defer patience.Stop()
	select {
	case <-freed:
		return true
	case <-patience.C:
	case <-ctx.Done():
	}
	return false
}

func (s *Slots) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free += n
	for need, freed := range s.freed {
		if s.free >= need {
			close(freed)
			delete(s.freed, need)
		}
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
