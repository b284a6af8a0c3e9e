// Command client sends an e-mail and reads it back, then a batch of two, with nothing but what is
// generated from the API's description. POSTRIDER_URL and POSTRIDER_ACCESSKEY say
// where and as whom; its arguments are the sender and the recipient. It prints the
// e-mail.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
)

func main() {
	if err := run(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, from, to string) error {
	authorize := func(_ context.Context, req *http.Request) error {
		req.Header.Set("Authorization", "Bearer "+os.Getenv("POSTRIDER_ACCESSKEY"))
		return nil
	}
	api, err := NewClientWithResponses(os.Getenv("POSTRIDER_URL"), WithRequestEditorFn(authorize))
	if err != nil {
		return err
	}
	name, text, key := "Generated", "Thanks", "generated-1"
	mail := SendEmail{
		From:     &AddressInput{Email: &from, Name: &name},
		To:       &[]AddressInput{{Email: &to}},
		Subject:  "Your Order",
		Metadata: &map[string]string{"order": "12345"},
	}
	refused, err := api.SendEmailWithResponse(ctx, nil, mail)
	if err != nil {
		return err
	}
	problem := refused.ApplicationproblemJSON400
	if problem == nil || problem.Code != "invalid_request" || problem.Errors == nil || (*problem.Errors)[0].Pointer != "/content" {
		return fmt.Errorf("an e-mail without content: %s: %s", refused.Status(), refused.Body)
	}
	if err := mail.Content.FromContentParts(ContentParts{Text: &text}); err != nil {
		return err
	}
	sent, err := api.SendEmailWithResponse(ctx, &SendEmailParams{IdempotencyKey: &key}, mail)
	if err != nil {
		return err
	}
	if sent.JSON202 == nil {
		return fmt.Errorf("send: %s: %s", sent.Status(), sent.Body)
	}
	read, err := api.GetEmailWithResponse(ctx, sent.JSON202.Id, nil)
	if err != nil {
		return err
	}
	if read.JSON200 == nil {
		return fmt.Errorf("read: %s: %s", read.Status(), read.Body)
	}
	if err := batch(ctx, api, *mail.From, to); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(read.JSON200)
}

// batch sends one message to two recipients and holds it.
func batch(ctx context.Context, api *ClientWithResponses, from AddressInput, to string) error {
	news := SendEmail{From: &from, Subject: "{{name}}"}
	if err := news.Content.FromContentText("Dear {{name}}"); err != nil {
		return err
	}
	mode := SendBatchMode("permissive")
	sent, err := api.SendBatchWithResponse(ctx, nil, SendBatch{Mode: &mode, Message: &news, Recipients: &[]BatchRecipient{
		{Email: to, Variables: &map[string]string{"name": "Bob"}}, {Email: to},
	}})
	if err != nil {
		return err
	}
	if sent.JSON202 == nil {
		return fmt.Errorf("send a batch: %s: %s", sent.Status(), sent.Body)
	}
	items := sent.JSON202.Items
	if len(items) != 2 || items[0].Id == nil || items[1].Error == nil || (*items[1].Error.Errors)[0].Pointer != "/recipients/1/variables/name" {
		return fmt.Errorf("a batch whose second recipient lacks a variable: %s", sent.Body)
	}
	held, err := api.HoldBatchWithResponse(ctx, sent.JSON202.Id)
	if err != nil {
		return err
	}
	if held.JSON200 == nil || held.JSON200.Status != "held" || held.JSON200.Emails.Queued != 1 {
		return fmt.Errorf("hold a batch: %s: %s", held.Status(), held.Body)
	}
	return nil
}
