// Command nexus has an e-mail sent from a workflow in a namespace that is not
// Postrider's, through a Nexus endpoint:
//
//	temporal operator nexus endpoint create --name postrider --target-namespace default --target-task-queue postrider
//	temporal operator namespace create --namespace orders
//	TEMPORAL_NAMESPACE=orders go run ./nexus -customer ID -from demo@example.com -to you@example.net
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"

	temporal "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
)

// Order is what ConfirmOrder works for.
type Order struct {
	Endpoint, Customer, From, To, Number string
}

// ConfirmOrder sends a confirmation and goes by what became of it. The number makes
// it one e-mail, however often the order is confirmed.
func ConfirmOrder(ctx workflow.Context, o Order) (string, error) {
	m := client.Message{
		From: client.Address{Email: o.From}, To: []client.Address{{Email: o.To}},
		Subject: "Order " + o.Number, Content: client.Content{Text: "Thank you for your order."},
	}
	message, err := json.Marshal(m) //workflowcheck:ignore
	if err != nil {
		return "", err
	}
	in := email.SendEmailInput{CustomerID: o.Customer, Message: message, IdempotencyKey: "confirmation of order " + o.Number}
	var res email.SendEmailResult
	err = workflow.NewNexusClient(o.Endpoint, email.NexusService).
		ExecuteOperation(ctx, email.NexusOperationSend, in, workflow.NexusOperationOptions{Summary: "confirmation"}).Get(ctx, &res)
	if err != nil {
		return "", err
	}
	if res.Status != email.StatusDelivered {
		return "call the customer: the confirmation is " + string(res.Status), nil
	}
	return "confirmed to " + res.Recipients[0].Address, nil
}

func main() {
	o := Order{}
	flag.StringVar(&o.Endpoint, "endpoint", "postrider", "the Nexus endpoint")
	flag.StringVar(&o.Customer, "customer", "", "the customer's id")
	flag.StringVar(&o.From, "from", "", "an address of a domain that is verified for the customer")
	flag.StringVar(&o.To, "to", "", "the recipient")
	flag.StringVar(&o.Number, "order", "5", "the order's number")
	flag.Parse()
	c, err := temporal.Dial(envconfig.MustLoadDefaultClientOptions())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	w := worker.New(c, "orders", worker.Options{})
	w.RegisterWorkflow(ConfirmOrder)
	if err := w.Start(); err != nil {
		log.Fatal(err)
	}
	defer w.Stop()
	run, err := c.ExecuteWorkflow(context.Background(), temporal.StartWorkflowOptions{ID: "order-" + o.Number, TaskQueue: "orders"}, ConfirmOrder, o)
	if err != nil {
		log.Fatal(err)
	}
	var said string
	if err := run.Get(context.Background(), &said); err != nil {
		log.Fatal(err)
	}
	fmt.Println(said)
}
