package activities

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

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

// exchanges are those under way in this process.
type exchanges struct {
	mu   sync.Mutex
	open map[exchangeKey]*exchange
	// unrecorded have ended, and Postgres was away: only this process knows their outcomes.
	// Temporal may have given up the activity that waited for one. The next activity of the
	// attempt gets the result.
	unrecorded map[exchangeKey]*exchange
	closed     bool
	// ctx ends with the process's patience: it cuts what has not reached the
	// final dot.
	ctx    context.Context
	cancel context.CancelFunc
}

func newExchanges() *exchanges {
	ctx, cancel := context.WithCancel(context.Background())
	return &exchanges{open: map[exchangeKey]*exchange{}, unrecorded: map[exchangeKey]*exchange{}, ctx: ctx, cancel: cancel}
}

// keepUnrecorded is how long a process remembers outcomes that it could not write and that
// no run has written since.
const keepUnrecorded = time.Hour

var errDraining = email.Fail(email.CodeUnavailable, "this worker is shutting down")

// join finds the exchange of an attempt or starts it.
func (xs *exchanges) join(key exchangeKey, run func(ctx context.Context) (delivery.SendSMTPResult, error)) (*exchange, error) {
	xs.mu.Lock()
	defer xs.mu.Unlock()
	if x, ok := xs.open[key]; ok {
		return x, nil
	}
	if x, ok := xs.unrecorded[key]; ok {
		return x, nil
	}
	if xs.closed {
		return nil, errDraining
	}
	x := &exchange{done: make(chan struct{})}
	xs.open[key] = x
	go func() {
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

// enter runs other work that a drain has to wait for, with the context that cuts
// what has not reached its final dot. leave is called when its result was taken.
func (xs *exchanges) enter(run func(ctx context.Context)) (leave func(), err error) {
	xs.mu.Lock()
	defer xs.mu.Unlock()
	if xs.closed {
		return nil, errDraining
	}
	key, x := exchangeKey{emailID: uuid.NewString()}, &exchange{done: make(chan struct{})}
	xs.open[key] = x
	go run(xs.ctx)
	return func() {
		xs.mu.Lock()
		delete(xs.open, key)
		xs.mu.Unlock()
		close(x.done)
	}, nil
}

// draining reports whether the process is to stop.
func (xs *exchanges) draining() bool {
	xs.mu.Lock()
	defer xs.mu.Unlock()
	return xs.closed
}

// drain refuses new exchanges and waits for the open ones. When ctx ends, those
// before their final dot are cut: nothing of them was sent.
func (xs *exchanges) drain(ctx context.Context) error {
	xs.mu.Lock()
	xs.closed = true
	var left []*exchange
	for _, x := range xs.open {
		left = append(left, x)
	}
	xs.mu.Unlock()
	for i, x := range left {
		select {
		case <-x.done:
		case <-ctx.Done():
			xs.cancel()
			return fmt.Errorf("%d SMTP exchanges were still open", len(left)-i)
		}
	}
	xs.cancel()
	return nil
}
