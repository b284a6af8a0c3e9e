package activities

import "context"

// largeMessage is the size in bytes, before encoding, above which messages share
// Deps.LargeBytes of memory. Loading, rendering and sending a message takes about three times
// its size, and five times where its text has many short lines.
const largeMessage = 1 << 20

// DefaultLargeBytes is the default of Deps.LargeBytes. A process with less memory sets less.
const DefaultLargeBytes = 256 << 20

// reserveMemory waits until a large message of n bytes fits into Deps.LargeBytes. The caller
// has no session and no open attempt yet, so that no other attempt waits for it.
func (a *Activities) reserveMemory(ctx context.Context, n int64) (release func(), err error) {
	if n <= largeMessage {
		return func() {}, nil
	}
	n = min(n, a.deps.LargeBytes)
	if err := a.large.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return func() { a.large.Release(n) }, nil
}
