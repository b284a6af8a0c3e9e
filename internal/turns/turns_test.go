package turns

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestOwnersTakeTurns: who has had the last turn comes after the others.
func TestOwnersTakeTurns(t *testing.T) {
	t.Parallel()
	var turns Turns
	end, err := turns.Acquire(t.Context(), "a")
	require.NoError(t, err)
	var order []string
	var mu sync.Mutex
	var all sync.WaitGroup
	for i, owner := range []string{"a", "a", "b", "c", "b"} {
		all.Go(func() {
			end, err := turns.Acquire(t.Context(), owner)
			if err == nil {
				mu.Lock()
				order = append(order, owner)
				mu.Unlock()
				end()
			}
		})
		require.Eventually(t, func() bool { return turns.Waiting() == i+1 }, time.Minute, time.Millisecond)
	}
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := turns.Acquire(ctx, "d")
		gone <- err
	}()
	require.Eventually(t, func() bool { return turns.Waiting() == 6 }, time.Minute, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-gone, context.Canceled)
	require.Equal(t, 5, turns.Waiting())
	end()
	end() // once is enough
	all.Wait()
	require.Equal(t, []string{"b", "a", "c", "a", "b"}, order)
	end, err = turns.Acquire(t.Context(), "a")
	require.NoError(t, err, "nobody has it")
	end()
}
