package api

import (
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/postrider/postrider/email"
)

// StatusOf returns statusOf, with the code of errors that it does not have.
func StatusOf() map[email.Code]int {
	out := map[email.Code]int{codeInternal: 500}
	for code, status := range statusOf {
		out[code] = status
	}
	return out
}

// FilterNames are the query parameters that filter e-mails.
var FilterNames = filterNames

// Queue is a hashQueue.
type Queue struct{ h *hashQueue }

// Turn is a request in a Queue.
type Turn struct{ t *hashRequest }

// HashesAtOnce and HashesWaiting are the limits of a Queue.
const (
	HashesAtOnce  = defaultHashesAtOnce
	HashesWaiting = hashesWaiting
)

// NewQueue returns a Queue in which a request waits at most for patience.
func NewQueue(patience time.Duration) Queue {
	return Queue{newHashQueue(patience, 0, time.Now)}
}

// Arrive adds a request.
func (q Queue) Arrive(name, network string) Turn { return Turn{q.h.enqueue(name, network)} }

// Enter adds a request and waits until it may hash.
func (q Queue) Enter(ctx context.Context, name, network string) error {
	return q.h.enter(ctx, name, network)
}

// Leave ends a hash.
func (q Queue) Leave() { q.h.leave() }

// Seen reports whether a password of that name waits to be checked.
func (s *Server) Seen(name string) bool {
	s.handlers.auth.passwords.queue.mu.Lock()
	defer s.handlers.auth.passwords.queue.mu.Unlock()
	return slices.ContainsFunc(s.handlers.auth.passwords.queue.waiting, func(t *hashRequest) bool { return t.name == name })
}

// Waiting returns how many requests wait for verdicts.
func (s *Server) Waiting() (n int) {
	s.handlers.emails.waiters.mu.Lock()
	defer s.handlers.emails.waiters.mu.Unlock()
	for _, w := range s.handlers.emails.waiters.waiting {
		n += w.requests
	}
	return n
}

// TurnsWaiting returns how many requests wait for the turn of large requests.
func (s *Server) TurnsWaiting() int { return s.memory.turns.Waiting() }

// BodiesWaiting returns how many requests wait to reserve memory for their body.
func (s *Server) BodiesWaiting() int { return s.memory.bodies.State().Waiting }

// QueriesHeld returns how many connections for slow queries requests hold.
func (s *Server) QueriesHeld() int64 { return s.memory.slowQueries.State().Used }

// PasswordsWaiting returns how many passwords wait to be checked.
func (s *Server) PasswordsWaiting() int {
	s.handlers.auth.passwords.queue.mu.Lock()
	defer s.handlers.auth.passwords.queue.mu.Unlock()
	return len(s.handlers.auth.passwords.queue.waiting)
}

// Succeeded records a successful login.
func (q Queue) Succeeded(name, network string) { q.h.succeeded(name, network) }

// Waiting returns how many requests wait.
func (q Queue) Waiting() int { return len(q.h.waiting) }

// Running returns how many requests hash.
func (q Queue) Running() int { return q.h.running }

// Begun reports whether the request may hash, or the error that refuses it.
func (t Turn) Begun() (bool, error) {
	select {
	case err := <-t.t.started:
		return err == nil, err
	default:
		return false, nil
	}
}

// HandlerTypes returns the structs of handlers by resource.
func HandlerTypes() map[string]reflect.Type {
	out := map[string]reflect.Type{}
	all := reflect.TypeFor[handlers]()
	for i := range all.NumField() {
		if f := all.Field(i); f.Type.Kind() == reflect.Pointer {
			out[f.Name] = f.Type.Elem()
		}
	}
	return out
}
