package activities

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// BatchGate reads what is due of a batch, and opens attempts at many of its e-mails in one
// transaction.
type BatchGate interface {
	PlanBatch(ctx context.Context, id string) (delivery.BatchPlan, error)
	OpenBatch(ctx context.Context, req delivery.BatchOpenRequest) (opened []delivery.BatchOpening, more bool, err error)
	// ObstructBatch notes the obstacle on up to limit due e-mails, and returns how many.
	ObstructBatch(ctx context.Context, id string, route delivery.Route, obstacle delivery.Obstacle, limit int) (int, error)
	// ThrottleBatch notes on due e-mails that they wait for a relay's rate. moved says that some
	// have left the route.
	ThrottleBatch(ctx context.Context, id string, route delivery.Route, t delivery.BatchThrottle) (moved bool, err error)
	// ExpireBatch ends abandoned attempts, and the e-mails on one route that have expired. It describes
	// the others.
	ExpireBatch(ctx context.Context, id string, route delivery.Route) (delivery.BatchWaiting, error)
}

// BatchMail reads the messages of a lot, and the contents of single attachments.
type BatchMail interface {
	Outgoing(ctx context.Context, ids []string) (map[string]email.Message, error)
	Content(ctx context.Context, blobID string, size int64) ([]byte, error)
}

// BatchJournal renews the leases of a lot's attempts, and records their outcomes.
type BatchJournal interface {
	RenewMany(ctx context.Context, emailIDs []string, owner string) error
	// RecordBatch waits for an e-mail that another transaction has locked. RecordFree leaves
	// such an e-mail out, and returns it in Left.
	RecordBatch(ctx context.Context, endings []delivery.Ending) (delivery.BatchRecorded, error)
	RecordFree(ctx context.Context, endings []delivery.Ending) (delivery.BatchRecorded, error)
	SeenBatch(ctx context.Context, id string) error
}

// BatchController carries out actions on whole batches.
type BatchController interface {
	// ControlBatch carries out the action. wakes are the orders to wake the e-mails that have
	// workflows of their own.
	ControlBatch(ctx context.Context, id string, action email.Action) (wakes []string, err error)
}

// PlanBatch reads how many e-mails of a batch are open and due, and by which routes.
func (a *Activities) PlanBatch(ctx context.Context, in email.SendBatchInput) (delivery.PlanBatchResult, error) {
	start := time.Now()
	p, err := a.deps.BatchGate.PlanBatch(ctx, in.BatchID)
	if err != nil {
		return delivery.PlanBatchResult{}, failed(ctx, a.deps.Log, "planning a batch", err)
	}
	return delivery.PlanBatchResult{CustomerID: p.CustomerID, Stream: p.Stream, Total: p.Total, Open: p.Open, Due: p.Due, Held: p.Held,
		Routes: p.Routes, NextAt: p.NextAt, Took: since(start)}, nil
}

// SendBatchChunk sends the due e-mails of a batch by one route, heartbeating, and takes new
// lots for up to chunkSpan. Without a relay it fails with relay_unavailable and the relay's
// backoff, as SendSMTP does, or an earlier retry if an e-mail expires sooner.
func (a *Activities) SendBatchChunk(ctx context.Context, in delivery.SendChunkInput) (delivery.SendChunkResult, error) {
	start := time.Now()
	c := &chunk{Activities: a, in: in, contents: map[string][]byte{}}
	done := make(chan error, 1)
	leave, err := a.exchanges.enter()
	if err != nil {
		return delivery.SendChunkResult{}, failed(ctx, a.deps.Log, "sending a batch", err)
	}
	defer leave()
	go func() { done <- c.run(ctx, a.exchanges.ctx) }()
	beat := time.NewTicker(a.limits.heartbeatEvery)
	defer beat.Stop()
	for {
		select {
		case err = <-done:
		case <-beat.C:
			activity.RecordHeartbeat(ctx)
			if err := a.deps.BatchJournal.SeenBatch(ctx, in.BatchID); err != nil && ctx.Err() == nil {
				a.deps.Log.WarnContext(ctx, "batch.seen", "batch_id", in.BatchID, "error", err)
			}
			continue
		}
		break
	}
	res := c.result
	res.Took = since(start)
	for id := range c.endpoints {
		if err := a.deps.Waker.WakeEndpoint(ctx, id); err != nil {
			// The sweeper finds the endpoint by its overdue deliveries.
			a.deps.Log.WarnContext(ctx, "webhook.wake", "endpoint_id", id, "error", err)
		}
	}
	a.deps.Log.InfoContext(ctx, "batch.chunk", "batch_id", in.BatchID, "relay", res.Relay.Name, "attempted", res.Sent.Attempted(), "delivered", res.Sent.Delivered,
		"handed_over", res.HandedOver, "unrecorded", len(res.Unrecorded), "more", res.More, "ms", res.MS)
	relay, isRelay := errors.AsType[*delivery.RelayError](err)
	switch {
	case err == nil || res.Sent.Attempted() > 0 || len(res.Unrecorded) > 0:
		res.More = res.More || err != nil // the counts are returned; the next call meets the error
		return res, nil
	case isRelay:
		waiting, err := c.obstruct(ctx, relay)
		if err != nil {
			a.deps.Log.WarnContext(ctx, "batch.obstruct", "batch_id", in.BatchID, "error", err)
			waiting = delivery.BatchWaiting{Due: true}
		}
		why := email.MaskText(relay.Error())
		if in.TellRelayDown || !waiting.Due {
			res.Relay, res.RelayDown, res.NoRelay, res.More = relay.Relay, why, errors.Is(relay, delivery.ErrNoRelay), waiting.Due
			return res, nil
		}
		return res, temporal.NewApplicationErrorWithOptions(why, errRelayUnavailable,
			temporal.ApplicationErrorOptions{NextRetryDelay: relayWait(relay.RetryAfter, waiting.LookIn), Category: temporal.ApplicationErrorCategoryBenign})
	}
	return res, failed(ctx, a.deps.Log, "sending a batch", err)
}

// RecordBatchChunk records the outcomes of attempts that SendBatchChunk could not record.
func (a *Activities) RecordBatchChunk(ctx context.Context, in delivery.RecordChunkInput) (delivery.RecordChunkResult, error) {
	start := time.Now()
	endings := make([]delivery.Ending, len(in.Attempts))
	for i, u := range in.Attempts {
		endings[i] = delivery.Ending{EmailID: u.EmailID, Attempt: u.Attempt, Owner: u.Owner, Relay: u.Relay, Outcomes: u.Outcomes}
	}
	rec, err := a.deps.BatchJournal.RecordBatch(ctx, endings)
	if err != nil {
		return delivery.RecordChunkResult{}, failed(ctx, a.deps.Log, "recording a batch", err)
	}
	for _, u := range in.Attempts {
		a.exchanges.forget(exchangeKey{u.EmailID, u.Attempt})
	}
	return delivery.RecordChunkResult{Sent: batchCounts(rec.Statuses), HandedOver: rec.HandedOver, Took: since(start)}, nil
}

// ControlBatch carries out what a signal or a cancellation of a batch's run asks for.
func (a *Activities) ControlBatch(ctx context.Context, in delivery.ControlBatchInput) (delivery.Took, error) {
	start := time.Now()
	wakes, err := a.deps.BatchController.ControlBatch(ctx, in.BatchID, in.Action)
	if err != nil {
		return delivery.Took{}, failed(ctx, a.deps.Log, "controlling a batch", err)
	}
	if err := a.deps.Waker.Wake(ctx, wakes); err != nil {
		// A sweep carries out the orders.
		a.deps.Log.WarnContext(ctx, "dispatch.wake", "batch_id", in.BatchID, "error", err)
	}
	a.deps.Log.InfoContext(ctx, "batch.controlled", "batch_id", in.BatchID, "action", in.Action)
	return since(start), nil
}

func batchCounts(n email.StatusCounts) email.BatchCounts {
	return email.BatchCounts{
		Delivered: n[email.StatusDelivered], Bounced: n[email.StatusBounced], Failed: n[email.StatusFailed], Canceled: n[email.StatusCanceled],
		Open: n[email.StatusQueued] + n[email.StatusSending],
	}
}
