package workflows

import (
	"context"
	"errors"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
)

// local runs an activity inside the workflow task. The activity is found by its name. The
// method is not called: the compiler takes the types of input and result from it.
func local[I, O any](ctx workflow.Context, name string, _ func(context.Context, I) (O, error), opts workflow.LocalActivityOptions, in I) (O, error) {
	var out O
	err := workflow.ExecuteLocalActivity(workflow.WithLocalActivityOptions(ctx, opts), name, in).Get(ctx, &out)
	return out, err
}

// regular runs an activity through the task queue.
func regular[I, O any](ctx workflow.Context, name string, fn func(context.Context, I) (O, error), opts workflow.ActivityOptions, in I) (O, error) {
	return startRegular(ctx, name, fn, opts, in).get(ctx)
}

// future is the result of a regular activity.
type future[O any] struct{ workflow.Future }

// startRegular starts a regular activity and does not wait for its result.
func startRegular[I, O any](ctx workflow.Context, name string, _ func(context.Context, I) (O, error), opts workflow.ActivityOptions, in I) future[O] {
	return future[O]{workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, opts), name, in)}
}

func (f future[O]) get(ctx workflow.Context) (O, error) {
	var out O
	err := f.Get(ctx, &out)
	return out, err
}

// nonRetryable reports whether the activity marked the error as one that a retry cannot
// correct.
func nonRetryable(err error) bool {
	app, ok := errors.AsType[*temporal.ApplicationError](err)
	return ok && app.NonRetryable()
}

// wakeSignals is the channel of the signal wake.
func wakeSignals(ctx workflow.Context) workflow.ReceiveChannel {
	return workflow.GetSignalChannelWithOptions(ctx, email.SignalWake, workflow.SignalChannelOptions{
		Description: "Read the state in Postgres again. A needless signal is harmless",
	})
}

// ignoreWakes receives the wake-ups that came while the run ended. The SDK warns of a finished
// run that has signals left.
func ignoreWakes(ctx workflow.Context) {
	for wakes := wakeSignals(ctx); wakes.ReceiveAsync(nil); {
		continue
	}
}

// onWake adds the two sources of wake-ups to a selector: the signal, and the channel woken.
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
