// Command digest collects what happens over a day and mails it at the day's end. Items
// come by signal, from anywhere; the first one begins the day:
//
//	go run ./digest -customer ID -from demo@example.com -to you@example.net -for 1m
//	temporal workflow signal --workflow-id digest --name add --input '"a thing happened"'
package main

import (
	"flag"
	"fmt"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/examples/internal/mail"
	"github.com/postrider/postrider/examples/internal/program"
)

// Digest is whom to tell, and how often at most.
type Digest struct {
	mail.Account
	To  string
	For time.Duration
	// Items came too late for the digest before.
	Items []string
}

// maxItems sends a digest before its time: a history holds only so much.
const maxItems = 500

// Collect sends one digest and then begins the next, as a new run: a run's history
// would grow without end.
func Collect(ctx workflow.Context, d Digest) error {
	signals := workflow.GetSignalChannelWithOptions(ctx, "add", workflow.SignalChannelOptions{Description: "One more item for the digest"})
	items := d.Items
	// A signal's payload is decoded here. Receive drops a signal that it cannot decode and
	// waits for the next one; meanwhile the run would not even see its timer.
	receive := func(c workflow.ReceiveChannel, _ bool) {
		var raw converter.RawValue
		var item string
		c.ReceiveAsync(&raw)
		if err := converter.GetDefaultDataConverter().FromPayload(raw.Payload(), &item); err != nil || item == "" {
			workflow.GetLogger(ctx).Warn("signal without a text", "error", err)
			return
		}
		items = append(items, item)
	}
	for first := workflow.NewSelector(ctx).AddReceive(signals, receive); len(items) == 0; {
		first.Select(ctx) // without a text there is no mail
	}
	dayEnds := workflow.NewTimerWithOptions(ctx, d.For, workflow.TimerOptions{Summary: "the digest is sent"})
	over := false
	sel := workflow.NewSelector(ctx)
	sel.AddFuture(dayEnds, func(workflow.Future) { over = true })
	sel.AddReceive(signals, receive)
	for !over && len(items) < maxItems {
		sel.Select(ctx)
	}
	in, err := d.Account.To(d.To, fmt.Sprintf("%d things happened", len(items)), "- "+strings.Join(items, "\n- "))
	if err != nil {
		return err
	}
	// The run's id makes it one mail per digest: the original one, since a reset gives
	// another, under which the same digest would go out again. The mail's result is not
	// waited for: a digest that bounces changes nothing about the next, and the e-mail
	// itself says so.
	in.IdempotencyKey = "digest " + workflow.GetInfo(ctx).OriginalRunID
	child := mail.Child(ctx, workflow.ChildWorkflowOptions{ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON})
	if err := workflow.ExecuteChildWorkflow(child, email.WorkflowSendEmail, in).GetChildWorkflowExecution().Get(ctx, nil); err != nil {
		return err
	}
	items = nil
	for signals.Len() > 0 { // what came meanwhile is not lost with this run
		receive(signals, true)
	}
	d.Items = items
	return workflow.NewContinueAsNewError(ctx, Collect, d)
}

func main() {
	var d Digest
	flag.StringVar(&d.Customer, "customer", "", "the customer's id")
	flag.StringVar(&d.From, "from", "", "an address of a verified domain")
	flag.StringVar(&d.To, "to", "", "the recipient")
	flag.DurationVar(&d.For, "for", 24*time.Hour, "how long things are collected")
	flag.Parse()
	program.Run("digest", "digest", Collect, d)
}
