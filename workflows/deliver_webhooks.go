package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
)

// webhookRoundAtLeast keeps a run from spinning on deliveries that somebody
// else holds at the moment.
const webhookRoundAtLeast = time.Second

// DeliverWebhooks works for one endpoint until nothing waits for it. There is
// at most one such run per endpoint; a wake-up that comes while it ends starts
// the next.
func DeliverWebhooks(ctx workflow.Context, in email.DeliverWebhooksInput) error {
	wake := wakeSignals(ctx)
	for {
		for wake.ReceiveAsync(nil) {
			continue
		}
		workflow.SetCurrentDetails(ctx, "calling the endpoint with what is due")
		res, err := regular(ctx, email.ActivityDeliverWebhooks, act.DeliverDueWebhooks, regularWebhooks("deliver what is due"), in)
		if err != nil {
			return err
		}
		if res.Waiting == 0 {
			if wake.Len() > 0 {
				continue
			}
			return nil
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			return workflow.NewContinueAsNewError(ctx, email.WorkflowDeliverWebhooks, in)
		}
		words := fmt.Sprintf("%d waiting, next %s", res.Waiting, res.NextAt.UTC().Format("15:04"))
		workflow.SetCurrentDetails(ctx, words)
		timerCtx, stop := workflow.WithCancel(ctx)
		sel := workflow.NewSelector(ctx)
		d := max(res.NextAt.Sub(workflow.Now(ctx)), webhookRoundAtLeast)
		sel.AddFuture(workflow.NewTimerWithOptions(timerCtx, d, workflow.TimerOptions{Summary: words}), func(workflow.Future) {})
		sel.AddReceive(wake, func(c workflow.ReceiveChannel, _ bool) { c.ReceiveAsync(nil) })
		sel.Select(ctx)
		stop()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
