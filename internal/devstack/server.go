package devstack

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// readyPoll is how often a starting server is asked whether it is ready.
const readyPoll = 50 * time.Millisecond

// startTimeout is how long a server may take to become ready. Postgres recovers
// from a crash within it.
const startTimeout = 2 * time.Minute

// server is a process that has become ready, with what is held for it.
type server struct {
	process *process
	log     *serverLog
	free    func() error  // gives back its directory, once it has ended
	exited  chan struct{} // closed after free if the server ended without Stop
	closed  chan struct{} // closed after free
	err     error         // of free; valid once closed is closed
}

func newServer(p *process, log *serverLog, free func() error) *server {
	s := &server{process: p, log: log, free: free, exited: make(chan struct{}), closed: make(chan struct{})}
	go func() {
		asked := p.wait()
		s.err = s.free()
		if !asked {
			close(s.exited)
		}
		close(s.closed)
	}()
	return s
}

// Exited is closed when the server ended without Stop having been called. Err
// then says how, and its directory can be used again.
func (s *server) Exited() <-chan struct{} { return s.exited }

// Err describes the unexpected end of the server, with the last lines of its
// log. It is nil as long as Exited is open.
func (s *server) Err() error {
	select {
	case <-s.exited:
		return fmt.Errorf("%s ended unexpectedly: %s%s", s.process.name, s.process.failure(), s.log.tail())
	default:
		return nil
	}
}

// Stop ends the server in good order and waits for it. It takes at most 10 s; if
// ctx ends before that, the server is killed, which its next start recovers from.
// Calling it again, or after the server exited, is safe.
func (s *server) Stop(ctx context.Context) error {
	err := s.process.stop(ctx)
	<-s.closed
	if err = errors.Join(err, s.err); err != nil {
		return fmt.Errorf("stop %s: %w", s.process.name, err)
	}
	return nil
}

// awaitReady calls ready until it succeeds, the process ends, or ctx or
// startTimeout does.
func awaitReady(ctx context.Context, p *process, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := ready(attempt)
		cancel()
		// A process that ended cannot be what answered.
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended at its start: %s", p.name, p.failure())
		default:
		}
		if err == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-p.ended:
		case <-ctx.Done():
			return fmt.Errorf("%s did not become ready: %w (its last answer: %w)", p.name, ctx.Err(), err)
		}
	}
}
