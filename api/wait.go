package api

import (
	"context"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

// maxWait bounds ?wait=.
const maxWait = 60 * time.Second

// waitPoll is how often Postgres is asked on behalf of all who wait.
const waitPoll = 50 * time.Millisecond

// waitOf reads ?wait=, a duration such as 20s; 0 if there is none.
func waitOf(c *gin.Context) (time.Duration, error) {
	raw := c.Query("wait")
	if raw == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(raw)
	if err != nil || d <= 0 || d > maxWait {
		return 0, invalid("wait", "invalid", "give a time of at most 60s, as wait=20s")
	}
	return d, nil
}

// waiters are the requests that wait for e-mails. One poller asks for all of
// them, and only while there is one; it needs Postgres, not Temporal.
type waiters struct {
	settled func(ctx context.Context, ids []string) ([]string, error)

	mu      sync.Mutex
	waiting map[string]*waiter
	polling bool
}

type waiter struct {
	done chan struct{}
	// requests wait for the same e-mail.
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

// leave forgets a request. The last one takes its e-mail off the poller's list.
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
			continue // those who wait are answered when their time is up
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
