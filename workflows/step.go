package workflows

import (
	"context"
	"errors"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
)

// local runs an activity inside the workflow task. The method is only a
// witness: it ties the types of input and result at compile time, which the SDK
// does not; the name finds the registered one.
func local[I, O any](ctx workflow.Context, name string, _ func(context.Context, I) (O, error), opts workflow.LocalActivityOptions, in I) (O, error) {
	var out O
	err := workflow.ExecuteLocalActivity(workflow.WithLocalActivityOptions(ctx, opts), name, in).Get(ctx, &out)
	return out, err
}

// regular runs an activity by way of the server.
func regular[I, O any](ctx workflow.Context, name string, fn func(context.Context, I) (O, error), opts workflow.ActivityOptions, in I) (O, error) {
	return begin(ctx, name, fn, opts, in).get(ctx)
}

// begun is a regular activity under way.
type begun[O any] struct{ workflow.Future }

// begin is regular without waiting for the end.
func begin[I, O any](ctx workflow.Context, name string, _ func(context.Context, I) (O, error), opts workflow.ActivityOptions, in I) begun[O] {
	return begun[O]{workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, opts), name, in)}
}

func (b begun[O]) get(ctx workflow.Context) (O, error) {
	var out O
	err := b.Get(ctx, &out)
	return out, err
}

// final reports an error that another try will not mend: the activity said so.
func final(err error) bool {
	app, ok := errors.AsType[*temporal.ApplicationError](err)
	return ok && app.NonRetryable()
}

// wakeSignals are the wake-ups of either workflow.
func wakeSignals(ctx workflow.Context) workflow.ReceiveChannel {
	return workflow.GetSignalChannelWithOptions(ctx, email.SignalWake, workflow.SignalChannelOptions{
		Description: "Look again: something has changed in Postgres. One too many is harmless",
	})
}

// ignoreWakes takes the wake-ups that a run no longer needs because it ends. The SDK
// would warn of signals that nobody has received.
func ignoreWakes(ctx workflow.Context) {
	for wakes := wakeSignals(ctx); wakes.ReceiveAsync(nil); {
		continue
	}
}

// onWake adds to a selector what wakes a run: a signal, or what has happened within it.
func onWake(ctx workflow.Context, sel workflow.Selector, woken workflow.ReceiveChannel, then func()) {
	for _, ch := range []workflow.ReceiveChannel{wakeSignals(ctx), woken} {
		sel.AddReceive(ch, func(c workflow.ReceiveChannel, _ bool) {
			for c.ReceiveAsync(nil) { // several wake-ups are one
				continue
			}
			then()
		})
	}
}
