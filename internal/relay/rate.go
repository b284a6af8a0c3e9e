package relay

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// Ledger hands out the slots of a relay's rate, each once, to all processes.
type Ledger interface {
	// Draw takes slots. ok is false if there is none earlier than Demand.Sooner: then it has
	// taken none.
	Draw(ctx context.Context, d delivery.Demand) (slot delivery.Slot, ok bool, err error)
}

const (
	// turnKept is how late mail may come for its turn.
	turnKept = time.Minute
	// drawSpan bounds the slots that a process draws at once, and so the burst
	// that can come of it.
	drawSpan = 100 * time.Millisecond
)

// meter keeps a relay's transactions one pace apart, over all processes.
type meter struct {
	relay  Relay
	ledger Ledger
	now    func() time.Time
	// Mail of a kind shares drawn slots.
	transactional, broadcast, returning *drawnSlots
}

// drawnSlots is what is left of the slots that this process has drawn at once.
type drawnSlots struct {
	stream    email.Stream
	returning bool
	// waiting is the number of callers that want a slot: so many are drawn at once.
	waiting atomic.Int64
	// mine is a mutex for the fields below. It is a channel, so that ctx can interrupt it.
	mine chan struct{}
	next time.Time
	left int
	// reserved: the slots are held for this process. Otherwise they are estimates.
	reserved bool
}

func newMeter(relay Relay, opts Options) *meter {
	newDrawn := func(stream email.Stream, returning bool) *drawnSlots {
		return &drawnSlots{stream: stream, returning: returning, mine: make(chan struct{}, 1)}
	}
	return &meter{
		relay: relay, ledger: opts.Ledger, now: opts.Now,
		transactional: newDrawn(email.StreamTransactional, false), broadcast: newDrawn(email.StreamBroadcast, false), returning: newDrawn(email.StreamBroadcast, true),
	}
}

// await waits for a turn, or returns *delivery.Throttled with one that is further
// off than it makes sense to wait for here.
func (m *meter) await(ctx context.Context, route delivery.Route) error {
	if m.relay.Pace == 0 {
		return nil
	}
	at, reserved, err := m.turn(ctx, route)
	if err != nil {
		return err
	}
	wait := at.Sub(m.now())
	if reserved && wait <= 0 {
		return nil
	}
	if !reserved || wait > delivery.TurnPatience {
		return &delivery.Throttled{Turn: delivery.Turn{Relay: m.relay.Name, At: at.UTC()}}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// turn finds when the next transaction of the mail with that turn may begin. A reserved time
// is the slot's. Otherwise, for broadcast mail, it is when to ask again.
func (m *meter) turn(ctx context.Context, route delivery.Route) (at time.Time, reserved bool, err error) {
	turn, l := route.Turn, m.transactional
	broadcast := route.Stream == email.StreamBroadcast
	if broadcast {
		l = m.broadcast
	}
	sooner := time.Duration(0)
	if turn.Relay == m.relay.Name {
		switch late := m.now().Sub(turn.At); {
		case late < -delivery.TurnPatience: // the queue may move faster than it did
			sooner = -late
		case broadcast:
			l = m.returning
		case late < turnKept:
			return turn.At, true, nil
		}
		// It was not used in time, and the pace went on.
	}
	l.waiting.Add(1)
	defer l.waiting.Add(-1)
	select {
	case l.mine <- struct{}{}:
		defer func() { <-l.mine }()
	case <-ctx.Done():
		return time.Time{}, false, context.Cause(ctx)
	}
	if l.left == 0 || m.now().Sub(l.next) > drawSpan {
		n := max(min(l.waiting.Load(), int64(drawSpan/m.relay.Pace)), 1)
		slot, ok, err := m.ledger.Draw(ctx, delivery.Demand{
			Queue: string(email.RelayRate(m.relay.Name)), N: int(n), Pace: m.relay.Pace, Stream: l.stream, Returning: l.returning, Sooner: sooner,
		})
		if err != nil {
			return time.Time{}, false, fmt.Errorf("draw from the rate of relay %s: %w", m.relay.Name, err)
		}
		if !ok {
			l.left = 0
			return turn.At, !broadcast, nil
		}
		l.next, l.left, l.reserved = m.now().Add(slot.Wait), int(n), slot.Reserved
	}
	at = l.next
	l.next, l.left = at.Add(m.relay.Pace), l.left-1
	return at, l.reserved, nil
}

var ratePattern = regexp.MustCompile(`^([1-9][0-9]{0,5})/(s|m|h)$`)

// parseRate reads rate=: 50/s, 100/m, 1000/h.
func parseRate(v string) (time.Duration, error) {
	m := ratePattern.FindStringSubmatch(v)
	if m == nil {
		return 0, fmt.Errorf("%q is not a rate: write 50/s, 100/m or 1000/h", v)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return 0, err
	}
	return map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[m[2]] / time.Duration(n), nil
}
