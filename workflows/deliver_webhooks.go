package workflows

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// minWebhookRound is the shortest wait between two rounds. Without it a run would loop
// while another process has claimed the due deliveries.
const minWebhookRound = time.Second

// DeliverWebhooks delivers to one endpoint until no delivery waits for it. At most one run per
// endpoint is open; a wake-up that comes while it ends starts the next. Its input is an
// email.DeliverWebhooksInput.
func DeliverWebhooks(ctx workflow.Context, raw converter.RawValue) error {
	in, err := input[email.DeliverWebhooksInput](raw, takesEndpoint)
	if err == nil && in.EndpointID == "" {
		err = refused(takesEndpoint)
	}
	if err != nil {
		return err
	}
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
		summary := backlogSummary(res, workflow.Now(ctx))
		workflow.SetCurrentDetails(ctx, summary)
		if res.Waiting == 0 && wake.Len() == 0 {
			return nil
		}
		// Checked before the received wake-ups: the next run reads the backlog first anyway.
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			return workflow.NewContinueAsNewError(ctx, email.WorkflowDeliverWebhooks, in)
		}
		if wake.Len() > 0 {
			continue
		}
		d := res.NextAt.Sub(workflow.Now(ctx))
		if d <= 0 && res.Delivered > 0 {
			continue // the round's time was over, and deliveries are still due
		}
		timerCtx, stop := workflow.WithCancel(ctx)
		sel := workflow.NewSelector(ctx)
		timer := workflow.NewTimerWithOptions(timerCtx, max(d, minWebhookRound), workflow.TimerOptions{Summary: summary})
		sel.AddFuture(timer, func(workflow.Future) {})
		sel.AddReceive(wake, func(c workflow.ReceiveChannel, _ bool) { c.ReceiveAsync(nil) })
		sel.Select(ctx)
		stop()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// backlogSummary describes an endpoint's backlog: "hooks.example.com: 3,112 waiting,
// next 14:05; answered 503 Service Unavailable, since 11:02".
func backlogSummary(res delivery.DeliverWebhooksResult, now time.Time) string {
	summary := "nothing waits"
	switch {
	case res.Disabled:
		summary = "disabled: " + res.Why
	case res.Waiting > 0:
		summary = fmt.Sprintf("%s waiting, next %s", thousands(res.Waiting), clock(res.NextAt, now))
		if res.Why != "" {
			summary += fmt.Sprintf("; %s, since %s", res.Why, clock(res.Since, now))
		}
	}
	if res.Host != "" {
		summary = res.Host + ": " + summary
	}
	return strings.ToValidUTF8(summary[:min(len(summary), 200)], "")
}

// clock formats a time of day in UTC, with the date if it is not today.
func clock(at, now time.Time) string {
	layout := "15:04"
	if at.UTC().YearDay() != now.UTC().YearDay() {
		layout = "2006-01-02 15:04"
	}
	return at.UTC().Format(layout)
}

func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
