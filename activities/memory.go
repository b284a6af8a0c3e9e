package activities

import (
	"context"

	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/membudget"
)

// largeMessage is the size in bytes, before encoding, above which messages share
// Deps.LargeBytes of memory. Loading, rendering and sending a message takes about three times
// its size, and five times where its text has many short lines.
const largeMessage = 1 << 20

// DefaultLargeBytes is the default of Deps.LargeBytes. A process with less memory sets less.
const DefaultLargeBytes = 256 << 20

// reserveMemory waits until a large message of n bytes fits into Deps.LargeBytes. The caller
// has no session and no open attempt yet, so that no other attempt waits for it. Senders'
// domains take turns. They stand for customers: a verified domain belongs to one customer.
func (a *Activities) reserveMemory(ctx context.Context, route delivery.Route, n int64) (release func(), err error) {
	if n <= largeMessage {
		return func() {}, nil
	}
	owner := route.SenderDomain
	if n, err = a.large.Acquire(ctx, owner, n); err != nil {
		return nil, err
	}
	return func() { a.large.Release(owner, n) }, nil
}

// LargeMessages is the state of the memory that large messages share.
func LargeMessages(a *Activities) membudget.State { return a.large.State() }
