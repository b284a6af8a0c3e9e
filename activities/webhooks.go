package activities

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/endpoint"
)

// Limits of webhook calls. Inline calls end within the 3 s of the local activity even if a
// receiver does not answer: the endpoint's own run makes the later calls.
const (
	inlineWebhookTimeout = time.Second
	inlineWebhookBudget  = 1500 * time.Millisecond
	webhookTimeout       = 15 * time.Second
	webhookConcurrency   = 5
	// webhookBatch deliveries are claimed at a time. The last of them is called within
	// 30 s, which is less than its lease.
	webhookBatch = 10
	// webhookRound is how long a round claims deliveries.
	webhookRound = 45 * time.Second
	// settleWithin bounds the writing of a call's result.
	settleWithin = 10 * time.Second
)

// FireWebhooks makes the webhook calls of an e-mail, to endpoints that have no other delivery
// pending. Endpoints are called concurrently, each in the order of its events. The endpoint's
// own run, which it wakes, makes the other calls and repeats those that fail.
func (a *Activities) FireWebhooks(ctx context.Context, in delivery.FireWebhooksInput) (delivery.FireWebhooksResult, error) {
	start := time.Now()
	var res delivery.FireWebhooksResult
	if in.Waiting == 0 {
		res.Took = since(start)
		return res, nil
	}
	due, others, err := a.deps.Deliveries.ClaimForEmail(ctx, in.EmailID)
	if err != nil {
		return res, failed(ctx, a.deps.Log, "claiming webhooks", err)
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	for id, queue := range byEndpoint(due) {
		wg.Go(func() {
			done, err := a.fire(ctx, queue, start)
			mu.Lock()
			defer mu.Unlock()
			res.Delivered += done
			if left := len(queue) - done; left > 0 {
				res.Pending += left
				others = append(others, id)
			}
			errs = append(errs, err)
		})
	}
	wg.Wait()
	for _, id := range others {
		if err := a.deps.Waker.WakeEndpoint(ctx, id); err != nil {
			// The sweeper finds the endpoint by its overdue deliveries.
			a.deps.Log.WarnContext(ctx, "webhook.wake", "endpoint_id", id, "error", err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return res, failed(ctx, a.deps.Log, "settling a webhook", err)
	}
	res.Took = since(start)
	return res, nil
}

func byEndpoint(due []endpoint.Due) map[string][]endpoint.Due {
	out := map[string][]endpoint.Due{}
	for _, d := range due {
		out[d.Endpoint.ID] = append(out[d.Endpoint.ID], d)
	}
	return out
}

// fire calls one endpoint with the deliveries in order, until a call fails or
// inlineWebhookBudget is over, and releases the rest.
func (a *Activities) fire(ctx context.Context, queue []endpoint.Due, start time.Time) (delivered int, err error) {
	for i, d := range queue {
		if time.Since(start) > inlineWebhookBudget {
			return delivered, a.release(ctx, queue[i:])
		}
		ok, err := a.post(ctx, d, inlineWebhookTimeout)
		if err != nil || !ok {
			return delivered, errors.Join(err, a.release(ctx, queue[i+1:]))
		}
		delivered++
	}
	return delivered, nil
}

// release gives claimed deliveries back, even if ctx is canceled.
func (a *Activities) release(ctx context.Context, due []endpoint.Due) error {
	ds := make([]endpoint.Delivery, len(due))
	for i, d := range due {
		ds[i] = d.Delivery
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	return a.deps.Deliveries.ReleaseDeliveries(ctx, ds)
}

// round is one round of deliveries to one endpoint.
type round struct {
	acts  *Activities
	slots chan struct{}
	wg    sync.WaitGroup

	mu                sync.Mutex
	delivered, failed int
	errs              []error
	// notAttempted are claimed deliveries that no call was made for, because an earlier call
	// of the round failed.
	notAttempted []endpoint.Due
}

// over reports whether a call has failed, so that no further call begins.
func (r *round) over() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed > 0 || len(r.errs) > 0
}

// call starts a call as soon as a slot is free.
func (r *round) call(ctx context.Context, d endpoint.Due) {
	r.slots <- struct{}{}
	if r.over() || ctx.Err() != nil {
		r.notAttempted = append(r.notAttempted, d)
		<-r.slots
		return
	}
	if heartbeats(ctx) {
		activity.RecordHeartbeat(ctx)
	}
	r.wg.Go(func() {
		defer func() { <-r.slots }()
		delivered, err := r.acts.post(ctx, d, webhookTimeout)
		r.mu.Lock()
		defer r.mu.Unlock()
		switch {
		case err != nil:
			r.errs = append(r.errs, err)
		case delivered:
			r.delivered++
		default:
			r.failed++
		}
	})
}

// DeliverDueWebhooks makes one round of an endpoint's due deliveries: until none is
// due, one fails, or webhookRound is over.
func (a *Activities) DeliverDueWebhooks(ctx context.Context, in email.DeliverWebhooksInput) (delivery.DeliverWebhooksResult, error) {
	start := time.Now()
	var res delivery.DeliverWebhooksResult
	if err := a.deps.Deliveries.BeginRound(ctx, in.EndpointID); err != nil {
		return res, failed(ctx, a.deps.Log, "beginning a round of webhooks", err)
	}
	r := &round{acts: a, slots: make(chan struct{}, webhookConcurrency)}
	for !r.over() && time.Since(start) < webhookRound && ctx.Err() == nil {
		due, err := a.deps.Deliveries.ClaimForEndpoint(ctx, in.EndpointID, webhookBatch)
		if err != nil {
			r.wg.Wait()
			return res, failed(ctx, a.deps.Log, "claiming webhooks", err)
		}
		if len(due) == 0 {
			break
		}
		for _, d := range due {
			r.call(ctx, d)
		}
		if due[0].Endpoint.Failures > 0 {
			r.wg.Wait() // the claim gave one delivery, which probes the failing endpoint
		}
	}
	r.wg.Wait()
	res.Delivered, res.Failed = r.delivered, r.failed
	if err := errors.Join(append(r.errs, a.release(ctx, r.notAttempted))...); err != nil {
		return res, failed(ctx, a.deps.Log, "settling a webhook", err)
	}
	b, err := a.deps.Deliveries.EndpointBacklog(ctx, in.EndpointID)
	if err != nil {
		return res, failed(ctx, a.deps.Log, "reading the backlog", err)
	}
	res.Waiting, res.NextAt = b.Waiting, b.NextAt
	res.Since, res.Why, res.Disabled = b.Endpoint.FailingSince, b.Endpoint.LastError, b.Endpoint.Disabled
	if res.Disabled {
		res.Why = b.Endpoint.DisabledReason
	}
	if u, err := url.Parse(b.Endpoint.URL); err == nil {
		res.Host = u.Host // path and query may be secret
	}
	res.Took = since(start)
	return res, nil
}

// post makes one call and writes its result. A call that was canceled because the worker stops
// is released and does not count as a failure of the endpoint.
func (a *Activities) post(ctx context.Context, d endpoint.Due, timeout time.Duration) (delivered bool, err error) {
	r := a.deps.Poster.Post(ctx, d, timeout)
	a.deps.Log.InfoContext(ctx, "webhook.attempted", "endpoint_id", d.Endpoint.ID, "delivery_id", d.Delivery.ID, "type", d.Delivery.Type,
		"attempt", d.Delivery.Attempts+1, "code", r.Status, "ms", r.Duration.Milliseconds(), "verdict", r.Verdict, "error", r.Error)
	if ctx.Err() != nil && r.Status == 0 {
		return false, errors.Join(ctx.Err(), a.release(ctx, []endpoint.Due{d}))
	}
	settleCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	return r.Verdict == endpoint.VerdictDelivered, a.deps.Deliveries.RecordDelivery(settleCtx, d.Delivery, r)
}
