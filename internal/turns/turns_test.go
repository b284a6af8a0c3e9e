package turns

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestOwnersTakeTurns: who has had a turn comes after the others, however many wait for it.
func TestOwnersTakeTurns(t *testing.T) {
	t.Parallel()
	var turns Turns
	end, err := turns.Acquire(t.Context(), "a")
	require.NoError(t, err)
	var order []string
	var mu sync.Mutex
	var all sync.WaitGroup
	for i, owner := range []string{"a", "a", "b", "b", "b", "a", "c"} {
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
	require.Eventually(t, func() bool { return turns.Waiting() == 8 }, time.Minute, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-gone, context.Canceled)
	require.Equal(t, 7, turns.Waiting())
	end()
	end() // once is enough
	all.Wait()
	require.Equal(t, []string{"b", "a", "c", "b", "a", "b", "a"}, order, "c came last, and waits for one turn of each other")
	end, err = turns.Acquire(t.Context(), "a")
	require.NoError(t, err, "nobody has it")
	end()
}
