// Package mail makes the input of SendEmail.
package mail

import (
	"encoding/json"

	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
)

// Account is on whose behalf mail is sent, and from where.
type Account struct {
	// Customer is a Postrider customer's id; From an address of a domain that is
	// verified for it.
	Customer, From string
}

// To makes the input for one recipient.
func (a Account) To(to, subject, text string) (email.SendEmailInput, error) {
	return a.Input(client.Message{To: []client.Address{{Email: to}}, Subject: subject, Content: client.Content{Text: text}})
}

// Input makes the input for a message.
func (a Account) Input(m client.Message) (email.SendEmailInput, error) {
	m.From = client.Address{Email: a.From}
	// The same message makes the same bytes: JSON sorts maps by their keys.
	raw, err := json.Marshal(m) //workflowcheck:ignore
	return email.SendEmailInput{CustomerID: a.Customer, Message: raw}, err
}

// Child is for starting SendEmail as a child: on Postrider's task queue, whose workers
// have it. An id that names the mail makes it one mail, however often it is started.
func Child(ctx workflow.Context, o workflow.ChildWorkflowOptions) workflow.Context {
	o.TaskQueue = email.TaskQueue
	return workflow.WithChildOptions(ctx, o)
}
