// Command drip sends a series of mails over weeks, and stops when one of them
// bounces or the reader has had enough:
//
//	go run ./drip -customer ID -from demo@example.com -to you@example.net -every 10s
//	temporal workflow signal --workflow-id welcome-you@example.net --name stop
package main

import (
	"flag"
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/examples/internal/mail"
	"github.com/postrider/postrider/examples/internal/program"
)

// Series is what one reader gets.
type Series struct {
	mail.Account
	To    string
	Every time.Duration
	Mails []string
}

// Sent is how far the series came, and why it ended.
type Sent struct {
	Mails int
	End   string
}

// Welcome sends one mail after the other. Each is a child with an id of its own, so
// that a run which is reset or started again sends none twice.
func Welcome(ctx workflow.Context, s Series) (Sent, error) {
	var sent Sent
	stop := workflow.GetSignalChannelWithOptions(ctx, "stop", workflow.SignalChannelOptions{Description: "The reader has had enough"})
	for i, text := range s.Mails {
		if i > 0 {
			// The time or the wish to stop comes first.
			if stopped, _ := stop.ReceiveWithTimeout(ctx, s.Every, nil); stopped {
				sent.End = "stopped by the reader"
				return sent, nil
			}
		}
		in, err := s.Input(client.Message{
			To: []client.Address{{Email: s.To}}, Subject: fmt.Sprintf("Welcome, part %d", i+1), Content: client.Content{Text: text},
			Stream: email.StreamBroadcast, // it may wait for mail that a person is waiting for
			Tags:   []string{"welcome"},
		})
		if err != nil {
			return sent, err
		}
		var res email.SendEmailResult
		child := mail.Child(ctx, workflow.ChildWorkflowOptions{WorkflowID: fmt.Sprintf("%s-%d", workflow.GetInfo(ctx).WorkflowExecution.ID, i+1)})
		if err := workflow.ExecuteChildWorkflow(child, email.WorkflowSendEmail, in).Get(ctx, &res); err != nil {
			return sent, err
		}
		if res.Status != email.StatusDelivered { // further mail to it would harm the sender
			sent.End = "the mail is " + string(res.Status)
			return sent, nil
		}
		sent.Mails++
	}
	sent.End = "complete"
	return sent, nil
}

func main() {
	s := Series{Mails: []string{"How to begin.", "What others do.", "What you may have missed."}}
	flag.StringVar(&s.Customer, "customer", "", "the customer's id")
	flag.StringVar(&s.From, "from", "", "an address of a verified domain")
	flag.StringVar(&s.To, "to", "", "the recipient")
	flag.DurationVar(&s.Every, "every", 7*24*time.Hour, "the time between two mails")
	flag.Parse()
	program.Run("drip", "welcome-"+s.To, Welcome, s)
}
