package api

import (
	"context"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

// maxWait is the longest ?wait=.
const maxWait = 60 * time.Second

// waitPoll is the interval at which Postgres is queried for all waiting requests together.
const waitPoll = 50 * time.Millisecond

// waitOf reads ?wait=, a duration such as 20s; 0 if it is absent.
func waitOf(c *gin.Context) (time.Duration, error) {
	raw := c.Query("wait")
	if raw == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(raw)
	if err != nil || d <= 0 || d > maxWait {
		return 0, invalid("wait", "invalid", "give a duration of at most 60s, such as wait=20s")
	}
	return d, nil
}

// waiters are the requests that wait for verdicts. One goroutine polls Postgres for all of them
// while there are any. It does not need Temporal.
type waiters struct {
	settled func(ctx context.Context, ids []string) ([]string, error)

	mu      sync.Mutex
	waiting map[string]*waiter
	polling bool
}

type waiter struct {
	done chan struct{}
	// requests is how many requests wait for the same e-mail.
	requests int
}

func (w *waiters) add(id string) *waiter {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting[id] == nil {
		w.waiting[id] = &waiter{done: make(chan struct{})}
	}
	w.waiting[id].requests++
	if !w.polling {
		w.polling = true
		go w.poll()
	}
	return w.waiting[id]
}

// leave removes a request. The e-mail of the last request is no longer polled.
func (w *waiters) leave(id string, one *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if one.requests--; one.requests == 0 && w.waiting[id] == one {
		delete(w.waiting, id)
	}
}

func (w *waiters) poll() {
	tick := time.NewTicker(waitPoll)
	defer tick.Stop()
	for range tick.C {
		w.mu.Lock()
		ids := make([]string, 0, len(w.waiting))
		for id := range w.waiting {
			ids = append(ids, id)
		}
		w.polling = len(ids) > 0
		w.mu.Unlock()
		if len(ids) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
		settled, err := w.settled(ctx, ids)
		cancel()
		if err != nil {
			continue // requests wait until the next poll, or until their time is over
		}
		w.mu.Lock()
		for _, id := range settled {
			if one := w.waiting[id]; one != nil {
				close(one.done)
				delete(w.waiting, id)
			}
		}
		w.mu.Unlock()
	}
}
