package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// batchMessages is how many messages one request may have.
const batchMessages = 1000

// batchRound sends mails in batches of different messages and waits until all have
// ended.
func (d *deployment) batchRound(ctx context.Context) (sample, error) {
	n := d.st.mails * queueFactor
	return timed(n, func() error {
		for sent := 0; sent < n; sent += batchMessages {
			items := make([]string, min(batchMessages, n-sent))
			for i := range items {
				items[i] = message()
			}
			if err := d.postBatch(ctx, `{"messages":[`+strings.Join(items, ",")+`]}`); err != nil {
				return err
			}
		}
		return d.drained(ctx)
	})
}

// copiesRound sends one message to many recipients, a copy with variables for each.
func (d *deployment) copiesRound(ctx context.Context) (sample, error) {
	n := d.st.mails * queueFactor
	return timed(n, func() error {
		items := make([]string, n)
		for i := range items {
			items[i] = fmt.Sprintf(`{"email":"customer%d@example.test","name":"A Customer","variables":{"order":"%d"}}`, i, i)
		}
		m := `{"from":{"email":"shop@acme.test","name":"Shop"},"subject":"{{name}}, your order {{order}}","content":{"text":"Dear {{name}}, ` +
			text + `","html":"<html><body><h1>Dear {{name}}</h1><p>` + text + `<\/p><\/body><\/html>"}}`
		if err := d.postBatch(ctx, `{"message":`+m+`,"recipients":[`+strings.Join(items, ",")+`]}`); err != nil {
			return err
		}
		return d.drained(ctx)
	})
}

func (d *deployment) postBatch(ctx context.Context, body string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return d.postTo(ctx, http.DefaultClient, "/v1.0/emails/batch", body)
}
