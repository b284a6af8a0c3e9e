package pg

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/fairqueue"
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
func ask(t *testing.T, ctx context.Context, g *Coalescer[int, int], qs ...int) <-chan groupAnswer {
	t.Helper()
	out := make(chan groupAnswer, len(qs))
	for _, q := range qs {
		go func() {
			a, alone, err := g.Do(ctx, q)
			out <- groupAnswer{q, a, alone, err}
		}()
	}
	return out
}

func refuse() error { return email.Fail(email.CodeUnavailable, "too many wait") }

// awaitWaiting waits until so many are waiting behind the call that is under way.
func (g *Coalescer[Q, A]) awaitWaiting(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { waiting, _ := g.Count(); return waiting == n }, time.Minute, time.Millisecond)
}

func TestGroup(t *testing.T) {
	t.Parallel()
	t.Run("who comes meanwhile goes together", func(t *testing.T) {
		t.Parallel()
		c := newCounter()
		g := NewCoalescer(CoalescerOptions[int, int]{Call: c.call})
		first := ask(t, t.Context(), g, 1)
		require.Equal(t, 1, <-c.asked)
		rest := ask(t, t.Context(), g, 2, 3, 4, 5)
		g.awaitWaiting(t, 4)
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
		g := NewCoalescer(CoalescerOptions[int, int]{Call: c.call})
		first := ask(t, t.Context(), g, 1)
		<-c.asked
		rest := ask(t, t.Context(), g, 2, 3)
		g.awaitWaiting(t, 2)
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
		g := NewCoalescer(CoalescerOptions[int, int]{Call: c.call})
		first := ask(t, t.Context(), g, 1)
		<-c.asked
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := ask(t, ctx, g, 2)
		g.awaitWaiting(t, 1)
		why := errors.New("gone")
		cancel(why)
		require.ErrorIs(t, (<-gone).err, why)
		g.awaitWaiting(t, 0)
		stays := ask(t, t.Context(), g, 3)
		g.awaitWaiting(t, 1)
		c.let <- nil
		<-first
		require.Equal(t, 1, <-c.asked)
		c.let <- nil
		require.Equal(t, 30, (<-stays).a)
	})
}

// ownedCall is a question of an owner.
type ownedCall struct {
	owner  string
	weight int
}

// lots is what a group calls: it tells the questions of each lot, and answers when it is let.
type lots struct {
	asked chan []ownedCall
	let   chan struct{}
}

func (l *lots) call(_ context.Context, qs []ownedCall) ([]bool, error) {
	l.asked <- slices.Clone(qs)
	<-l.let
	return make([]bool, len(qs)), nil
}

// flood is a group whose first lot is held, so that what is asked next waits.
type flood struct {
	*lots
	*Coalescer[ownedCall, bool]
	t    *testing.T
	errs chan error
}

func newFlood(t *testing.T, heaviest int, most Backlog) *flood {
	t.Helper()
	l := &lots{asked: make(chan []ownedCall), let: make(chan struct{})}
	g := NewCoalescer(CoalescerOptions[ownedCall, bool]{Call: l.call, Owner: func(c ownedCall) string { return c.owner }})
	if heaviest > 0 {
		g.opts.Weight, g.opts.MaxWeight = func(c ownedCall) int { return c.weight }, heaviest
	}
	f := &flood{lots: l, Coalescer: g, t: t, errs: make(chan error, 10_000)}
	f.ask("first", 1, 1)
	<-l.asked
	g.waiting.Max, g.opts.Backlog = most.Max, most
	return f
}

// ask asks n questions of an owner at the same time.
func (f *flood) ask(owner string, n, weight int) {
	for range n {
		go func() {
			_, _, err := f.Do(f.t.Context(), ownedCall{owner, weight})
			f.errs <- err
		}()
	}
}

// next lets the lot that is under way end, and tells how many of the next one are whose.
func (f *flood) next() map[string]int {
	f.let <- struct{}{}
	of := map[string]int{}
	for _, c := range <-f.asked {
		of[c.owner]++
	}
	return of
}

func TestOwnersTakeTurnsInLots(t *testing.T) {
	t.Parallel()
	t.Run("who comes after another's flood is in the next lot", func(t *testing.T) {
		t.Parallel()
		f := newFlood(t, 0, Backlog{})
		f.ask("a", 500, 1)
		f.awaitWaiting(t, 500)
		f.ask("b", 1, 1)
		f.awaitWaiting(t, 501)
		require.Equal(t, map[string]int{"a": coalesceMax - 1, "b": 1}, f.next())
		require.Equal(t, map[string]int{"a": coalesceMax}, f.next())
	})
	t.Run("a lot is shared alike", func(t *testing.T) {
		t.Parallel()
		f := newFlood(t, 0, Backlog{})
		f.ask("a", 500, 1)
		f.ask("b", 40, 1)
		f.ask("c", 10, 1)
		f.awaitWaiting(t, 550)
		require.Equal(t, map[string]int{"a": 27, "b": 27, "c": 10}, f.next())
		require.Equal(t, map[string]int{"a": 51, "b": 13}, f.next())
	})
	t.Run("more owners than a lot holds go in order", func(t *testing.T) {
		t.Parallel()
		f := newFlood(t, 0, Backlog{})
		for i := range coalesceMax + 10 {
			f.ask(string(rune('a'+i)), 5, 1)
		}
		f.awaitWaiting(t, 5*(coalesceMax+10))
		first, second := f.next(), f.next()
		require.Len(t, first, coalesceMax)
		require.Len(t, second, coalesceMax)
		for owner := range first {
			delete(second, owner)
		}
		require.Len(t, second, 10, "those that were not in the first lot")
	})
	t.Run("a lot is bounded by weight", func(t *testing.T) {
		t.Parallel()
		f := newFlood(t, 100, Backlog{})
		f.ask("a", 5, 50)
		f.awaitWaiting(t, 5)
		f.ask("b", 1, 1)
		f.ask("huge", 1, 1000)
		f.awaitWaiting(t, 7)
		require.Equal(t, map[string]int{"a": 1, "b": 1}, f.next())
		require.Equal(t, map[string]int{"huge": 1}, f.next(), "what is heavier than a lot goes alone, in its turn")
		require.Equal(t, map[string]int{"a": 2}, f.next())
	})
}

func TestTheBacklogOfALotIsBounded(t *testing.T) {
	t.Parallel()
	f := newFlood(t, 0, Backlog{Max: fairqueue.Max{Owner: 4, All: 6}, Refuse: refuse})
	f.ask("a", 6, 1)
	for range 2 {
		require.Equal(t, email.CodeUnavailable, email.FailureCode(<-f.errs), "a has as many as it may")
	}
	f.ask("b", 2, 1)
	f.awaitWaiting(t, 6)
	f.ask("c", 1, 1)
	require.Equal(t, email.CodeUnavailable, email.FailureCode(<-f.errs))
	f.ask("b", 1, 1)
	require.Equal(t, email.CodeUnavailable, email.FailureCode(<-f.errs))
	f.awaitWaiting(t, 6)
	require.Equal(t, map[string]int{"a": 3, "b": 2, "c": 1}, f.next(), "there is room for others where one has most, and none for more than that")
	_, refused := f.Count()
	require.EqualValues(t, 4, refused)
}
