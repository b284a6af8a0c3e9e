package fairqueue_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/fairqueue"
)

// out takes everything that is left.
func out(q *fairqueue.Queue[int]) (items []int) {
	for {
		_, item, ok := q.Pop(nil)
		if !ok {
			return items
		}
		items = append(items, item)
	}
}

func push(t *testing.T, q *fairqueue.Queue[int], owner string, items ...int) {
	t.Helper()
	for _, item := range items {
		_, full := q.Push(owner, item)
		require.False(t, full)
	}
}

func TestQueue(t *testing.T) {
	t.Parallel()
	t.Run("owners take turns, each with its oldest item", func(t *testing.T) {
		t.Parallel()
		var q fairqueue.Queue[int]
		push(t, &q, "a", 1, 2, 3)
		push(t, &q, "b", 11, 12)
		push(t, &q, "c", 21)
		require.Equal(t, 6, q.Len())
		require.Equal(t, []int{1, 11, 21, 2, 12, 3}, out(&q))
		require.Zero(t, q.Len())
	})
	t.Run("an owner that comes later has the turn after those that wait", func(t *testing.T) {
		t.Parallel()
		var q fairqueue.Queue[int]
		push(t, &q, "a", 1, 2, 3)
		owner, item, ok := q.Pop(nil)
		require.True(t, ok)
		require.Equal(t, "a", owner)
		require.Equal(t, 1, item)
		push(t, &q, "b", 11, 12)
		require.Equal(t, []int{2, 11, 3, 12}, out(&q))
	})
	t.Run("an owner that may not have its turn keeps it", func(t *testing.T) {
		t.Parallel()
		var q fairqueue.Queue[int]
		push(t, &q, "a", 1)
		push(t, &q, "b", 11, 12)
		_, item, ok := q.Pop(func(owner string, _ int) bool { return owner != "a" })
		require.True(t, ok)
		require.Equal(t, 11, item)
		_, _, ok = q.Pop(func(string, int) bool { return false })
		require.False(t, ok)
		require.Equal(t, []int{1, 12}, out(&q))
	})
	t.Run("an item is taken out", func(t *testing.T) {
		t.Parallel()
		var q fairqueue.Queue[int]
		push(t, &q, "a", 1, 2, 3)
		push(t, &q, "b", 11)
		require.True(t, q.Remove("a", 2))
		require.False(t, q.Remove("a", 2))
		require.True(t, q.Remove("b", 11))
		require.False(t, q.Remove("b", 11))
		require.Equal(t, 2, q.Len())
		require.Equal(t, []int{1, 3}, out(&q))
	})
	t.Run("a full queue refuses the newest of the owner that has most", func(t *testing.T) {
		t.Parallel()
		q := fairqueue.Queue[int]{Max: fairqueue.Max{Owner: 3, All: 4}}
		push(t, &q, "a", 1, 2, 3)
		refused, full := q.Push("a", 4)
		require.True(t, full)
		require.Equal(t, 4, refused, "its owner has as many as it may")
		push(t, &q, "b", 11)
		refused, full = q.Push("c", 21)
		require.True(t, full)
		require.Equal(t, 3, refused, "there is room for another owner")
		refused, full = q.Push("b", 12)
		require.True(t, full)
		require.Equal(t, 12, refused, "and none for more than another owner has")
		require.Equal(t, 4, q.Len())
		q.Add("a", 5)
		require.Equal(t, 5, q.Len(), "an item may be added all the same")
		require.Equal(t, []int{1, 11, 21, 2, 5}, out(&q))
	})
}
