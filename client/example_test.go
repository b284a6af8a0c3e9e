package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
)

// An order's confirmation, sent once even if the program dies and starts over.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.New(os.Getenv("POSTRIDER_URL"), os.Getenv("POSTRIDER_ACCESSKEY"))
	if err != nil {
		fmt.Println(err)
		return
	}
	sent, err := c.Send(ctx, client.Message{
		From:    client.Address{Email: "orders@example.com", Name: "Your Company"},
		To:      []client.Address{{Email: "john@example.net", Name: "John Doe"}},
		Subject: "Your Order Confirmation",
		Content: client.Content{Text: "Thank you for your order #12345."},
	}, client.IdempotencyKey("order-12345"), client.Wait(20*time.Second))
	var refused *client.Error
	switch {
	case errors.As(err, &refused):
		fmt.Println("refused:", refused.Code, refused.Detail, refused.Fields)
	case err != nil:
		fmt.Println("not known whether it was accepted; send it again:", err)
	default:
		for _, r := range sent.Recipients {
			fmt.Println(r.Address, r.Status, r.SMTPCode, r.Text)
		}
	}
}

// This lists the e-mails of today that did not arrive.
func ExampleClient_List() {
	c, err := client.New("https://mail.example.com", os.Getenv("POSTRIDER_ACCESSKEY"))
	if err != nil {
		fmt.Println(err)
		return
	}
	for e, err := range c.List(context.Background(), email.Filter{
		Statuses:    []email.Status{email.StatusBounced, email.StatusFailed},
		CreatedFrom: time.Now().Truncate(24 * time.Hour),
	}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(e.ID, e.Subject, e.Status, e.StatusDetail)
	}
}
