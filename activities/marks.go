package activities

import (
	"context"
	"sync"
	"time"

	"github.com/postrider/postrider/email"
)

// marks commit the notes before final dots together: whoever comes while one commit
// is under way is part of the next. So a hundred exchanges at once cost a few
// round trips, and one alone waits for nobody.
type marks struct {
	journal Journal

	mu      sync.Mutex
	waiting []markWaiter
	running bool
}

type markWaiter struct {
	mark email.Mark
	// done gets the one answer.
	done chan error
}

// maxMarks bounds one commit.
const maxMarks = 200

// sent commits a mark. email.ErrSuperseded says that somebody else has the attempt.
// If ctx ends first the answer is not known; the dot must not be written then either.
func (g *marks) sent(ctx context.Context, m email.Mark) error {
	w := markWaiter{mark: m, done: make(chan error, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, w)
	if !g.running {
		g.running = true
		go g.run()
	}
	g.mu.Unlock()
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// markTimeout bounds one commit: well within the lease that it begins.
const markTimeout = 15 * time.Second

func (g *marks) run() {
	for {
		g.mu.Lock()
		batch := g.waiting
		if len(batch) > maxMarks {
			batch = batch[:maxMarks]
		}
		g.waiting = append([]markWaiter(nil), g.waiting[len(batch):]...)
		if len(batch) == 0 {
			g.running = false
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		list := make([]email.Mark, len(batch))
		for i, w := range batch {
			list[i] = w.mark
		}
		ctx, cancel := context.WithTimeout(context.Background(), markTimeout)
		ours, err := g.journal.MarkSent(ctx, list)
		cancel()
		for i, w := range batch {
			e := err
			if e == nil && !ours[i] {
				e = email.ErrSuperseded
			}
			w.done <- e
		}
	}
}
