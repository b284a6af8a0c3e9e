package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// body is a usual small mail: 1.6 kB of text and HTML.
var body = func() string {
	line := "Thank you for your order. We have packed it with care and it leaves our warehouse this afternoon. "
	text := strings.Repeat(line, 5)
	return `{"from":{"email":"shop@acme.test","name":"Shop"},"to":[{"email":"customer%d@example.test","name":"A Customer"}],` +
		`"subject":"Your order %d","content":{"text":"` + text + `","html":"<html><body><h1>Thank you</h1><p>` + text + `<\/p><\/body><\/html>"},` +
		`"tags":["order"],"metadata":{"order":"%d"}}`
}()

var serial atomic.Int64

func message() string {
	n := serial.Add(1)
	return fmt.Sprintf(body, n%1000, n, n)
}

// together runs n calls of fn on so many goroutines. The first error ends all.
func together(ctx context.Context, n, goroutines int, fn func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for left.Add(-1) >= 0 && ctx.Err() == nil {
				if err := fn(ctx); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// post sends n e-mails to the API from so many clients, each on a connection it
// keeps, and returns how long each answer took, sorted.
func (d *deployment) post(ctx context.Context, n, clients int) ([]time.Duration, error) {
	var mu sync.Mutex
	var took []time.Duration
	err := d.together(ctx, n, clients, func(ctx context.Context, c *http.Client) error {
		begin := time.Now()
		if _, err := d.postTo(ctx, c, d.key, "/v1.0/emails", message()); err != nil {
			return err
		}
		t := time.Since(begin)
		mu.Lock()
		defer mu.Unlock()
		took = append(took, t)
		return nil
	})
	slices.Sort(took)
	return took, err
}

// together runs n calls of fn from so many clients, with a client of HTTP for all of them.
func (d *deployment) together(ctx context.Context, n, clients int, fn func(ctx context.Context, c *http.Client) error) error {
	transport := &http.Transport{MaxIdleConns: clients, MaxIdleConnsPerHost: clients, MaxConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport}
	return together(ctx, n, clients, func(ctx context.Context) error { return fn(ctx, c) })
}

// postTo sends a body to the API with a key, and returns the answer once it is accepted.
func (d *deployment) postTo(ctx context.Context, c *http.Client, key, path, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+d.apis[d.turn.Add(1)%int64(len(d.apis))]+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	res, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusAccepted {
		return nil, fmt.Errorf("POST %s: %s: %.500s", path, res.Status, data)
	}
	return data, nil
}

// open is how many e-mails have not ended. The query finds them by an index of
// the open ones, so its cost does not grow with the others.
func (d *deployment) open(ctx context.Context) (n int, err error) {
	err = d.pool.QueryRow(ctx, "SELECT count(*) FROM emails WHERE status IN ('queued', 'sending')").Scan(&n)
	return n, err
}

// drainPoll is how often it is asked whether a round is over: seldom, since the answer
// costs whom it is about.
const drainPoll = 100 * time.Millisecond

// drained waits until every e-mail has ended.
func (d *deployment) drained(ctx context.Context) error {
	for {
		n, err := d.open(ctx)
		if err != nil || n == 0 {
			return err
		}
		select {
		case <-time.After(drainPoll):
		case <-ctx.Done():
			return fmt.Errorf("%d e-mails of %s are open: %w\n%s", n, d.name, ctx.Err(), d.logTail())
		}
	}
}

// allDelivered is the check that what was fast was also right.
func (d *deployment) allDelivered(ctx context.Context) error {
	var other int
	if err := d.pool.QueryRow(ctx, "SELECT count(*) FROM emails WHERE status <> 'delivered'").Scan(&other); err != nil {
		return err
	}
	if other > 0 {
		return fmt.Errorf("%s: %d e-mails were not delivered\n%s", d.name, other, d.logTail())
	}
	return nil
}

// percentile of sorted times.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}
