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
	Draw(ctx context.Context, d delivery.Demand) (place delivery.Place, ok bool, err error)
}

const (
	// turnPatience is how long a session is held for a turn that is near. Mail that has to
	// wait longer gives the session back and keeps its turn.
	turnPatience = 2 * time.Second
	// turnKept is how late mail may come for its turn.
	turnKept = time.Minute
	// lotSpan bounds the places that a process draws at once, and so the burst
	// that can come of it.
	lotSpan = 100 * time.Millisecond
)

// meter keeps a relay's transactions one pace apart, over all processes.
type meter struct {
	relay  Relay
	ledger Ledger
	now    func() time.Time
	// Mail of a kind shares lots.
	transactional, broadcast, came *lot
}

// lot is what is left of the places that this process has drawn.
type lot struct {
	stream email.Stream
	came   bool
	// waiting is the number of callers that want a slot: so many are drawn at once.
	waiting atomic.Int64
	// mine is a mutex for the fields below. It is a channel, so that ctx can interrupt it.
	mine chan struct{}
	next time.Time
	left int
	// firm: they are places. Otherwise they are appointments.
	firm bool
}

func newMeter(relay Relay, opts Options) *meter {
	newLot := func(stream email.Stream, came bool) *lot {
		return &lot{stream: stream, came: came, mine: make(chan struct{}, 1)}
	}
	return &meter{
		relay: relay, ledger: opts.Ledger, now: opts.Now,
		transactional: newLot(email.StreamTransactional, false), broadcast: newLot(email.StreamBroadcast, false), came: newLot(email.StreamBroadcast, true),
	}
}

// await waits for a turn, or returns *delivery.Throttled with one that is further
// off than it makes sense to wait for here.
func (m *meter) await(ctx context.Context, route delivery.Route) error {
	if m.relay.Pace == 0 {
		return nil
	}
	at, firm, err := m.turn(ctx, route)
	if err != nil {
		return err
	}
	wait := at.Sub(m.now())
	if firm && wait <= 0 {
		return nil
	}
	if !firm || wait > turnPatience {
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

// turn finds when the next transaction of the mail with that turn may begin. A firm time is
// reserved. Otherwise, for broadcast mail, it is when to ask again.
func (m *meter) turn(ctx context.Context, route delivery.Route) (at time.Time, firm bool, err error) {
	turn, l := route.Turn, m.transactional
	broadcast := route.Stream == email.StreamBroadcast
	if broadcast {
		l = m.broadcast
	}
	sooner := time.Duration(0)
	if turn.Relay == m.relay.Name {
		switch late := m.now().Sub(turn.At); {
		case late < -turnPatience: // the queue may move faster than it did
			sooner = -late
		case broadcast:
			l = m.came
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
	if l.left == 0 || m.now().Sub(l.next) > lotSpan {
		n := max(min(l.waiting.Load(), int64(lotSpan/m.relay.Pace)), 1)
		place, ok, err := m.ledger.Draw(ctx, delivery.Demand{
			Queue: string(email.RelayRate(m.relay.Name)), N: int(n), Pace: m.relay.Pace, Stream: l.stream, Came: l.came, Sooner: sooner,
		})
		if err != nil {
			return time.Time{}, false, fmt.Errorf("draw from the rate of relay %s: %w", m.relay.Name, err)
		}
		if !ok {
			l.left = 0
			return turn.At, !broadcast, nil
		}
		l.next, l.left, l.firm = m.now().Add(place.Wait), int(n), place.Firm
	}
	at = l.next
	l.next, l.left = at.Add(m.relay.Pace), l.left-1
	return at, l.firm, nil
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
