package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
)

// bare is a worker of workflows that do nothing, and the client that starts them.
type bare struct {
	client client.Client
	queue  string
	// ended counts the runs that have come to their end.
	ended atomic.Int64
	// room has an element for each run under way.
	room atomic.Pointer[chan struct{}]
}

// starters is how many starts are under way at once, as in the product.
const starters = 16

// newBare runs a worker like the product's in a namespace of its own.
func newBare(ctx context.Context, st *stack, on *cluster) (*bare, error) {
	if err := st.namespace(ctx, on, "bare"); err != nil {
		return nil, err
	}
	c, err := st.client(on, "bare")
	if err != nil {
		return nil, err
	}
	// The client learns at its first call whether starts may be eager.
	if err := await(ctx, 30*time.Second, "Temporal", func() error {
		_, err := c.CheckHealth(ctx, &client.CheckHealthRequest{})
		return err
	}); err != nil {
		return nil, err
	}
	b := &bare{client: c, queue: "bare"}
	w := worker.New(c, b.queue, worker.Options{
		MaxConcurrentWorkflowTaskExecutionSize:  200,
		MaxConcurrentLocalActivityExecutionSize: 200,
		WorkflowTaskPollerBehavior:              worker.NewPollerBehaviorAutoscaling(worker.PollerBehaviorAutoscalingOptions{InitialNumberOfPollers: 5, MinimumNumberOfPollers: 2, MaximumNumberOfPollers: 50}),
	})
	w.RegisterWorkflowWithOptions(b.empty, workflow.RegisterOptions{Name: "empty"})
	w.RegisterWorkflowWithOptions(b.shape, workflow.RegisterOptions{Name: "shape"})
	if err := w.Start(); err != nil {
		return nil, err
	}
	st.quit = append(st.quit, func() error { w.Stop(); c.Close(); return nil })
	return b, nil
}

func (b *bare) empty(workflow.Context) error {
	b.done()
	return nil
}

// nothing is an activity without an effect.
func nothing(context.Context) error { return nil }

// shape is SendEmail without its work: four local activities and one upsert of
// the search attributes.
func (b *bare) shape(ctx workflow.Context) error {
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: 3 * time.Second})
	for range 4 {
		if err := workflow.ExecuteLocalActivity(ctx, nothing).Get(ctx, nil); err != nil {
			return err
		}
	}
	err := workflow.UpsertTypedSearchAttributes(ctx,
		temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeStatus).ValueSet("delivered"),
		temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeCustomerID).ValueSet("bare"),
		temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeStream).ValueSet("transactional"),
		temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeRelay).ValueSet("sink"),
		temporal.NewSearchAttributeKeyKeywordList(email.SearchAttributeRecipientDomains).ValueSet([]string{"example.test"}))
	b.done()
	return err
}

// inFlight is how many eager runs are under way at once: few enough that the worker
// has room for each, without which a start is not eager.
const inFlight = 128

// run starts n runs and waits for their end.
func (b *bare) run(ctx context.Context, name string, eager bool, n int) error {
	b.ended.Store(0)
	limit := n
	if eager {
		limit = min(n, inFlight)
	}
	room := make(chan struct{}, limit)
	b.room.Store(&room)
	err := together(ctx, n, starters, func(ctx context.Context) error {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		opts := client.StartWorkflowOptions{ID: uuid.NewString(), TaskQueue: b.queue, EnableEagerStart: eager}
		if name == "shape" {
			opts.WorkflowIDReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY
			opts.WorkflowIDConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
			opts.StaticSummary = "transactional e-mail"
			opts.TypedSearchAttributes = temporal.NewSearchAttributes(
				temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeCustomerID).ValueSet("bare"),
				temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeStream).ValueSet("transactional"))
		}
		_, err := b.client.ExecuteWorkflow(ctx, opts, name)
		return err
	})
	for err == nil && b.ended.Load() < int64(n) {
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// done notes the end of a run.
func (b *bare) done() {
	b.ended.Add(1)
	<-*b.room.Load()
}
