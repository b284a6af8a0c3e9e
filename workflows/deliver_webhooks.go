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

// webhookRoundAtLeast keeps a run from spinning on deliveries that somebody
// else holds at the moment.
const webhookRoundAtLeast = time.Second

// DeliverWebhooks works for one endpoint until nothing waits for it. There is
// at most one such run per endpoint; a wake-up that comes while it ends starts
// the next. Its input is an email.DeliverWebhooksInput.
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
		words := backlogWords(res, workflow.Now(ctx))
		workflow.SetCurrentDetails(ctx, words)
		if res.Waiting == 0 && wake.Len() == 0 {
			return nil
		}
		// Before the wake-ups that have come: the next run looks first of all.
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			return workflow.NewContinueAsNewError(ctx, email.WorkflowDeliverWebhooks, in)
		}
		if wake.Len() > 0 {
			continue
		}
		d := res.NextAt.Sub(workflow.Now(ctx))
		if d <= 0 && res.Delivered > 0 {
			continue // the round was over before the backlog was
		}
		timerCtx, stop := workflow.WithCancel(ctx)
		sel := workflow.NewSelector(ctx)
		timer := workflow.NewTimerWithOptions(timerCtx, max(d, webhookRoundAtLeast), workflow.TimerOptions{Summary: words})
		sel.AddFuture(timer, func(workflow.Future) {})
		sel.AddReceive(wake, func(c workflow.ReceiveChannel, _ bool) { c.ReceiveAsync(nil) })
		sel.Select(ctx)
		stop()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// backlogWords says where an endpoint stands: "hooks.example.com: 3,112 waiting,
// next 14:05; answered 503 Service Unavailable, since 11:02".
func backlogWords(res delivery.DeliverWebhooksResult, now time.Time) string {
	words := "nothing waits"
	switch {
	case res.Disabled:
		words = "disabled: " + res.Why
	case res.Waiting > 0:
		words = fmt.Sprintf("%s waiting, next %s", thousands(res.Waiting), clock(res.NextAt, now))
		if res.Why != "" {
			words += fmt.Sprintf("; %s, since %s", res.Why, clock(res.Since, now))
		}
	}
	if res.Host != "" {
		words = res.Host + ": " + words
	}
	return strings.ToValidUTF8(words[:min(len(words), 200)], "")
}

// clock is a time of day in UTC, with the date where it is another day.
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
