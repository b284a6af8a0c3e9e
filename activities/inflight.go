package activities

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

var errDraining = email.Fail(email.CodeUnavailable, "this worker is shutting down")

// inflight is the work that a drain waits for: a sync.WaitGroup that can be closed, and whose
// wait ends with a context.
type inflight struct {
	mu     sync.Mutex
	n      int
	closed bool
	// idle is closed when drain has begun and nothing is left.
	idle chan struct{}
	// ctx is canceled when drain returns. An exchange that is left then is cut off, unless it
	// has written its final dot.
	ctx    context.Context
	cancel context.CancelFunc
}

func newInflight() *inflight {
	ctx, cancel := context.WithCancel(context.Background())
	return &inflight{idle: make(chan struct{}), ctx: ctx, cancel: cancel}
}

// enter counts one piece of work until leave is called, once. It fails with errDraining when
// drain has begun.
func (g *inflight) enter() (leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, errDraining
	}
	g.n++
	return g.leave, nil
}

// follow counts work that goes on after the caller's own, which counts: a drain waits for it, too.
func (g *inflight) follow() (leave func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n++
	return g.leave
}

func (g *inflight) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n--; g.n == 0 && g.closed {
		close(g.idle)
	}
}

// draining reports whether drain has begun.
func (g *inflight) draining() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

// drain refuses new work and waits for the work under way. When ctx ends, it cancels the
// exchanges that have not written their final dot; nothing of those was sent. Its error counts
// all exchanges that are left.
func (g *inflight) drain(ctx context.Context) error {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		if g.n == 0 {
			close(g.idle)
		}
	}
	g.mu.Unlock()
	defer g.cancel()
	select {
	case <-g.idle:
		return nil
	default:
	}
	select {
	case <-g.idle:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return fmt.Errorf("%d SMTP exchanges were still open", g.n)
}

// exchangeKey names an attempt.
type exchangeKey struct {
	emailID string
	attempt int
}

// exchange is one execution of an attempt in this process. It outlives the
// activity that began it: an inline one hands it over when its time is up, and
// the regular one that follows attaches to it.
type exchange struct {
	done chan struct{}
	// result and err are set when done is closed.
	result delivery.SendSMTPResult
	err    error
	// batchID and owner are set where an attempt of a batch's lot is kept in
	// exchanges.unrecorded; otherwise they are empty.
	batchID, owner string
}

// exchanges are the exchanges of this process, by attempt.
type exchanges struct {
	*inflight

	mu   sync.Mutex
	open map[exchangeKey]*exchange
	// unrecorded are finished exchanges whose outcomes Postgres could not store: only this
	// process knows them. The activity that waited for one may have timed out. The next
	// activity of the attempt gets the result.
	unrecorded map[exchangeKey]*exchange
	recorded   recorded
	unwritten  unwritten
}

func newExchanges() *exchanges {
	return &exchanges{inflight: newInflight(), open: map[exchangeKey]*exchange{}, unrecorded: map[exchangeKey]*exchange{},
		recorded: recorded{byKey: map[exchangeKey]delivery.Recorded{}}}
}

// keepUnrecorded is how long a process keeps outcomes that neither it nor a run has recorded.
const keepUnrecorded = time.Hour

// join finds the exchange of an attempt or starts it. A drain refuses new exchanges only:
// those under way, or with kept outcomes, are still found.
func (xs *exchanges) join(key exchangeKey, run func(ctx context.Context) (delivery.SendSMTPResult, error)) (*exchange, error) {
	xs.mu.Lock()
	defer xs.mu.Unlock()
	if x, ok := xs.open[key]; ok {
		return x, nil
	}
	if x, ok := xs.unrecorded[key]; ok {
		return x, nil
	}
	leave, err := xs.enter()
	if err != nil {
		return nil, err
	}
	x := &exchange{done: make(chan struct{})}
	xs.open[key] = x
	go func() {
		defer leave()
		x.result, x.err = run(xs.ctx)
		xs.mu.Lock()
		delete(xs.open, key)
		if len(x.result.Unrecorded) > 0 {
			xs.keep(key, x)
		}
		xs.mu.Unlock()
		close(x.done)
	}()
	return x, nil
}
