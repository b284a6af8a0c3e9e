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
	at := time.Unix(1000, 0)
	turns := Turns{Now: func() time.Time { return at }}
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

// TestLongTurnsDelayOthersOnce: owners whose turns took long come after one whose turns did not,
// also if they came first, until half and half of it is forgotten.
func TestLongTurnsDelayOthersOnce(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	at := time.Unix(1000, 0)
	turns := Turns{Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return at }}
	pass := func(d time.Duration) { mu.Lock(); at = at.Add(d); mu.Unlock() }
	for _, slow := range []string{"a", "b", "c"} {
		end, err := turns.Acquire(t.Context(), slow)
		require.NoError(t, err)
		pass(10 * time.Second)
		end()
	}
	order := func(owners ...string) (got []string) {
		end, err := turns.Acquire(t.Context(), "now")
		require.NoError(t, err)
		var all sync.WaitGroup
		for i, owner := range owners {
			all.Go(func() {
				end, err := turns.Acquire(t.Context(), owner)
				if err != nil {
					return
				}
				mu.Lock()
				got = append(got, owner)
				mu.Unlock()
				end()
			})
			require.Eventually(t, func() bool { return turns.Waiting() == i+1 }, time.Minute, time.Millisecond)
		}
		end()
		all.Wait()
		return got
	}
	require.Equal(t, []string{"fast", "fast", "a", "b"}, order("a", "b", "fast", "fast"))
	pass(10 * halfLife)
	require.Equal(t, []string{"a", "fast"}, order("a", "fast"))
}

// TestAFewHaveTurnsAtOnce, an owner with none before one with some.
func TestAFewHaveTurnsAtOnce(t *testing.T) {
	t.Parallel()
	turns := Turns{AtOnce: 2}
	first, err := turns.Acquire(t.Context(), "a")
	require.NoError(t, err)
	second, err := turns.Acquire(t.Context(), "a")
	require.NoError(t, err)
	got := make(chan string, 2)
	for i, owner := range []string{"a", "b"} {
		go func() {
			if _, err := turns.Acquire(t.Context(), owner); err == nil {
				got <- owner
			}
		}()
		require.Eventually(t, func() bool { return turns.Waiting() == i+1 }, time.Minute, time.Millisecond)
	}
	first()
	require.Equal(t, "b", <-got)
	second()
	require.Equal(t, "a", <-got)
}

// TestWaitingCallsOfAnOwnerAreBounded, exactly, however many come at once. Other owners still wait
// for their turn.
func TestWaitingCallsOfAnOwnerAreBounded(t *testing.T) {
	t.Parallel()
	const most, calls = 20, 200
	var turns Turns
	end, err := turns.Acquire(t.Context(), "another")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	answers := make(chan error, calls)
	var begin sync.WaitGroup
	begin.Add(1)
	for range calls {
		go func() {
			begin.Wait()
			_, err := turns.AcquireWithin(ctx, "a", most)
			answers <- err
		}()
	}
	begin.Done()
	for range calls - most {
		require.ErrorIs(t, <-answers, ErrTooManyWaiting)
	}
	require.Equal(t, most, turns.Waiting())
	require.EqualValues(t, calls-most, turns.Refused())
	got := make(chan error)
	go func() {
		end, err := turns.AcquireWithin(t.Context(), "b", most)
		if err == nil {
			end()
		}
		got <- err
	}()
	require.Eventually(t, func() bool { return turns.Waiting() == most+1 }, time.Minute, time.Millisecond)
	cancel()
	for range most {
		require.ErrorIs(t, <-answers, context.Canceled)
	}
	end()
	require.NoError(t, <-got)
}
