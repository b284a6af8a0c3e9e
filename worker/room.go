package worker

import (
	"context"
	"sync"
	"time"

	"go.temporal.io/sdk/worker"
)

// Room is a worker's room for workflow tasks, for whoever starts runs with the same
// client: a start that finds none is not eager, and costs Temporal half as much again.
type Room struct {
	worker.SlotSupplier

	mu   sync.Mutex
	free int
	// freed is closed when there is room again; nil while nobody waits.
	freed chan struct{}
}

const (
	// roomFor is how many starts may be under way at once: so many slots have to be
	// free for the next one to find one.
	roomFor = 16
	// roomWait is how long a start waits. Another worker of the fleet may have room.
	roomWait = time.Second
)

func newRoom(n int) *Room {
	return &Room{SlotSupplier: fixed(n), free: n}
}

// Await returns when there is room, or nobody knows when there will be.
func (r *Room) Await(ctx context.Context) {
	r.mu.Lock()
	if r.free >= roomFor {
		r.mu.Unlock()
		return
	}
	if r.freed == nil {
		r.freed = make(chan struct{})
	}
	freed := r.freed
	r.mu.Unlock()
	patience := time.NewTimer(roomWait)
	defer patience.Stop()
	select {
	case <-freed:
	case <-patience.C:
	case <-ctx.Done():
	}
}

func (r *Room) count(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free += n
	if r.freed != nil && r.free >= roomFor {
		close(r.freed)
		r.freed = nil
	}
}

// ReserveSlot waits for a slot, for a poller.
func (r *Room) ReserveSlot(ctx context.Context, info worker.SlotReservationInfo) (*worker.SlotPermit, error) {
	p, err := r.SlotSupplier.ReserveSlot(ctx, info)
	if err == nil {
		r.count(-1)
	}
	return p, err
}

// TryReserveSlot takes a slot for an eager start, if there is one.
func (r *Room) TryReserveSlot(info worker.SlotReservationInfo) *worker.SlotPermit {
	p := r.SlotSupplier.TryReserveSlot(info)
	if p != nil {
		r.count(-1)
	}
	return p
}

// ReleaseSlot gives a slot back.
func (r *Room) ReleaseSlot(info worker.SlotReleaseInfo) {
	r.SlotSupplier.ReleaseSlot(info)
	r.count(1)
}
