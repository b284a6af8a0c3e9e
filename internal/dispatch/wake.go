package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// sweepUnpaused wakes the runs of e-mails that nothing stops any more.
func (d *Dispatcher) sweepUnpaused(ctx context.Context) error {
	return d.sweepOrders(ctx, "dispatch.unpaused", d.outbox.ClaimUnpaused)
}

// sweepWakes signals the runs of e-mails that a process has changed and not signalled itself: it
// has no Temporal client, it died, or Temporal did not answer.
func (d *Dispatcher) sweepWakes(ctx context.Context) error {
	return d.sweepOrders(ctx, "dispatch.wake", d.outbox.ClaimWakes)
}

// sweepOrders carries out orders to wake runs, until there are none or Temporal is away. The orders
// that are left come again when their lease runs out.
func (d *Dispatcher) sweepOrders(ctx context.Context, what string, claim func(ctx context.Context, lease time.Duration, limit int) ([]delivery.Wake, error)) error {
	for {
		wakes, err := claim(ctx, sweepLease, sweepBatch)
		if err != nil || len(wakes) == 0 {
			return err
		}
		switch err := d.wakeAll(ctx, what, wakes); {
		case err == nil:
		case !errors.Is(err, errUnanswered):
			return err
		case d.away():
			return nil // answered has logged it
		}
	}
}

// errUnanswered is in the error of orders of which Temporal has not answered all.
var errUnanswered = errors.New("temporal does not answer")

// wakeAll signals the runs of orders that this process has leased. It stops when Temporal is away.
// If Temporal did not answer all of them, the error is an errUnanswered. An order is deleted after
// its run has the signal, so a process that dies loses none.
func (d *Dispatcher) wakeAll(ctx context.Context, what string, wakes []delivery.Wake) error {
	var mu sync.Mutex
	var done []string // ids
	var unanswered error
	concurrently(wakes, func(w delivery.Wake) bool {
		callCtx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		err := d.wakeRun(callCtx, w)
		answered := d.answered(ctx, what, w.WorkflowID, err)
		mu.Lock()
		defer mu.Unlock()
		if !answered {
			unanswered = fmt.Errorf("%w: %w", errUnanswered, err)
			return ctx.Err() == nil && !d.away()
		}
		done = append(done, w.IDs...)
		return true
	})
	if len(done) > 0 {
		if err := d.outbox.Woken(ctx, done); err != nil {
			return err
		}
	}
	return unanswered
}

func (d *Dispatcher) wakeRun(ctx context.Context, w delivery.Wake) error {
	if w.Ended {
		return d.tell(ctx, w.WorkflowID)
	}
	return d.signalRun(ctx, w.Start)
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
// expired: an operator wanted it to stop. After the loss of Temporal's database, all open mail comes
// this way, as fast as Temporal takes it.
func (d *Dispatcher) sweepOverdue(ctx context.Context) error {
	type overdue struct {
		delivery.Start
		revived bool
	}
	var left []delivery.Start
	for {
		starts, err := d.outbox.ClaimOverdue(ctx, sweepBatch)
		if err != nil || len(starts) == 0 {
			return errors.Join(err, d.returnOverdue(ctx, left))
		}
		runs := make([]*overdue, len(starts))
		for i, s := range starts {
			runs[i] = &overdue{Start: s}
		}
		concurrently(runs, func(o *overdue) bool {
			d.log.Warn("dispatch.overdue", "workflow_id", o.WorkflowID)
			o.revived = d.answered(ctx, "dispatch.overdue", o.WorkflowID, d.revive(ctx, o.Start))
			return o.revived || ctx.Err() == nil && !d.away()
		})
		for _, o := range runs {
			if !o.revived {
				left = append(left, o.Start)
			}
		}
		if d.away() {
			return d.returnOverdue(ctx, left)
		}
	}
}

// returnOverdue gives back what a sweep could not revive, also when ctx has ended.
func (d *Dispatcher) returnOverdue(ctx context.Context, left []delivery.Start) error {
	if len(left) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	return d.outbox.ReturnOverdue(ctx, left)
}

func (d *Dispatcher) revive(stop context.Context, s delivery.Start) error {
	ctx, cancel := context.WithTimeout(stop, startTimeout)
	defer cancel()
	run, err := d.client.DescribeWorkflowExecution(ctx, s.WorkflowID, "")
	if _, gone := errors.AsType[*serviceerror.NotFound](err); err != nil && !gone {
		return err
	}
	info := run.GetWorkflowExecutionInfo()
	if idReused(s, info) {
		id, err := d.outbox.LeaveWorkflowID(ctx, s.EmailID)
		if err != nil {
			d.log.Error("dispatch.leave", "email_id", s.EmailID, "error", err)
			return nil
		}
		s.WorkflowID = id
		return d.signalRun(ctx, s)
	}
	if info.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED {
		return d.signalRun(ctx, s)
	}
	wanted, err := d.terminatedByUser(ctx, info.GetExecution())
	if err != nil {
		return err
	}
	if !wanted {
		d.log.Error("dispatch.exceeded", "workflow_id", s.WorkflowID, "run_id", info.GetExecution().GetRunId(), "advice", "Temporal ended this run because of its size; a new run continues. Please report this.")
		return d.signalRun(ctx, s)
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

// idReused reports whether the workflow id of a direct start is another's by now: such
// ids are not ours to give.
func idReused(s delivery.Start, run *workflowpb.WorkflowExecutionInfo) bool {
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

// sweepDomains wakes the runs of sender domains whose check is late or whose turn it is, and starts
// those that are gone.
func (d *Dispatcher) sweepDomains(ctx context.Context) error {
	ids, err := d.outbox.ClaimOverdueDomains(ctx, sweepBatch)
	concurrently(ids, func(id string) bool {
		return d.WakeDomain(ctx, id) == nil || ctx.Err() == nil && !d.away() // what is left comes again when its lease runs out
	})
	return err
}

// Wake carries out orders to wake runs that are leased to the caller: the runs read their e-mails
// again. Where there is none, one is started, unless the e-mails are finished and need none. A run
// that an operator terminated comes back only when a caller asks for it. Wake stops when the lease
// runs out or Temporal is away. A sweep carries out the orders that are left.
func (d *Dispatcher) Wake(ctx context.Context, orders []string) error {
	if len(orders) == 0 {
		return nil
	}
	if err := d.ready(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, delivery.WakeLease)
	defer cancel()
	var unanswered error
	for some := range slices.Chunk(orders, sweepBatch) {
		wakes, err := d.outbox.Wakes(ctx, some)
		if err != nil {
			return err
		}
		err = d.wakeAll(ctx, "dispatch.wake", wakes)
		if err != nil && (!errors.Is(err, errUnanswered) || d.away()) {
			return err
		}
		unanswered = errors.Join(unanswered, err)
	}
	return unanswered
}

// signalRun wakes a run, or starts it.
func (d *Dispatcher) signalRun(ctx context.Context, s delivery.Start) error {
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

// WakeDomain makes sure that a sender domain's run exists and looks whether a check is due.
func (d *Dispatcher) WakeDomain(ctx context.Context, domainID string) error {
	if err := d.ready(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	id := email.DomainWorkflowIDPrefix + domainID
	_, err := d.client.SignalWithStartWorkflow(ctx, id, email.SignalWake, nil,
		client.StartWorkflowOptions{ID: id, TaskQueue: email.TaskQueue, StaticSummary: "verification of a sender domain",
			StaticDetails: fmt.Sprintf("Sender domain `%s`. The current details say where it is and what comes next.\n\nSignal and update: `verify_now`.", domainID)},
		email.WorkflowVerifyDomain, email.VerifyDomainInput{DomainID: domainID})
	d.answered(ctx, "dispatch.domain", domainID, err)
	return err
}
