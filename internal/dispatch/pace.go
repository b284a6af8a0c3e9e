package dispatch

import (
	"context"
	"sync"
	"time"
)

const (
	// After a start that took less than fastStart, more may be under way at once. After one of
	// slowStart or more, fewer may be: the server has too many to do.
	fastStart = 200 * time.Millisecond
	slowStart = 500 * time.Millisecond
	// paceCut is what is left of the limit after a slow start.
	paceCut = 0.75
)

// pace limits how many starts are under way at once, by how long they take: one more after each
// round of fast ones, and a quarter fewer after a slow one (additive increase, multiplicative
// decrease). So several processes share a server, and none of their starts runs into its time-out
// because there are too many.
type pace struct {
	mu sync.Mutex
	// limit is from 1 to most.
	limit, most float64
	under       int
	// cutAt is when the limit was last cut. A start that began before says nothing new.
	cutAt time.Time
	// freed is closed when a start may begin; nil while none waits.
	freed chan struct{}
}

func newPace(most int) *pace {
	return &pace{limit: float64(most), most: float64(most)}
}

// begin waits for a place, and reports whether it has one: ctx has not ended.
func (p *pace) begin(ctx context.Context) bool {
	for ctx.Err() == nil {
		p.mu.Lock()
		if p.under < int(p.limit) {
			p.under++
			p.mu.Unlock()
			return true
		}
		if p.freed == nil {
			p.freed = make(chan struct{})
		}
		freed := p.freed
		p.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
		}
	}
	return false
}

// leave gives a place back.
func (p *pace) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.under--
	if p.freed != nil {
		close(p.freed)
		p.freed = nil
	}
}

// note notes a start that began then and is over. A start without an answer is slow.
func (p *pace) note(began time.Time, answered bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch took := time.Since(began); {
	case answered && took < fastStart:
		if p.under >= int(p.limit) { // otherwise a higher limit would change nothing
			p.limit = min(p.most, p.limit+1/p.limit)
		}
	case (!answered || took >= slowStart) && began.After(p.cutAt):
		p.limit, p.cutAt = max(1, p.limit*paceCut), time.Now()
	}
}
