package activities

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/endpoint"
)

// Limits of webhook calls. Inline ones must not hold an e-mail's run, and end
// within the 3 s of its local activity whatever the receivers do: what does
// not answer at once belongs to the endpoint's own run.
const (
	inlineWebhookTimeout = time.Second
	inlineWebhookBudget  = 1500 * time.Millisecond
	webhookTimeout       = 15 * time.Second
	webhookConcurrency   = 5
	webhookBatch         = 50
)

// FireWebhooks delivers what waits for an e-mail, to endpoints with nothing
// else pending. The rest, and what fails, is left to each endpoint's own run,
// which it wakes.
func (a *Activities) FireWebhooks(ctx context.Context, in email.FireWebhooksInput) (email.FireWebhooksResult, error) {
	start := time.Now()
	var res email.FireWebhooksResult
	if in.Waiting == 0 {
		res.Took = since(start)
		return res, nil
	}
	due, others, err := a.deps.Deliveries.ClaimForEmail(ctx, in.EmailID)
	if err != nil {
		return res, failed(ctx, a.deps.Log, "claiming webhooks", err)
	}
	wake := map[string]bool{}
	for _, id := range others {
		wake[id] = true
	}
	for _, d := range due {
		if wake[d.Endpoint.ID] || time.Since(start) > inlineWebhookBudget {
			// Its lease runs out by itself; the endpoint's run takes it then.
			wake[d.Endpoint.ID] = true
			res.Pending++
			continue
		}
		delivered, err := a.post(ctx, d, inlineWebhookTimeout)
		if err != nil {
			return res, failed(ctx, a.deps.Log, "settling a webhook", err)
		}
		if delivered {
			res.Delivered++
			continue
		}
		wake[d.Endpoint.ID] = true
		res.Pending++
	}
	for id := range wake {
		if err := a.deps.Waker.WakeEndpoint(ctx, id); err != nil {
			// The sweeper finds the endpoint by its overdue deliveries.
			a.deps.Log.WarnContext(ctx, "webhook.wake", "endpoint_id", id, "error", err)
		}
	}
	res.Took = since(start)
	return res, nil
}

// DeliverDueWebhooks makes one round of an endpoint's due deliveries.
func (a *Activities) DeliverDueWebhooks(ctx context.Context, in email.DeliverWebhooksInput) (email.DeliverWebhooksResult, error) {
	start := time.Now()
	var res email.DeliverWebhooksResult
	due, err := a.deps.Deliveries.ClaimForEndpoint(ctx, in.EndpointID, webhookBatch)
	if err != nil {
		return res, failed(ctx, a.deps.Log, "claiming webhooks", err)
	}
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		slots = make(chan struct{}, webhookConcurrency)
		first error
		// spared are those that were not attempted: an endpoint that fails is not asked
		// fifty times whether it still does.
		spared []endpoint.Delivery
	)
	for _, d := range due {
		slots <- struct{}{}
		mu.Lock()
		failing := res.Failed > 0 || first != nil
		mu.Unlock()
		if failing {
			spared = append(spared, d.Delivery)
			<-slots
			continue
		}
		if heartbeats(ctx) {
			activity.RecordHeartbeat(ctx)
		}
		wg.Go(func() {
			defer func() { <-slots }()
			delivered, err := a.post(ctx, d, webhookTimeout)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				first = err
			case delivered:
				res.Delivered++
			default:
				res.Failed++
			}
		})
	}
	wg.Wait()
	if err := errors.Join(first, a.deps.Deliveries.ReleaseDeliveries(ctx, spared)); err != nil {
		return res, failed(ctx, a.deps.Log, "settling a webhook", err)
	}
	if res.Waiting, res.NextAt, err = a.deps.Deliveries.EndpointBacklog(ctx, in.EndpointID); err != nil {
		return res, failed(ctx, a.deps.Log, "reading the backlog", err)
	}
	res.Took = since(start)
	return res, nil
}

// post makes one call and writes its result.
func (a *Activities) post(ctx context.Context, d endpoint.Due, timeout time.Duration) (delivered bool, err error) {
	r := a.deps.Poster.Post(ctx, d, timeout)
	a.deps.Log.InfoContext(ctx, "webhook.attempted", "endpoint_id", d.Endpoint.ID, "delivery_id", d.Delivery.ID, "type", d.Delivery.Type,
		"attempt", d.Delivery.Attempts+1, "code", r.Status, "ms", r.Duration.Milliseconds(), "verdict", r.Verdict, "error", r.Error)
	return r.Verdict == endpoint.VerdictDelivered, a.deps.Deliveries.SettleDelivery(ctx, d.Delivery, r)
}
