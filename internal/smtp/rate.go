package smtp

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/email"
)

// Ledger hands out the places in a relay's queue, each once, to all processes.
type Ledger interface {
	// Draw takes the next n places, one pace apart, and tells how long it is until
	// the first. With within above 0 it takes none, and reports false, where the
	// first would not come sooner.
	Draw(ctx context.Context, name string, n int, pace, within time.Duration) (wait time.Duration, ok bool, err error)
}

const (
	// turnPatience is how long a session is held for a turn that is near. What
	// has to wait longer waits elsewhere, with a place in the queue.
	turnPatience = 2 * time.Second
	// turnKept is how late somebody may come for their turn.
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
	// waiting are those who want a place now: a lot is as large as that.
	waiting atomic.Int64
	// mine guards what is left of this process's lot.
	mine chan struct{}
	next time.Time
	left int
}

func newMeter(relay Relay, opts Options) *meter {
	return &meter{relay: relay, ledger: opts.Ledger, now: opts.Now, mine: make(chan struct{}, 1)}
}

// await waits for a turn, or returns *email.Throttled with one that is further
// off than it makes sense to wait for here.
func (m *meter) await(ctx context.Context, turn email.Turn) error {
	if m.relay.Pace == 0 {
		return nil
	}
	at, err := m.turn(ctx, turn)
	if err != nil {
		return err
	}
	wait := at.Sub(m.now())
	if wait <= 0 {
		return nil
	}
	if wait > turnPatience {
		return &email.Throttled{Turn: email.Turn{Relay: m.relay.Name, At: at.UTC()}}
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

// turn finds when the next transaction of whoever has that turn may begin.
func (m *meter) turn(ctx context.Context, turn email.Turn) (time.Time, error) {
	within := time.Duration(0)
	if turn.Relay == m.relay.Name {
		switch late := m.now().Sub(turn.At); {
		case late >= turnKept: // it was not used in time, and the pace went on
		case late >= -turnPatience:
			return turn.At, nil
		default: // the queue may move faster than it did
			within = -late
		}
	}
	m.waiting.Add(1)
	defer m.waiting.Add(-1)
	select {
	case m.mine <- struct{}{}:
		defer func() { <-m.mine }()
	case <-ctx.Done():
		return time.Time{}, context.Cause(ctx)
	}
	if m.left == 0 || m.now().Sub(m.next) > lotSpan {
		n := max(min(m.waiting.Load(), int64(lotSpan/m.relay.Pace)), 1)
		wait, ok, err := m.ledger.Draw(ctx, "relay:"+m.relay.Name, int(n), m.relay.Pace, within)
		if err != nil {
			return time.Time{}, fmt.Errorf("draw from the rate of relay %s: %w", m.relay.Name, err)
		}
		if !ok {
			m.left = 0
			return turn.At, nil
		}
		m.next, m.left = m.now().Add(wait), int(n)
	}
	at := m.next
	m.next, m.left = at.Add(m.relay.Pace), m.left-1
	return at, nil
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
