package membudget

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// queue makes calls wait, one after the other, and records the order in which they acquire.
type queue struct {
	t *testing.T
	b *Budget
	// got receives the owner of each call that has acquired.
	got chan string
}

// wait makes n calls of an owner wait.
func (q queue) wait(owner string, calls int, n int64) {
	q.t.Helper()
	for range calls {
		waiting := q.b.State().Waiting
		go func() {
			if _, err := q.b.Acquire(q.t.Context(), owner, n); err == nil {
				q.got <- owner
			}
		}()
		require.Eventually(q.t, func() bool { return q.b.State().Waiting == waiting+1 }, time.Minute, time.Millisecond)
	}
}

func held(t *testing.T, b *Budget, owner string, n int64) {
	t.Helper()
	got, err := b.Acquire(t.Context(), owner, n)
	require.NoError(t, err)
	require.Equal(t, n, got)
}

// Many waiting calls of one owner delay another owner's by none: the owner that holds least comes
// first, then owners in turn.
func TestOwnersTakeTurns(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{true, false} {
		t.Run(fmt.Sprint("shared ", shared), func(t *testing.T) {
			t.Parallel()
			q := queue{t, New(Options{Total: 3, Shared: shared}), make(chan string, 100)}
			held(t, q.b, "x", 1)
			if !shared {
				held(t, q.b, "x", 1)
				held(t, q.b, "y", 1)
			} else {
				held(t, q.b, "y", 1)
			}
			q.wait("a", 50, 1)
			q.wait("b", 2, 1)
			q.wait("c", 1, 1)
			q.b.Release("x", 1)
			var order []string
			for range 6 {
				owner := <-q.got
				order = append(order, owner)
				q.b.Release(owner, 1)
			}
			require.Equal(t, []string{"a", "b", "c", "a", "b", "a"}, order)
		})
	}
}

// An owner may hold at most as much as is free afterwards. A call waits for the rest of its owner.
func TestSharesLeaveSomeForTheNextOwner(t *testing.T) {
	t.Parallel()
	b := New(Options{Total: 12, Shared: true})
	require.EqualValues(t, 4, b.MaxCharge())
	fill := func(owner string) (n int) {
		for b.TryAcquire(owner, 1) {
			n++
		}
		return n
	}
	require.Equal(t, 6, fill("a"))
	require.Equal(t, 3, fill("b"))
	require.Equal(t, 1, fill("c"))
	q := queue{t, b, make(chan string, 1)}
	q.wait("a", 1, 1)
	require.Equal(t, 0, fill("d"), "nobody overtakes a waiting call without waiting")
	held(t, b, "d", 1)
	b.Release("b", 3)
	require.Equal(t, State{Total: 12, Used: 8, Waiting: 1}, b.State(), "a still has more than is free")
	b.Release("a", 2)
	require.Equal(t, "a", <-q.got)
}

// A call of more than MaxCharge acquires MaxCharge. Without shares that is everything.
func TestALargeCallHasEverythingWithoutShares(t *testing.T) {
	t.Parallel()
	b := New(Options{Total: 10})
	n, err := b.Acquire(t.Context(), "a", 100)
	require.NoError(t, err)
	require.EqualValues(t, 10, n)
	require.False(t, b.TryAcquire("b", 1))
	b.Release("a", n)
	require.True(t, b.TryAcquire("b", 1))
}

// A large call is overtaken by maxPassed small ones at most, of its own owner or of others. Small
// calls of all owners wait for it then.
func TestALargeCallIsNotOvertakenForEver(t *testing.T) {
	t.Parallel()
	for name, owner := range map[string]string{"by another owner": "small", "by its own owner": "large"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := queue{t, New(Options{Total: 10}), make(chan string, 300)}
			held(t, q.b, "first", 4)
			held(t, q.b, "second", 2)
			q.wait("large", 1, 8)
			for range maxPassed {
				held(t, q.b, owner, 1) // it fits beside what is held
				q.b.Release(owner, 1)
			}
			q.wait(owner, 1, 1)
			q.b.Release("first", 4)
			require.Equal(t, "large", <-q.got)
			q.b.Release("large", 8)
			require.Equal(t, owner, <-q.got)
		})
	}
}

// The bound of waiting calls is exact, however many come at once. Others are not concerned. A call
// that leaves is no longer counted.
func TestWaitingCallsOfAnOwnerAreBounded(t *testing.T) {
	t.Parallel()
	const most, calls = 20, 200
	b := New(Options{Total: 300, Shared: true, MaxWaiting: most})
	held(t, b, "a", 100)
	ctx, cancel := context.WithCancel(t.Context())
	answers := make(chan error, calls)
	var begin sync.WaitGroup
	begin.Add(1)
	for range calls {
		go func() {
			begin.Wait()
			_, err := b.Acquire(ctx, "a", 100)
			answers <- err
		}()
	}
	begin.Done()
	for range calls - most {
		require.ErrorIs(t, <-answers, ErrTooManyWaiting)
	}
	require.Equal(t, State{Total: 300, Used: 100, Waiting: most, Refused: calls - most}, b.State())
	held(t, b, "b", 50)
	cancel()
	for range most {
		require.ErrorIs(t, <-answers, context.Canceled)
	}
	require.Equal(t, State{Total: 300, Used: 150, Refused: calls}, b.State())
}
