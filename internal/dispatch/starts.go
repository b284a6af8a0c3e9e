package dispatch

import (
	"context"
	"sync"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/fairqueue"
)

const (
	// starters is how many starts are under way at once, at most: a start waits for
	// Temporal for 5-10 ms.
	starters = 16
	// urgentStarters start only transactional mail, and are more: it does not wait for starts of
	// broadcast mail that take long.
	urgentStarters = 4
	// maxQueued bounds the starts of a stream that wait in memory, apart from the lots of sweeps.
	// A full queue leaves out the newest start of the customer that has most: the lease of its
	// outbox row runs out, and a sweep starts it.
	maxQueued = 1024
	// lotMax bounds what a sweep claims at once. The next lot has one start of each customer that
	// waits, or with more customers than that, of a part of them drawn by lot. Mail that is accepted
	// meanwhile waits for the end of this one.
	lotMax = 32
)

// streams are all streams, the most urgent first.
var streams = [...]email.Stream{email.StreamTransactional, email.StreamBroadcast}

// urgency is a stream's place in streams.
func urgency(s email.Stream) int {
	if s == email.StreamBroadcast {
		return 1
	}
	return 0
}

// queuedStart is a start that waits. lot is nil for one that this process has accepted.
type queuedStart struct {
	delivery.Start
	lot *lot
}

// lot is what a claim of a sweep got.
type lot struct {
	starts []*queuedStart
	// left are those that wait or are under way.
	left int
	// abandoned: the rest was left out, because Temporal is away.
	abandoned bool
	// ended is closed when none is left.
	ended chan struct{}
}

// startQueue holds the runs to start: transactional mail before broadcast mail, and within a
// stream round robin by customer.
type startQueue struct {
	mu      sync.Mutex
	waiting [len(streams)]fairqueue.Queue[*queuedStart]
	// queued are those that wait or are under way, by workflow id.
	queued map[string]*queuedStart
	// pushed is closed at the next push; nil while no starter waits.
	pushed chan struct{}
}

func newStartQueue() *startQueue {
	q := &startQueue{queued: map[string]*queuedStart{}}
	for i := range q.waiting {
		q.waiting[i].Max.All = maxQueued
	}
	return q
}

// push adds a start, unless its run is to be started already.
func (q *startQueue) push(s delivery.Start) {
	q.mu.Lock()
	defer q.mu.Unlock()
	queued := &queuedStart{Start: s}
	if !q.note(queued) {
		return
	}
	if refused, full := q.waiting[urgency(s.Stream)].Push(s.CustomerID, queued); full {
		q.end(refused)
	}
}

// pushLot adds what a sweep has claimed: at least one start.
func (q *startQueue) pushLot(starts []delivery.Start) *lot {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := &lot{left: len(starts), ended: make(chan struct{})}
	for _, s := range starts {
		l.starts = append(l.starts, &queuedStart{s, l})
	}
	for _, s := range l.starts {
		if q.note(s) {
			q.waiting[urgency(s.Stream)].Add(s.CustomerID, s)
		} else {
			l.end()
		}
	}
	return l
}

// note notes that a start waits, and reports whether it did not already.
func (q *startQueue) note(s *queuedStart) bool {
	if q.queued[s.WorkflowID] != nil {
		return false
	}
	q.queued[s.WorkflowID] = s
	if q.pushed != nil {
		close(q.pushed)
		q.pushed = nil
	}
	return true
}

// end takes out a start that has succeeded, failed or been left out.
func (q *startQueue) end(s *queuedStart) {
	delete(q.queued, s.WorkflowID)
	if s.lot != nil {
		s.lot.end()
	}
}

// end notes that one start of a lot is over.
func (l *lot) end() {
	if l.left--; l.left == 0 {
		close(l.ended)
	}
}

// done notes that a start is over. If Temporal is away, the rest of its lot is left out: sweeps start
// it when its lease runs out.
func (q *startQueue) done(s *queuedStart, away bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s.lot != nil && away {
		s.lot.abandoned = true
		for _, other := range s.lot.starts {
			if q.waiting[urgency(other.Stream)].Remove(other.CustomerID, other) { // it waits still
				q.end(other)
			}
		}
	}
	q.end(s)
}

// finish waits until a lot is over, and reports whether a sweep may go on with the next one.
func (q *startQueue) finish(ctx context.Context, l *lot) bool {
	select {
	case <-l.ended:
		return !l.abandoned
	case <-ctx.Done():
		return false
	}
}

// wait waits for one of the first n streams, and reports whether there is one: ctx has not ended.
func (q *startQueue) wait(ctx context.Context, n int) bool {
	for {
		q.mu.Lock()
		for i := range q.waiting[:n] {
			if q.waiting[i].Len() > 0 {
				q.mu.Unlock()
				return ctx.Err() == nil
			}
		}
		if q.pushed == nil {
			q.pushed = make(chan struct{})
		}
		pushed := q.pushed
		q.mu.Unlock()
		select {
		case <-pushed:
		case <-ctx.Done():
			return false
		}
	}
}

// pop takes the next start of the first n streams.
func (q *startQueue) pop(n int) (*queuedStart, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.waiting[:n] {
		if _, s, ok := q.waiting[i].Pop(nil); ok {
			return s, true
		}
	}
	return nil, false
}

// startQueued starts what waits of the first n streams, one after the other, until ctx ends. It
// takes the next start when there is a free slot and a place in the pace: a start that comes
// meanwhile can be first.
func (d *Dispatcher) startQueued(ctx context.Context, n int, p *pace) {
	for d.queue.wait(ctx, n) {
		if await := d.awaitSlots.Load(); await != nil {
			(*await)(ctx, streams[n-1])
		}
		if !p.begin(ctx) {
			return
		}
		if s, ok := d.queue.pop(n); ok {
			began := time.Now()
			ok := d.start(ctx, s.Start)
			p.note(began, ok)
			d.queue.done(s, !ok && d.away())
		}
		p.leave()
	}
}

// sweepStarts starts what waits of a kind, one lot after the other, until none waits or
// Temporal is away.
func (d *Dispatcher) sweepStarts(ctx context.Context, kind delivery.StartKind) error {
	claim := d.outbox.ClaimStarts
	if kind.Batches {
		claim = d.outbox.ClaimBatches
	}
	for ctx.Err() == nil {
		c := delivery.Claim{Stream: kind.Stream, Owner: d.owner, Lease: sweepLease, Limit: lotMax}
		if await := d.awaitSlots.Load(); await == nil {
			c.Waited = leaveFor
		} else if !(*await)(ctx, kind.Stream) {
			continue // others may have free slots
		} else {
			c.Begins = true
		}
		starts, err := claim(ctx, c)
		if len(starts) == 0 || !d.queue.finish(ctx, d.queue.pushLot(starts)) {
			return err
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// leaveToOthers leaves what was just announced to processes whose starts are eager, unless this one's
// are.
func (d *Dispatcher) leaveToOthers(ctx context.Context) {
	if d.awaitSlots.Load() != nil {
		return
	}
	select {
	case <-time.After(leaveFor):
	case <-ctx.Done():
	}
}

// hear has what other processes announce claimed.
func (d *Dispatcher) hear(ctx context.Context) error {
	return d.outbox.HearStarts(ctx, func(kind delivery.StartKind) { signal(d.heard[kind]) })
}

// announceEvery is the least time between two announcements of a kind.
const announceEvery = 5 * time.Millisecond

// announceAll announces what this process accepts of a kind, until ctx ends. An announcement that is
// lost costs the time until a sweep.
func (d *Dispatcher) announceAll(ctx context.Context, kind delivery.StartKind, accepted <-chan struct{}) {
	warning := warning{log: d.log, what: "dispatch.announce"}
	for {
		select {
		case <-accepted:
		case <-ctx.Done():
			return
		}
		warning.note(ctx, d.outbox.AnnounceStarts(ctx, kind))
		select {
		case <-time.After(announceEvery):
		case <-ctx.Done():
			return
		}
	}
}
