package activities

import "context"

// largeMessage is the size in bytes, before encoding, above which messages share
// Deps.LargeBytes of memory. Loading, rendering and sending a message takes about three times
// its size, and five times where its text has many short lines.
const largeMessage = 1 << 20

// DefaultLargeBytes is Deps.LargeBytes where memory is not short.
const DefaultLargeBytes = 256 << 20

// room waits until there is memory for a large message. It comes before the session
// and the gate, where nobody else waits for this one.
func (a *Activities) room(ctx context.Context, n int64) (release func(), err error) {
	if n <= largeMessage {
		return func() {}, nil
	}
	n = min(n, a.deps.LargeBytes)
	if err := a.large.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return func() { a.large.Release(n) }, nil
}
