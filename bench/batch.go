package main

import (
	"context"
	"encoding/json"
	"errors"
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

// besideAtMost is how many e-mails are sent beside others, at most.
const besideAtMost = 400

// beside sends transactional e-mails one after the other while broadcast ones of batches go out,
// and returns how long each took to be delivered, sorted.
func (d *deployment) beside(ctx context.Context) (took []time.Duration, err error) {
	for sent := 0; sent < besides; sent += batchCopies {
		if err := d.postCopies(ctx, batchCopies, "broadcast"); err != nil {
			return nil, err
		}
	}
	for len(took) < besideAtMost {
		if open, err := d.open(ctx); err != nil || open == 0 {
			slices.Sort(took)
			return took, err
		}
		one, err := d.sendOn(ctx, d.key, message, 1)
		if err != nil {
			return nil, err
		}
		took = append(took, one...)
	}
	slices.Sort(took)
	return took, d.drained(ctx)
}

// behind is what single e-mails waited for behind a flood of single broadcast ones.
type behind struct {
	// urgent are transactional e-mails of the flood's customer, others broadcast ones of another.
	urgent, others []time.Duration
}

// behindAtMost is how many e-mails of a kind are sent behind a flood.
const behindAtMost = 30

// behind floods a deployment with single broadcast e-mails, and cancels the rest at last.
func (d *deployment) behind(ctx context.Context) (b behind, err error) {
	other, err := d.customer(ctx, "other", "other.test")
	if err != nil {
		return b, err
	}
	if err := d.flood(ctx, besides); err != nil {
		return b, err
	}
	if b.urgent, err = d.sendOn(ctx, d.key, message, behindAtMost); err != nil {
		return b, err
	}
	if b.others, err = d.sendOn(ctx, other, func() string { return broadcast("other.test") }, behindAtMost); err != nil {
		return b, err
	}
	open, err := d.open(ctx)
	if err != nil {
		return b, err
	}
	if open == 0 {
		return b, errors.New("the flood is over: send more")
	}
	if _, err := d.command(ctx, "cancel", "--customer", "bench"); err != nil {
		return b, err
	}
	return b, d.drained(ctx)
}

// flood has n single broadcast e-mails accepted.
func (d *deployment) flood(ctx context.Context, n int) error {
	return d.together(ctx, n, clients, func(ctx context.Context, c *http.Client) error {
		_, err := d.postTo(ctx, c, d.key, "/v1.0/emails", broadcast("acme.test"))
		return err
	})
}

// broadcast is a broadcast e-mail from a domain.
func broadcast(domain string) string {
	return strings.Replace(strings.Replace(message(), "{", `{"stream":"broadcast",`, 1), "shop@acme.test", "shop@"+domain, 1)
}

// sendOn sends n e-mails one after the other and returns how long each took to be delivered, sorted.
func (d *deployment) sendOn(ctx context.Context, key string, message func() string, n int) (took []time.Duration, err error) {
	for range n {
		begin := time.Now()
		answer, err := d.postTo(ctx, http.DefaultClient, key, "/v1.0/emails", message())
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
			time.Sleep(time.Millisecond)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	return took, nil
}

func (d *deployment) postBatch(ctx context.Context, body string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err := d.postTo(ctx, http.DefaultClient, d.key, "/v1.0/emails/batch", body)
	return err
}
