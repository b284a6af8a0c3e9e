// Command order confirms an order by mail and, where the mail bounces or is not
// delivered within an hour, by a text message:
//
//	go run ./order -customer ID -from demo@example.com -to bounce@example.net -phone +1555
package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/examples/internal/mail"
	"github.com/postrider/postrider/examples/internal/program"
)

// Order is what ConfirmOrder works for.
type Order struct {
	mail.Account
	Number, To, Phone string
}

// patience is how long a mail may be on its way before a text message is the better
// news.
const patience = time.Hour

// ConfirmOrder returns how the customer was informed. A run that is reset or started again
// sends no second mail: the child's id is the message's name. So the message must not
// depend on the time when it was made. With an expires_at counted from now it would be
// another message under the same name, and refused.
func ConfirmOrder(ctx workflow.Context, o Order) (string, error) {
	in, err := o.Input(client.Message{
		To: []client.Address{{Email: o.To}}, Subject: "Order " + o.Number, Content: client.Content{Text: "Thank you for your order."},
		Tags: []string{"order"},
	})
	if err != nil {
		return "", err
	}
	child, callOff := workflow.WithCancel(mail.Child(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: "order-" + o.Number + "-confirmation",
		// If this workflow is terminated, the mail goes on to its own end, rather than
		// being terminated with it, which would hold it.
		ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON,
		// A mail that is called off may be on the wire: its result says what became of it.
		WaitForCancellation: true,
		StaticSummary:       "confirmation of order " + o.Number,
	}))
	defer callOff()
	sending := workflow.ExecuteChildWorkflow(child, email.WorkflowSendEmail, in)
	late := workflow.NewTimerWithOptions(child, patience, workflow.TimerOptions{Summary: "the mail is called off"})
	workflow.NewSelector(ctx).AddFuture(sending, func(workflow.Future) {}).AddFuture(late, func(workflow.Future) { callOff() }).Select(ctx)
	var sent email.SendEmailResult
	// An error means that the message itself is not good, or the account: nothing to
	// retry. The result holds the outcome of a good one.
	if err := sending.Get(ctx, &sent); err != nil {
		return "", err
	}
	if sent.Status == email.StatusDelivered {
		return "by mail", nil
	}
	text := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	err = workflow.ExecuteActivity(text, SendText, o.Phone, "Thank you for order "+o.Number+".").Get(ctx, nil)
	return fmt.Sprintf("by text message: the mail is %s", sent.Status), err
}

// SendText stands for your provider of text messages.
func SendText(_ context.Context, phone, text string) error {
	fmt.Printf("to %s: %s\n", phone, text)
	return nil
}

func main() {
	var o Order
	flag.StringVar(&o.Customer, "customer", "", "the customer's id")
	flag.StringVar(&o.From, "from", "", "an address of a verified domain")
	flag.StringVar(&o.To, "to", "", "the recipient")
	flag.StringVar(&o.Phone, "phone", "", "the recipient's number")
	flag.StringVar(&o.Number, "order", "5", "the order's number")
	flag.Parse()
	program.Run("order", "order-"+o.Number, ConfirmOrder, o, SendText)
}
