package pg

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/fairqueue"
)

// given is a slot that an owner has.
type given struct {
	owner   string
	release func()
	err     error
}

// want asks for slots from goroutines of their own, and returns when all of them have one or
// wait.
func want(t *testing.T, s *Slots, out chan given, owner string, n int) {
	t.Helper()
	for range n {
		before, _ := s.Count()
		has := s.has()
		go func() {
			release, err := s.Acquire(t.Context(), owner)
			out <- given{owner, release, err}
		}()
		require.Eventually(t, func() bool { waiting, _ := s.Count(); return waiting > before || s.has() > has }, time.Minute, time.Millisecond)
	}
}

func (s *Slots) has() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

func TestSlots(t *testing.T) {
	t.Parallel()
	t.Run("one owner leaves half of them to others", func(t *testing.T) {
		t.Parallel()
		s, out := NewSlots(8, Backlog{}), make(chan given, 1000)
		want(t, s, out, "a", 100)
		require.Equal(t, 4, s.has())
		want(t, s, out, "b", 1)
		require.Equal(t, 5, s.has(), "b has one at once")
	})
	t.Run("owners take turns", func(t *testing.T) {
		t.Parallel()
		s, out := NewSlots(1, Backlog{}), make(chan given, 1000)
		want(t, s, out, "a", 200)
		first := <-out
		want(t, s, out, "b", 2)
		want(t, s, out, "c", 1)
		var order []string
		for g := first; len(order) < 6; {
			g.release()
			g = <-out
			order = append(order, g.owner)
		}
		require.Equal(t, []string{"a", "b", "c", "a", "b", "a"}, order)
	})
	t.Run("the backlog is bounded", func(t *testing.T) {
		t.Parallel()
		s, out := NewSlots(1, Backlog{Max: fairqueue.Max{Owner: 2, All: 10}, Refuse: refuse}), make(chan given, 10)
		want(t, s, out, "a", 3)
		first := <-out
		_, err := s.Acquire(t.Context(), "a")
		require.Equal(t, email.CodeUnavailable, email.FailureCode(err))
		waiting, refused := s.Count()
		require.Equal(t, 2, waiting)
		require.EqualValues(t, 1, refused)
		first.release()
		first.release() // does nothing
		require.NoError(t, (<-out).err)
		require.Equal(t, 1, s.has())
	})
	t.Run("who has gone has none", func(t *testing.T) {
		t.Parallel()
		s := NewSlots(1, Backlog{})
		release, err := s.Acquire(t.Context(), "a")
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = s.Acquire(ctx, "b")
		require.ErrorIs(t, err, context.Canceled)
		release()
		require.Zero(t, s.has())
		waiting, _ := s.Count()
		require.Zero(t, waiting)
	})
}
