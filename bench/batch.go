package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+d.api+"/v1.0/emails/batch", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+d.key)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return err
	}
	if res.StatusCode != http.StatusAccepted {
		return fmt.Errorf("POST /v1.0/emails/batch: %s: %.500s", res.Status, data)
	}
	return nil
}
