// Command approval sends a mail after a person has approved it:
//
//	go run ./approval -customer ID -from demo@example.com -to you@example.net
//	temporal workflow update execute --workflow-id announcement --name decide --input '{"Approved":true,"By":"ann"}'
package main

import (
	"errors"
	"flag"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/examples/internal/mail"
	"github.com/postrider/postrider/examples/internal/program"
)

// Draft is a mail that waits for approval.
type Draft struct {
	mail.Account
	To, Subject, Text string
}

// Decision is the input of the update "decide".
type Decision struct {
	Approved bool
	By       string
}

// deadline is how long a draft waits. Without a decision it is not sent.
const deadline = 24 * time.Hour

// Announce says what became of the draft.
func Announce(ctx workflow.Context, d Draft) (string, error) {
	var decision *Decision
	err := workflow.SetUpdateHandlerWithOptions(ctx, "decide", func(_ workflow.Context, in Decision) error {
		decision = &in
		return nil
	}, workflow.UpdateHandlerOptions{
		Description: "Approve or refuse the draft, once",
		// A refused update leaves no trace in the history, and its sender reads why.
		Validator: func(in Decision) error {
			switch {
			case decision != nil:
				return errors.New("it was decided by " + decision.By)
			case in.By == "":
				return errors.New("say who decides, as By")
			}
			return nil
		},
	})
	if err != nil {
		return "", err
	}
	workflow.SetCurrentDetails(ctx, "waits for approval: "+d.Subject)
	decided, err := workflow.AwaitWithTimeout(ctx, deadline, func() bool { return decision != nil })
	switch {
	case err != nil:
		return "", err
	case !decided:
		return "not sent: nobody decided", nil
	case !decision.Approved:
		return "not sent: refused by " + decision.By, nil
	}
	in, err := d.Account.To(d.To, d.Subject, d.Text)
	if err != nil {
		return "", err
	}
	var sent email.SendEmailResult
	child := mail.Child(ctx, workflow.ChildWorkflowOptions{WorkflowID: workflow.GetInfo(ctx).WorkflowExecution.ID + "-mail"})
	if err := workflow.ExecuteChildWorkflow(child, email.WorkflowSendEmail, in).Get(ctx, &sent); err != nil {
		return "", err
	}
	return string(sent.Status) + ", approved by " + decision.By, nil
}

func main() {
	d := Draft{Subject: "An announcement", Text: "We have news."}
	flag.StringVar(&d.Customer, "customer", "", "the customer's id")
	flag.StringVar(&d.From, "from", "", "an address of a verified domain")
	flag.StringVar(&d.To, "to", "", "the recipient")
	flag.Parse()
	program.Run("approval", "announcement", Announce, d)
}
