package account

import (
	"context"
	"time"
)

// Actor is who does something, and from where.
type Actor struct {
	// Name is "key:<id>", "user:<id>", "cli", "workflow", "system", or "anonymous" for who
	// tried to log in.
	Name       string
	RemoteAddr string
	RequestID  string
}

// Audited is one action of an actor.
type Audited struct {
	ID string
	At time.Time
	// CustomerID is whose thing it was; empty for the installation's.
	CustomerID string
	Actor      Actor
	// Action is what was done, as "accesskey.created"; Target is to what.
	Action string
	Target string
	Detail string
}

type actorKey struct{}

// WithActor says on whose behalf the calls with a context are made.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// ActorOf is the actor on whose behalf a call is made; the system if none is set.
func ActorOf(ctx context.Context) Actor {
	if a, ok := ctx.Value(actorKey{}).(Actor); ok {
		return a
	}
	return Actor{Name: "system"}
}

// Usage is what a customer sent in a month.
type Usage struct {
	// Month is its first day, in UTC.
	Month      time.Time
	Emails     int64
	Recipients int64
}
