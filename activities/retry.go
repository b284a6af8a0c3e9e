package activities

import (
	"context"
	"time"
)

// journalRetry is the pause between two tries to write the end of an attempt.
const journalRetry = 250 * time.Millisecond

// retryUntil calls try until it returns true, with a pause of every between two calls. It calls
// try at least once. It returns false if ctx ends in a pause.
func retryUntil(ctx context.Context, every time.Duration, try func() bool) bool {
	for !try() {
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return false
		}
	}
	return true
}
