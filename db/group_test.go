package db

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// counter is what a group calls: it says how many were asked for, and answers when
// it is let.
type counter struct {
	asked chan int
	let   chan error
}

func newCounter() *counter { return &counter{asked: make(chan int), let: make(chan error)} }

func (c *counter) call(_ context.Context, qs []int) ([]int, error) {
	c.asked <- len(qs)
	if err := <-c.let; err != nil {
		return nil, err
	}
	out := make([]int, len(qs))
	for i, q := range qs {
		out[i] = q * 10
	}
	return out, nil
}

type groupAnswer struct {
	q, a  int
	alone bool
	err   error
}

// ask asks from goroutines of their own, and returns when all are waiting.
func ask(t *testing.T, ctx context.Context, g *group[int, int], qs ...int) <-chan groupAnswer {
	t.Helper()
	out := make(chan groupAnswer, len(qs))
	for _, q := range qs {
		go func() {
			a, alone, err := g.do(ctx, q)
			out <- groupAnswer{q, a, alone, err}
		}()
	}
	return out
}

// wait waits until so many are waiting behind the call that is under way.
func (g *group[Q, A]) wait(n int) {
	for {
		g.mu.Lock()
		have := len(g.waiting)
		g.mu.Unlock()
		if have == n {
			return
		}
	}
}

func TestGroup(t *testing.T) {
	t.Parallel()
	t.Run("who comes meanwhile goes together", func(t *testing.T) {
		t.Parallel()
		c := newCounter()
		g := &group[int, int]{call: c.call}
		first := ask(t, t.Context(), g, 1)
		require.Equal(t, 1, <-c.asked)
		rest := ask(t, t.Context(), g, 2, 3, 4, 5)
		g.wait(4)
		c.let <- nil
		require.Equal(t, groupAnswer{q: 1, a: 10, alone: true}, <-first)
		require.Equal(t, 4, <-c.asked)
		c.let <- nil
		for range 4 {
			a := <-rest
			require.Equal(t, groupAnswer{q: a.q, a: a.q * 10}, a)
		}
		again := ask(t, t.Context(), g, 6)
		require.Equal(t, 1, <-c.asked, "it begins anew")
		c.let <- nil
		require.Equal(t, 60, (<-again).a)
	})
	t.Run("an error is everybody's, and not for good", func(t *testing.T) {
		t.Parallel()
		c := newCounter()
		g := &group[int, int]{call: c.call}
		first := ask(t, t.Context(), g, 1)
		<-c.asked
		rest := ask(t, t.Context(), g, 2, 3)
		g.wait(2)
		broken := errors.New("broken")
		c.let <- broken
		require.Equal(t, groupAnswer{q: 1, alone: true, err: broken}, <-first)
		<-c.asked
		c.let <- broken
		for range 2 {
			a := <-rest
			require.False(t, a.alone, "it is worth asking alone")
			require.ErrorIs(t, a.err, broken)
		}
	})
	t.Run("who has gone is not asked for", func(t *testing.T) {
		t.Parallel()
		c := newCounter()
		g := &group[int, int]{call: c.call}
		first := ask(t, t.Context(), g, 1)
		<-c.asked
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := ask(t, ctx, g, 2)
		g.wait(1)
		why := errors.New("gone")
		cancel(why)
		require.ErrorIs(t, (<-gone).err, why)
		stays := ask(t, t.Context(), g, 3)
		g.wait(2)
		c.let <- nil
		<-first
		require.Equal(t, 1, <-c.asked)
		c.let <- nil
		require.Equal(t, 30, (<-stays).a)
	})
}
