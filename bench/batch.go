package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
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

// batchCopies is how many recipients one message may have.
const batchCopies = 10_000

// copiesRound sends one message to many recipients, a copy with variables for each.
func (d *deployment) copiesRound(ctx context.Context) (sample, error) {
	n := min(d.st.mails*queueFactor, batchCopies)
	return timed(n, func() error {
		if err := d.postCopies(ctx, n, "transactional"); err != nil {
			return err
		}
		return d.drained(ctx)
	})
}

func (d *deployment) postCopies(ctx context.Context, n int, stream string) error {
	items := make([]string, n)
	for i := range items {
		items[i] = fmt.Sprintf(`{"email":"customer%d@example.test","name":"A Customer","variables":{"order":"%d"}}`, i, i)
	}
	m := `{"from":{"email":"shop@acme.test","name":"Shop"},"stream":"` + stream + `","subject":"{{name}}, your order {{order}}","content":{"text":"Dear {{name}}, ` +
		text + `","html":"<html><body><h1>Dear {{name}}</h1><p>` + text + `<\/p><\/body><\/html>"}}`
	return d.postBatch(ctx, `{"message":`+m+`,"recipients":[`+strings.Join(items, ",")+`]}`)
}

// besides is how many broadcast e-mails are waiting when the first transactional one
// comes beside them.
const besides = 2 * batchCopies

// beside sends transactional e-mails one after the other while broadcast ones go out,
// and returns how long each took to be delivered, sorted.
func (d *deployment) beside(ctx context.Context) (took []time.Duration, err error) {
	for sent := 0; sent < besides; sent += batchCopies {
		if err := d.postCopies(ctx, batchCopies, "broadcast"); err != nil {
			return nil, err
		}
	}
	for {
		if open, err := d.open(ctx); err != nil || open == 0 {
			slices.Sort(took)
			return took, err
		}
		begin := time.Now()
		answer, err := d.postTo(ctx, http.DefaultClient, "/v1.0/emails", message())
		if err != nil {
			return nil, err
		}
		var accepted struct{ ID string }
		if err := json.Unmarshal(answer, &accepted); err != nil {
			return nil, err
		}
		for status := ""; status != "delivered"; {
			if err := d.pool.QueryRow(ctx, "SELECT status FROM emails WHERE id = $1", accepted.ID).Scan(&status); err != nil {
				return nil, err
			}
		}
		took = append(took, time.Since(begin))
	}
}

func (d *deployment) postBatch(ctx context.Context, body string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err := d.postTo(ctx, http.DefaultClient, "/v1.0/emails/batch", body)
	return err
}
