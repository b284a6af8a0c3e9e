// Package dispatch owns the Temporal client: it starts runs for accepted
// e-mails, wakes runs and endpoints, and finds what has lost its run.
//
// Everything it does is a wake-up: one lost is made good by a sweep, one too
// many finds the gate closed. Temporal being down is never an error here, only
// a delay.
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// Outbox hands out what needs a run.
type Outbox interface {
	// ClaimStarts and ClaimBatches lease what waits for a run: of a stream, round robin by
	// customer. They return none only if none waits.
	ClaimStarts(ctx context.Context, c delivery.Claim) ([]delivery.Start, error)
	ClaimBatches(ctx context.Context, c delivery.Claim) ([]delivery.Start, error)
	// AnnounceStarts tells other processes what waits for a run. HearStarts calls heard for each
	// announcement until ctx ends; an error says that some may be missed.
	AnnounceStarts(ctx context.Context, kind delivery.StartKind) error
	HearStarts(ctx context.Context, heard func(delivery.StartKind)) error
	// ClaimOverdue finds runs that are long overdue, and ReturnOverdue gives back those that could not be
	// revived: the next sweep finds them again.
	ClaimOverdue(ctx context.Context, limit int) ([]delivery.Start, error)
	ReturnOverdue(ctx context.Context, runs []delivery.Start) error
	// ClaimUnpaused makes mail due that no pause stops any more, and leases the orders to wake its runs.
	ClaimUnpaused(ctx context.Context, lease time.Duration, limit int) ([]delivery.Wake, error)
	// ClaimWakes leases orders to wake runs. Wakes reads those that are leased already. Woken deletes
	// those whose run has the signal.
	ClaimWakes(ctx context.Context, lease time.Duration, limit int) ([]delivery.Wake, error)
	Wakes(ctx context.Context, ids []string) ([]delivery.Wake, error)
	Woken(ctx context.Context, ids []string) error
	OverdueEndpoints(ctx context.Context) ([]string, error)
	// ClaimOverdueDomains finds sender domains whose check is late or whose turn it is, and leases the
	// checks. It returns those that it has leased with an error too.
	ClaimOverdueDomains(ctx context.Context, limit int) ([]string, error)
	// ExpireOverdue ends mail whose deadline has passed and that no run has ended.
	ExpireOverdue(ctx context.Context) error
	// HoldTerminated holds, for an operator, the mail of a run that was terminated.
	HoldTerminated(ctx context.Context, run delivery.Start) error
	// Housekeep deletes what has outlived its use.
	Housekeep(ctx context.Context) error
	// LeaveWorkflowID gives an unfinished e-mail a workflow id of our own.
	LeaveWorkflowID(ctx context.Context, emailID string) (workflowID string, err error)
}

const (
	// startTimeout bounds one call to Temporal.
	startTimeout = 5 * time.Second
	// eagerTimeout bounds the start of a run. It is the time-out of the run's first task: an eager
	// start that is answered later comes too late for that task.
	eagerTimeout = 10 * time.Second
	// awayAfter is how many calls in a row Temporal leaves unanswered before sweeps stop. A single
	// call may time out because of its run alone.
	awayAfter = 3
	// sweepLease is how long a swept start has until another process may try.
	sweepLease = 30 * time.Second
	sweepBatch = 200
	// leaveFor is how long starts are left to processes whose starts are eager, which cost Temporal
	// half as much. They hear of them at once.
	leaveFor = 500 * time.Millisecond

	hearEvery          = time.Second
	connectEvery       = time.Second
	sweepEvery         = 2 * time.Second
	sweepOverdueEvery  = time.Minute
	sweepEndpointEvery = 2 * time.Second
	sweepDomainEvery   = 5 * time.Second
	housekeepEvery     = 10 * time.Minute
)

// Dispatcher starts and wakes runs.
type Dispatcher struct {
	client client.Client
	outbox Outbox
	log    *slog.Logger
	owner  string
	queue  *startQueue
	// pace is that of all starters, urgentPace that of those for transactional mail alone.
	pace, urgentPace *pace
	// leave: this process has no worker and leaves starts to processes that have one.
	leave bool
	// announce has, by kind, an element while starts are to be announced. heard has one while announced
	// ones are to be claimed.
	announce, heard map[delivery.StartKind]chan struct{}
	// connected is closed at the first answer of Temporal's.
	connected chan struct{}

	// sweeps are those that others have added.
	sweeps []addedSweep

	// awaitSlots waits for free slots of this process's worker; nil if starts are not eager.
	awaitSlots atomic.Pointer[AwaitSlots]

	mu sync.Mutex
	// down is set while Temporal does not answer, so that it is said once.
	down bool
	// lastErr is the latest failed call's error.
	lastErr error
	// unanswered counts calls in a row that Temporal did not answer.
	unanswered int
}

// New makes a Dispatcher. The client may be one that has not connected yet.
func New(c client.Client, outbox Outbox, log *slog.Logger) *Dispatcher {
	d := &Dispatcher{client: c, outbox: outbox, log: log, owner: uuid.NewString(), queue: newStartQueue(), pace: newPace(starters), urgentPace: newPace(urgentStarters), connected: make(chan struct{}),
		announce: map[delivery.StartKind]chan struct{}{}, heard: map[delivery.StartKind]chan struct{}{}}
	for _, kind := range delivery.StartKinds() {
		d.announce[kind], d.heard[kind] = make(chan struct{}, 1), make(chan struct{}, 1)
	}
	return d
}

// LeaveStarts has the process leave what it accepts to processes with a worker, and tell them. It
// starts mail itself that has waited for half a second while no other process starts any. To be called
// before Run.
func (d *Dispatcher) LeaveStarts() { d.leave = true }

// addedSweep is a sweep of another part of the process.
type addedSweep struct {
	interval time.Duration
	do       func(context.Context) error
}

// AddSweep has Run do something now and then, too, whether Temporal answers or not. To be called
// before Run.
func (d *Dispatcher) AddSweep(interval time.Duration, do func(context.Context) error) {
	d.sweeps = append(d.sweeps, addedSweep{interval, do})
}

// Owner is who has the lease of what this process accepts.
func (d *Dispatcher) Owner() string {
	if d.leave {
		return delivery.NoOwner
	}
	return d.owner
}

// Accepted starts the run of an e-mail that this process has just accepted, in
// the background, or announces it. With too many that wait, a sweep starts it.
func (d *Dispatcher) Accepted(e email.Email) { d.accepted(delivery.RunOf(e)) }

// AcceptedBatch does so for a batch.
func (d *Dispatcher) AcceptedBatch(b email.Batch) { d.accepted(delivery.RunOfBatch(b)) }

func (d *Dispatcher) accepted(s delivery.Start) {
	if d.leave {
		kind := delivery.StartKind{Batches: s.BatchID != "", Stream: s.Stream}
		signal(d.announce[kind])
		signal(d.heard[kind])
		return
	}
	d.queue.push(s)
}

// signal puts an element into a channel that holds one, unless it has one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// AwaitSlots waits for free slots of a worker, for a start of a stream. It reports whether there are
// some: it gives up after a while, or when ctx ends.
type AwaitSlots func(ctx context.Context, stream email.Stream) bool

// StartEagerly says that all new runs may be this process's worker's. Its starts wait for the
// worker's free slots, and the worker executes their first tasks at once. It claims what other
// processes accept while slots are free. With nil, the server decides where runs begin, and the
// process claims what has waited for half a second while no other process starts any.
func (d *Dispatcher) StartEagerly(await AwaitSlots) {
	if await == nil {
		d.awaitSlots.Store(nil)
		return
	}
	d.awaitSlots.Store(&await)
}

// Run starts the queued runs and sweeps until ctx ends. The runs that are still queued
// then are started by the sweep of another process, or of the next one here.
func (d *Dispatcher) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	// These need no Temporal.
	for kind, accepted := range d.announce {
		wg.Go(func() { d.announceAll(ctx, kind, accepted) })
	}
	wg.Go(func() { d.every(ctx, housekeepEvery, d.outbox.Housekeep) })
	wg.Go(func() { d.every(ctx, sweepOverdueEvery, d.outbox.ExpireOverdue) })
	for _, added := range d.sweeps {
		wg.Go(func() { d.every(ctx, added.interval, added.do) })
	}
	if !d.connect(ctx) {
		return
	}
	for range starters {
		wg.Go(func() { d.startQueued(ctx, len(streams), d.pace) })
	}
	for range urgentStarters {
		wg.Go(func() { d.startQueued(ctx, 1, d.urgentPace) })
	}
	for _, kind := range delivery.StartKinds() {
		wg.Go(func() {
			d.everyOr(ctx, sweepEvery, d.heard[kind], func(ctx context.Context) error { return d.sweepStarts(ctx, kind) })
		})
	}
	if !d.leave {
		wg.Go(func() { d.every(ctx, hearEvery, d.hear) })
	}
	wg.Go(func() { d.every(ctx, sweepEvery, d.sweepUnpaused) })
	wg.Go(func() { d.every(ctx, sweepEvery, d.sweepWakes) })
	wg.Go(func() { d.every(ctx, sweepOverdueEvery, d.sweepOverdue) })
	wg.Go(func() { d.every(ctx, sweepEndpointEvery, d.sweepEndpoints) })
	wg.Go(func() { d.every(ctx, sweepDomainEvery, d.sweepDomains) })
}

// connect waits for Temporal's first answer, in one goroutine, before any other call.
// The SDK's client stores the server's capabilities at its first call. It reads them
// without a lock when it starts a run eagerly.
func (d *Dispatcher) connect(ctx context.Context) bool {
	for {
		callCtx, cancel := context.WithTimeout(ctx, startTimeout)
		_, err := d.client.CheckHealth(callCtx, &client.CheckHealthRequest{})
		cancel()
		if d.answered(ctx, "dispatch.connect", "", err) {
			close(d.connected)
			return true
		}
		select {
		case <-time.After(connectEvery):
		case <-ctx.Done():
			return false
		}
	}
}

// Connected is closed once Temporal has answered Run for the first time. Other users of
// its client wait for that.
func (d *Dispatcher) Connected() <-chan struct{} { return d.connected }

// errNotConnected: nothing is lost by it, the sweeps make up for it.
var errNotConnected = errors.New("temporal has not answered yet")

// ready reports whether calls may be made.
func (d *Dispatcher) ready() error {
	select {
	case <-d.connected:
		return nil
	default:
		return errNotConnected
	}
}

// reachable says why Temporal has not answered yet; nil if it has, since Run.
func (d *Dispatcher) reachable() error {
	select {
	case <-d.connected:
		return nil
	default:
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lastErr == nil {
		return errNotConnected
	}
	return fmt.Errorf("temporal does not answer: %w", d.lastErr)
}

// every runs a sweep now and then, a little out of step with other processes. It warns
// of an error once, until the sweep succeeds or fails otherwise.
func (d *Dispatcher) every(ctx context.Context, interval time.Duration, sweep func(context.Context) error) {
	d.everyOr(ctx, interval, nil, sweep)
}

// everyOr runs a sweep of starts, also when there is an element in now.
func (d *Dispatcher) everyOr(ctx context.Context, interval time.Duration, now <-chan struct{}, sweep func(context.Context) error) {
	warning := warning{log: d.log, what: "dispatch.sweep"}
	for {
		warning.note(ctx, sweep(ctx))
		select {
		case <-time.After(interval + time.Duration(rand.Int64N(int64(interval)/4))):
		case <-now:
			d.leaveToOthers(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// warning is a line of the log for something that is done again and again. It is logged once, until
// there is no error or another one.
type warning struct {
	log        *slog.Logger
	what, said string
}

// note logs an error that has not been said, unless ctx has ended.
func (w *warning) note(ctx context.Context, err error) {
	switch {
	case err == nil:
		w.said = ""
	case ctx.Err() == nil && err.Error() != w.said:
		w.said = err.Error()
		w.log.Warn(w.what, "error", err)
	}
}

// concurrently calls do for several elements at once. It starts no more after the first
// that returns false.
func concurrently[T any](all []T, do func(T) bool) {
	var wg sync.WaitGroup
	var next, failed atomic.Int64
	for range min(starters, len(all)) {
		wg.Go(func() {
			for failed.Load() == 0 {
				i := int(next.Add(1)) - 1
				if i >= len(all) {
					return
				}
				if !do(all[i]) {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
}

// start makes sure that the run exists. One that is there, or has ended well, is
// left as it is.
func (d *Dispatcher) start(ctx context.Context, s delivery.Start) bool {
	ctx, cancel := context.WithTimeout(ctx, eagerTimeout)
	defer cancel()
	workflow, input := workflowOf(s)
	opts := options(s)
	opts.EnableEagerStart = d.awaitSlots.Load() != nil
	_, err := d.client.ExecuteWorkflow(ctx, opts, workflow, input)
	return d.answered(ctx, "dispatch.start", s.WorkflowID, err)
}

// workflowOf is what runs for it.
func workflowOf(s delivery.Start) (workflow string, input any) {
	if s.BatchID != "" {
		return email.WorkflowSendBatch, email.SendBatchInput{BatchID: s.BatchID}
	}
	return email.WorkflowSendEmail, email.SendEmailInput{EmailID: s.EmailID}
}

func options(s delivery.Start) client.StartWorkflowOptions {
	// For servers that order work; others ignore it.
	priority := temporal.Priority{PriorityKey: s.Stream.Priority(), FairnessKey: s.CustomerID}
	if s.BatchID != "" {
		return client.StartWorkflowOptions{
			ID: s.WorkflowID, TaskQueue: email.TaskQueue, StaticSummary: "batch of e-mails",
			WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
			WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
			Priority:                 priority,
			TypedSearchAttributes: temporal.NewSearchAttributes(
				temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeCustomerID).ValueSet(s.CustomerID)),
		}
	}
	return client.StartWorkflowOptions{
		ID:                       s.WorkflowID,
		TaskQueue:                email.TaskQueue,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            string(s.Stream) + " e-mail",
		StaticDetails:            fmt.Sprintf("E-mail `%s` of customer `%s`. The current details say where it is and what comes next.\n\nSignals and updates: `cancel`, `hold`, `resume`, `retry_now`, `reschedule`; query: `status`.", s.EmailID, s.CustomerID),
		Priority:                 priority,
		TypedSearchAttributes: temporal.NewSearchAttributes(
			temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeStatus).ValueSet(string(email.StatusQueued)),
			temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeCustomerID).ValueSet(s.CustomerID),
			temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeStream).ValueSet(string(s.Stream)),
		),
	}
}

// away reports whether Temporal answers no call at the moment.
func (d *Dispatcher) away() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.unanswered >= awayAfter
}

// answered logs, once, that Temporal does not answer or is back. It reports whether a call with this
// error had an answer: that the run ended well before is one.
func (d *Dispatcher) answered(ctx context.Context, what, id string, err error) bool {
	_, exists := errors.AsType[*serviceerror.WorkflowExecutionAlreadyStarted](err)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil || exists {
		d.unanswered = 0
		if d.down {
			d.down = false
			d.log.Info("temporal.back")
		}
		return true
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return false
	}
	d.unanswered++
	d.lastErr = err
	if !d.down {
		d.down = true
		d.log.Warn("temporal.away", "what", what, "id", id, "error", err)
	}
	return false
}
