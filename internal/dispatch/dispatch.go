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
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// Outbox hands out what needs a run.
type Outbox interface {
	ClaimStarts(ctx context.Context, owner string, lease time.Duration, limit int) ([]delivery.Start, error)
	ClaimBatches(ctx context.Context, owner string, lease time.Duration, limit int) ([]delivery.Start, error)
	ClaimOverdue(ctx context.Context, limit int) ([]delivery.Start, error)
	// ClaimUnpaused makes mail due that no pause stops any more, and leases the orders to wake its runs.
	ClaimUnpaused(ctx context.Context, lease time.Duration, limit int) ([]delivery.Wake, error)
	// ClaimWakes leases orders to wake runs. Wakes reads those that are leased already. Woken deletes
	// those whose run has the signal.
	ClaimWakes(ctx context.Context, lease time.Duration, limit int) ([]delivery.Wake, error)
	Wakes(ctx context.Context, ids []string) ([]delivery.Wake, error)
	Woken(ctx context.Context, ids []string) error
	OverdueEndpoints(ctx context.Context) ([]string, error)
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
	// starters is how many starts are under way at once: a start waits for
	// Temporal for 5-10 ms.
	starters = 16
	// startQueue bounds the starts waiting in memory; what finds it full waits
	// for the sweep instead.
	startQueue = 1024
	// startTimeout bounds one call to Temporal.
	startTimeout = 5 * time.Second
	// sweepLease is how long a swept start has until another process may try.
	sweepLease = 30 * time.Second
	sweepBatch = 200

	connectEvery       = time.Second
	sweepEvery         = 2 * time.Second
	sweepOverdueEvery  = time.Minute
	sweepEndpointEvery = 2 * time.Second
	housekeepEvery     = 10 * time.Minute
)

// Dispatcher starts and wakes runs.
type Dispatcher struct {
	client client.Client
	outbox Outbox
	log    *slog.Logger
	owner  string
	queue  chan delivery.Start
	// connected is closed at the first answer of Temporal's.
	connected chan struct{}

	// awaitSlots waits for free slots of this process's worker; nil without a worker.
	awaitSlots atomic.Pointer[func(context.Context)]

	mu sync.Mutex
	// down is set while Temporal does not answer, so that it is said once.
	down bool
	// lastErr is the latest failed call's error.
	lastErr error
}

// New makes a Dispatcher. The client may be one that has not connected yet.
func New(c client.Client, outbox Outbox, log *slog.Logger) *Dispatcher {
	return &Dispatcher{client: c, outbox: outbox, log: log, owner: uuid.NewString(), queue: make(chan delivery.Start, startQueue), connected: make(chan struct{})}
}

// Owner is this process in the outbox's leases.
func (d *Dispatcher) Owner() string { return d.owner }

// Accepted starts the run of an e-mail that this process has just accepted, in
// the background.
func (d *Dispatcher) Accepted(e email.Email) { d.enqueue(delivery.RunOf(e)) }

// AcceptedBatch does so for a batch.
func (d *Dispatcher) AcceptedBatch(b email.Batch) { d.enqueue(delivery.RunOfBatch(b)) }

// StartWhen makes each start wait until await returns: until this process's worker has free
// slots, and executes the start's first task at once. With nil, starts do not wait.
func (d *Dispatcher) StartWhen(await func(context.Context)) {
	if await == nil {
		d.awaitSlots.Store(nil)
		return
	}
	d.awaitSlots.Store(&await)
}

func (d *Dispatcher) enqueue(s delivery.Start) {
	select {
	case d.queue <- s:
	default: // the lease in the outbox runs out, and the sweep starts it
	}
}

// Run starts the queued runs and sweeps until ctx ends. The runs that are still queued
// then are started by the sweep of another process, or of the next one here.
func (d *Dispatcher) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	// These need no Temporal.
	wg.Go(func() { d.every(ctx, housekeepEvery, d.outbox.Housekeep) })
	wg.Go(func() { d.every(ctx, sweepOverdueEvery, d.outbox.ExpireOverdue) })
	if !d.connect(ctx) {
		return
	}
	for range starters {
		wg.Go(func() {
			for {
				select {
				case s := <-d.queue:
					d.start(ctx, s)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	wg.Go(func() {
		d.every(ctx, sweepEvery, func(ctx context.Context) error { return d.sweepStarts(ctx, d.outbox.ClaimStarts) })
	})
	wg.Go(func() {
		d.every(ctx, sweepEvery, func(ctx context.Context) error { return d.sweepStarts(ctx, d.outbox.ClaimBatches) })
	})
	wg.Go(func() { d.every(ctx, sweepEvery, d.sweepUnpaused) })
	wg.Go(func() { d.every(ctx, sweepEvery, d.sweepWakes) })
	wg.Go(func() { d.every(ctx, sweepOverdueEvery, d.sweepOverdue) })
	wg.Go(func() { d.every(ctx, sweepEndpointEvery, d.sweepEndpoints) })
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
	said := ""
	for {
		switch err := sweep(ctx); {
		case err == nil:
			said = ""
		case ctx.Err() == nil && err.Error() != said:
			said = err.Error()
			d.log.Warn("dispatch.sweep", "error", err)
		}
		select {
		case <-time.After(interval + time.Duration(rand.Int64N(int64(interval)/4))):
		case <-ctx.Done():
			return
		}
	}
}

// claim leases what waits for a run.
type claim func(ctx context.Context, owner string, lease time.Duration, limit int) ([]delivery.Start, error)

func (d *Dispatcher) sweepStarts(ctx context.Context, claim claim) error {
	for {
		starts, err := claim(ctx, d.owner, sweepLease, sweepBatch)
		if err != nil {
			return err
		}
		if !d.startAll(ctx, starts) {
			return nil // Temporal is away: the rest is tried when its lease runs out
		}
		if len(starts) < sweepBatch {
			return nil
		}
	}
}

// startAll starts several at once: a burst that did not fit into the queue comes this
// way. It stops at the first that Temporal does not answer.
func (d *Dispatcher) startAll(ctx context.Context, starts []delivery.Start) bool {
	return concurrently(starts, func(s delivery.Start) bool { return d.start(ctx, s) })
}

// concurrently calls do for several elements at once. It starts no more after the first
// that returns false, and reports whether none did.
func concurrently[T any](all []T, do func(T) bool) bool {
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
	return failed.Load() == 0
}

// start makes sure that the run exists. One that is there, or has ended well, is
// left as it is.
func (d *Dispatcher) start(ctx context.Context, s delivery.Start) bool {
	if await := d.awaitSlots.Load(); await != nil {
		(*await)(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	workflow, input := workflowOf(s)
	_, err := d.client.ExecuteWorkflow(ctx, options(s), workflow, input)
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
	if s.BatchID != "" {
		return client.StartWorkflowOptions{
			ID: s.WorkflowID, TaskQueue: email.TaskQueue, StaticSummary: "batch of e-mails",
			WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
			WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
			EnableEagerStart:         true,
			TypedSearchAttributes: temporal.NewSearchAttributes(
				temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeCustomerID).ValueSet(s.CustomerID)),
		}
	}
	return client.StartWorkflowOptions{
		ID:                       s.WorkflowID,
		TaskQueue:                email.TaskQueue,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		EnableEagerStart:         true,
		StaticSummary:            string(s.Stream) + " e-mail",
		StaticDetails:            fmt.Sprintf("E-mail `%s` of customer `%s`. The current details say where it is and what comes next.\n\nSignals and updates: `cancel`, `hold`, `resume`, `retry_now`, `reschedule`; query: `status`.", s.EmailID, s.CustomerID),
		// For servers that order work; others ignore it.
		Priority: temporal.Priority{PriorityKey: s.Stream.Priority(), FairnessKey: s.CustomerID},
		TypedSearchAttributes: temporal.NewSearchAttributes(
			temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeStatus).ValueSet(string(email.StatusQueued)),
			temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeCustomerID).ValueSet(s.CustomerID),
			temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeStream).ValueSet(string(s.Stream)),
		),
	}
}

// sweepUnpaused wakes the runs of e-mails that nothing stops any more.
func (d *Dispatcher) sweepUnpaused(ctx context.Context) error {
	for {
		wakes, err := d.outbox.ClaimUnpaused(ctx, sweepLease, sweepBatch)
		if err != nil || len(wakes) == 0 {
			return err
		}
		if err := d.wakeAll(ctx, "dispatch.unpaused", wakes); err != nil {
			return unlessAway(err) // sweepWakes signals the rest when its lease runs out
		}
	}
}

// sweepWakes signals the runs of e-mails that a process has changed and not signalled itself: it
// has no Temporal client, it died, or Temporal did not answer.
func (d *Dispatcher) sweepWakes(ctx context.Context) error {
	for {
		wakes, err := d.outbox.ClaimWakes(ctx, sweepLease, sweepBatch)
		if err != nil || len(wakes) == 0 {
			return err
		}
		if err := d.wakeAll(ctx, "dispatch.wake", wakes); err != nil {
			return unlessAway(err) // the rest is tried when its lease runs out
		}
	}
}

// errAway is in the error of a sweep that Temporal did not answer.
var errAway = errors.New("temporal does not answer")

// unlessAway leaves out that Temporal is away: answered has logged it.
func unlessAway(err error) error {
	if errors.Is(err, errAway) {
		return nil
	}
	return err
}

// wakeAll signals the runs of orders that this process has leased. If Temporal does not answer one,
// it stops, and the error is an errAway. An order is deleted after its run has the signal, so a
// process that dies loses none.
func (d *Dispatcher) wakeAll(ctx context.Context, what string, wakes []delivery.Wake) error {
	var mu sync.Mutex
	var done []string // ids
	var away error
	concurrently(wakes, func(w delivery.Wake) bool {
		callCtx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		err := d.wakeRun(callCtx, w)
		answered := d.answered(ctx, what, w.WorkflowID, err)
		mu.Lock()
		defer mu.Unlock()
		if !answered {
			away = fmt.Errorf("%w: %w", errAway, err)
			return false
		}
		done = append(done, w.IDs...)
		return true
	})
	if len(done) > 0 {
		if err := d.outbox.Woken(ctx, done); err != nil {
			return err
		}
	}
	return away
}

func (d *Dispatcher) wakeRun(ctx context.Context, w delivery.Wake) error {
	if w.Ended {
		return d.tell(ctx, w.WorkflowID)
	}
	return d.signal(ctx, w.Start)
}

// tell wakes a run that is there, and starts none.
func (d *Dispatcher) tell(ctx context.Context, workflowID string) error {
	err := d.client.SignalWorkflow(ctx, workflowID, "", email.SignalWake, nil)
	if _, ok := errors.AsType[*serviceerror.NotFound](err); ok {
		return nil
	}
	return err
}

// sweepOverdue wakes runs of e-mails that should have moved long ago, and starts
// those whose run is gone. It holds the e-mail of a run that was terminated, unless the e-mail has
// expired: an operator wanted it to stop.
func (d *Dispatcher) sweepOverdue(ctx context.Context) error {
	starts, err := d.outbox.ClaimOverdue(ctx, sweepBatch)
	if err != nil {
		return err
	}
	for _, s := range starts {
		d.log.Warn("dispatch.overdue", "workflow_id", s.WorkflowID)
		if !d.answered(ctx, "dispatch.overdue", s.WorkflowID, d.revive(ctx, s)) {
			return nil
		}
	}
	return nil
}

func (d *Dispatcher) revive(stop context.Context, s delivery.Start) error {
	ctx, cancel := context.WithTimeout(stop, startTimeout)
	defer cancel()
	run, err := d.client.DescribeWorkflowExecution(ctx, s.WorkflowID, "")
	if _, gone := errors.AsType[*serviceerror.NotFound](err); err != nil && !gone {
		return err
	}
	info := run.GetWorkflowExecutionInfo()
	if taken(s, info) {
		id, err := d.outbox.LeaveWorkflowID(ctx, s.EmailID)
		if err != nil {
			d.log.Error("dispatch.leave", "email_id", s.EmailID, "error", err)
			return nil
		}
		s.WorkflowID = id
		return d.signal(ctx, s)
	}
	if info.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED {
		return d.signal(ctx, s)
	}
	wanted, err := d.terminatedByUser(ctx, info.GetExecution())
	if err != nil {
		return err
	}
	if !wanted {
		d.log.Error("dispatch.exceeded", "workflow_id", s.WorkflowID, "run_id", info.GetExecution().GetRunId(), "advice", "Temporal ended this run because of its size; a new run continues. Please report this.")
		return d.signal(ctx, s)
	}
	if err := d.outbox.HoldTerminated(stop, s); err != nil {
		d.log.Error("dispatch.hold", "workflow_id", s.WorkflowID, "error", err)
	}
	return nil
}

// byServer is the identity in the last event of a run that Temporal's history service
// terminated because it was too large.
const byServer = "history-service"

// terminatedByUser reports whether a user or a program terminated a run, and not Temporal.
func (d *Dispatcher) terminatedByUser(ctx context.Context, run *commonpb.WorkflowExecution) (bool, error) {
	last := d.client.GetWorkflowHistory(ctx, run.GetWorkflowId(), run.GetRunId(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT)
	for last.HasNext() {
		event, err := last.Next()
		if err != nil {
			return false, err
		}
		if event.GetWorkflowExecutionTerminatedEventAttributes().GetIdentity() == byServer {
			return false, nil
		}
	}
	return true, nil
}

// taken reports whether the workflow id of a direct start is another's by now: such
// ids are not ours to give.
func taken(s delivery.Start, run *workflowpb.WorkflowExecutionInfo) bool {
	if run == nil || s.BatchID != "" || s.WorkflowID == email.WorkflowIDPrefix+s.EmailID {
		return false
	}
	return run.GetType().GetName() != email.WorkflowSendEmail || run.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
}

func (d *Dispatcher) sweepEndpoints(ctx context.Context) error {
	ids, err := d.outbox.OverdueEndpoints(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := d.WakeEndpoint(ctx, id); err != nil {
			return nil // Temporal is away, which has been said; the rest comes with the next sweep
		}
	}
	return nil
}

// Wake carries out orders to wake runs that are leased to the caller: the runs read their e-mails
// again. Where there is none, one is started, unless the e-mails are finished and need none. A run
// that an operator terminated comes back only when a caller asks for it. Wake stops when the lease
// runs out. A sweep carries out the orders that are left then, or after an error.
func (d *Dispatcher) Wake(ctx context.Context, orders []string) error {
	if len(orders) == 0 {
		return nil
	}
	if err := d.ready(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, delivery.WakeLease)
	defer cancel()
	for some := range slices.Chunk(orders, sweepBatch) {
		wakes, err := d.outbox.Wakes(ctx, some)
		if err != nil {
			return err
		}
		if err := d.wakeAll(ctx, "dispatch.wake", wakes); err != nil {
			return err
		}
	}
	return nil
}

// signal wakes a run, or starts it.
func (d *Dispatcher) signal(ctx context.Context, s delivery.Start) error {
	opts := options(s)
	opts.EnableEagerStart = false // not possible together with a signal
	workflow, input := workflowOf(s)
	_, err := d.client.SignalWithStartWorkflow(ctx, s.WorkflowID, email.SignalWake, nil, opts, workflow, input)
	return err
}

// WakeEndpoint makes sure that an endpoint's run exists and looks for due deliveries.
func (d *Dispatcher) WakeEndpoint(ctx context.Context, endpointID string) error {
	if err := d.ready(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	id := email.WebhookWorkflowIDPrefix + endpointID
	_, err := d.client.SignalWithStartWorkflow(ctx, id, email.SignalWake, nil,
		client.StartWorkflowOptions{ID: id, TaskQueue: email.TaskQueue, StaticSummary: "webhook deliveries of one endpoint"},
		email.WorkflowDeliverWebhooks, email.DeliverWebhooksInput{EndpointID: endpointID})
	d.answered(ctx, "dispatch.webhook", endpointID, err)
	return err
}

// answered logs a failed call and, once, that Temporal is away or back. It
// reports whether it makes sense to go on.
func (d *Dispatcher) answered(ctx context.Context, what, id string, err error) bool {
	if err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.down {
			d.down = false
			d.log.Info("temporal.back")
		}
		return true
	}
	_, exists := errors.AsType[*serviceerror.WorkflowExecutionAlreadyStarted](err)
	if exists {
		return true // it ran and ended well
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lastErr = err
	if !d.down {
		d.down = true
		d.log.Warn("temporal.away", "what", what, "id", id, "error", err)
	}
	return false
}
