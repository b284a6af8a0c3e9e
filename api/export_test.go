package api

import (
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/postrider/postrider/email"
)

// StatusOf is the table of problems, with what is a fault of our own.
func StatusOf() map[email.Code]int {
	out := map[email.Code]int{codeInternal: 500}
	for code, status := range statusOf {
		out[code] = status
	}
	return out
}

// FilterNames are the query parameters that narrow a list of e-mails.
var FilterNames = filterNames

// Queue is the queue of passwords, without anybody who waits in it.
type Queue struct{ h *hashing }

// Turn is a place in it.
type Turn struct{ t *hashTurn }

// HashesAtOnce and HashesWaiting are its limits.
const (
	HashesAtOnce  = defaultHashesAtOnce
	HashesWaiting = hashesWaiting
)

// NewQueue makes one in which a request waits for so long.
func NewQueue(patience time.Duration) Queue {
	return Queue{newHashing(patience, 0, time.Now)}
}

// Arrive takes a place.
func (q Queue) Arrive(name, network string) Turn { return Turn{q.h.queue(name, network)} }

// Enter waits for the turn.
func (q Queue) Enter(ctx context.Context, name, network string) error {
	return q.h.enter(ctx, name, network)
}

// Leave gives the turn to the next.
func (q Queue) Leave() { q.h.leave() }

// Failed is a wrong password.
func (q Queue) Failed(name, network string) { q.h.failed(name, network) }

// Seen says whether a password of that name waits to be checked.
func (s *Server) Seen(name string) bool {
	s.handlers.auth.passwords.hashing.mu.Lock()
	defer s.handlers.auth.passwords.hashing.mu.Unlock()
	return slices.ContainsFunc(s.handlers.auth.passwords.hashing.waiting, func(t *hashTurn) bool { return t.name == name })
}

// Waiting is how many requests wait for e-mails.
func (s *Server) Waiting() (n int) {
	s.handlers.emails.waiters.mu.Lock()
	defer s.handlers.emails.waiters.mu.Unlock()
	for _, w := range s.handlers.emails.waiters.waiting {
		n += w.requests
	}
	return n
}

// PasswordsWaiting is how many passwords wait to be checked.
func (s *Server) PasswordsWaiting() int {
	s.handlers.auth.passwords.hashing.mu.Lock()
	defer s.handlers.auth.passwords.hashing.mu.Unlock()
	return len(s.handlers.auth.passwords.hashing.waiting)
}

// Succeeded remembers a login.
func (q Queue) Succeeded(name, network string) { q.h.succeeded(name, network) }

// Waiting is how many wait, and Running how many have their turn.
func (q Queue) Waiting() int { return len(q.h.waiting) }

// Running is how many have their turn.
func (q Queue) Running() int { return q.h.running }

// Begun reports whether the turn has come, or why it never will.
func (t Turn) Begun() (bool, error) {
	select {
	case err := <-t.t.begins:
		return err == nil, err
	default:
		return false, nil
	}
}

// HandlerTypes are the structs of handlers by the resource that they answer for.
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
