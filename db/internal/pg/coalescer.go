package pg

import (
	"context"
	"sync"
	"time"

	"github.com/postrider/postrider/internal/fairqueue"
)

// Coalescer puts calls of one kind together (group commit). Calls that arrive while a batch is
// under way wait for its end and go into the next batch. A batch is one call of Options.Call, and
// so one transaction.
//
// Why: with synchronous commits each transaction costs Postgres a flush to disk, and both sides
// several round trips. Under load a batch shares that among up to 64 calls, so an e-mail costs a
// fraction of a transaction. A single call waits for no other: with no batch under way it runs at
// once, in a transaction of its own.
//
// What it costs: a call that arrives during a batch waits for the batch's end, also if its own
// transaction had been ready sooner. An error fails the whole batch. Its callers see that they were
// not alone (solo is false) and call again by themselves. So one bad call costs the others of its
// batch a second transaction.
//
// Owners take turns: a batch has one call of each waiting owner, then a second call of each, until
// it is full. An owner that waits is in the next batch, or, with more waiting owners than a batch
// holds, in one of the next.
//
// The backlog is bounded where Options.Backlog bounds it. Count has the numbers for the metrics
// postrider_store_waiting and postrider_store_refused_total.
type Coalescer[Req, Res any] struct {
	opts CoalescerOptions[Req, Res]

	mu      sync.Mutex
	waiting fairqueue.Queue[*request[Req, Res]]
	running bool
	refused int64
}

// CoalescerOptions say how a Coalescer makes batches.
type CoalescerOptions[Req, Res any] struct {
	// Call carries out a batch and returns a result for each request, at its index. In a
	// batch of several it may leave a result zero, to say that the request has to be made
	// alone; see Do.
	Call func(ctx context.Context, reqs []Req) ([]Res, error)
	// Owner names whose turn a request takes. nil: all requests have one owner.
	Owner func(Req) string
	// Weight is what a request adds to its batch; MaxWeight bounds the sum, unless the first
	// request alone is heavier. nil: only the number of requests is bounded, at 64.
	Weight    func(Req) int
	MaxWeight int
	// Backlog bounds the requests that wait. Zero: there is no bound.
	Backlog Backlog
}

// Backlog bounds what waits.
type Backlog struct {
	fairqueue.Max
	// Refuse makes the error for what has no place. Required with a bound.
	Refuse func() error
}

// NewCoalescer returns a Coalescer without requests.
func NewCoalescer[Req, Res any](opts CoalescerOptions[Req, Res]) *Coalescer[Req, Res] {
	return &Coalescer[Req, Res]{opts: opts, waiting: fairqueue.Queue[*request[Req, Res]]{Max: opts.Backlog.Max}}
}

// request is one call. Its result, err and solo are set before done is closed.
type request[Req, Res any] struct {
	ctx    context.Context
	req    Req
	done   chan struct{}
	result Res
	err    error
	solo   bool
}

const (
	// coalesceMax bounds the requests of a batch.
	coalesceMax = 64
	// CoalesceTimeout bounds the call for a batch of several, whose callers have deadlines of
	// their own.
	CoalesceTimeout = 15 * time.Second
)

// Do makes a request and waits for its result. solo is false if it shared a batch with others:
// after an error, or a result that was left zero, the caller can then succeed by making the
// request alone. If the backlog is full, it returns the error of Backlog.Refuse at once.
//
// If ctx ends first, Do returns its cause, translated, and the request may be carried out
// nevertheless.
func (c *Coalescer[Req, Res]) Do(ctx context.Context, req Req) (result Res, solo bool, err error) {
	r := &request[Req, Res]{ctx: ctx, req: req, done: make(chan struct{})}
	owner := ""
	if c.opts.Owner != nil {
		owner = c.opts.Owner(req)
	}
	c.mu.Lock()
	if refused, full := c.waiting.Push(owner, r); full {
		c.refused++
		refused.solo, refused.err = true, c.opts.Backlog.Refuse()
		close(refused.done)
	}
	if !c.running {
		c.running = true
		go c.run()
	}
	c.mu.Unlock()
	select {
	case <-r.done:
		return r.result, r.solo, r.err
	case <-ctx.Done():
		c.mu.Lock()
		c.waiting.Remove(owner, r)
		c.mu.Unlock()
		return result, true, Translate(context.Cause(ctx))
	}
}

// run carries out batches until no request waits.
func (c *Coalescer[Req, Res]) run() {
	for {
		batch := c.take()
		if len(batch) == 0 {
			return
		}
		c.call(batch)
	}
}

// take removes the next batch from the queue. If none waits it notes that run ends.
func (c *Coalescer[Req, Res]) take() (batch []*request[Req, Res]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	weight := 0
	for len(batch) < coalesceMax {
		_, r, ok := c.waiting.Pop(func(_ string, r *request[Req, Res]) bool {
			return len(batch) == 0 || c.opts.Weight == nil || weight+c.opts.Weight(r.req) <= c.opts.MaxWeight
		})
		if !ok {
			break
		}
		if r.ctx.Err() != nil { // its caller has gone
			continue
		}
		if c.opts.Weight != nil {
			weight += c.opts.Weight(r.req)
		}
		batch = append(batch, r)
	}
	c.running = len(batch) > 0
	return batch
}

func (c *Coalescer[Req, Res]) call(batch []*request[Req, Res]) {
	ctx, cancel := batch[0].ctx, context.CancelFunc(func() {})
	if len(batch) > 1 {
		ctx, cancel = context.WithTimeout(context.Background(), CoalesceTimeout)
	}
	defer cancel()
	reqs := make([]Req, len(batch))
	for i, r := range batch {
		reqs[i] = r.req
	}
	results, err := c.opts.Call(ctx, reqs)
	for i, r := range batch {
		r.err, r.solo = err, len(batch) == 1
		if err == nil {
			r.result = results[i]
		}
		close(r.done)
	}
}

// Count returns how many requests wait, and how many were refused since the process began.
func (c *Coalescer[Req, Res]) Count() (waiting int, refused int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waiting.Len(), c.refused
}
