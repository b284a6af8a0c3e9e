package activities

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/delivery"
)

// TestInflightDrainWaits: drain refuses new work, and returns when the last of what is under way
// has left.
func TestInflightDrainWaits(t *testing.T) {
	t.Parallel()
	g := newInflight()
	var leaves []func()
	for range 3 {
		leave, err := g.enter()
		require.NoError(t, err)
		leaves = append(leaves, leave)
	}
	leaves[0]() // before the drain
	drained := make(chan error, 1)
	go func() { drained <- g.drain(t.Context()) }()
	require.Eventually(t, g.draining, time.Minute, time.Millisecond)
	_, err := g.enter()
	require.ErrorIs(t, err, errDraining)
	leaves[1]()
	require.NoError(t, g.ctx.Err(), "nothing is cut while the drain waits")
	require.Empty(t, drained)
	leaves[2]()
	require.NoError(t, <-drained)
	require.ErrorIs(t, g.ctx.Err(), context.Canceled)
	require.NoError(t, g.drain(t.Context()), "again")
}

func TestInflightDrainCountsTheRest(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	g := newInflight()
	require.NoError(t, g.drain(ended), "nothing is under way")
	g = newInflight()
	for range 2 {
		_, err := g.enter()
		require.NoError(t, err)
	}
	leave, err := g.enter()
	require.NoError(t, err)
	leave()
	require.EqualError(t, g.drain(ended), "2 SMTP exchanges were still open")
	require.ErrorIs(t, g.ctx.Err(), context.Canceled, "what is left is cut")
}

// TestInflightConcurrent: work may begin and end in any order beside a drain.
func TestInflightConcurrent(t *testing.T) {
	t.Parallel()
	g := newInflight()
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if leave, err := g.enter(); err == nil {
				leave()
			}
		})
	}
	require.NoError(t, g.drain(t.Context()))
	all.Wait()
	require.Zero(t, g.n)
}

func TestRetryUntil(t *testing.T) {
	t.Parallel()
	n := 0
	require.True(t, retryUntil(t.Context(), time.Millisecond, func() bool { n++; return n == 3 }))
	require.Equal(t, 3, n)
	ctx, cancel := context.WithCancel(t.Context())
	n = 0
	require.False(t, retryUntil(ctx, time.Hour, func() bool { n++; cancel(); return false }))
	require.Equal(t, 1, n)
	require.True(t, retryUntil(ctx, time.Hour, func() bool { return true }), "it is tried once in any case")
}

func TestRecordedAttemptsThatNobodyAsksForAreBounded(t *testing.T) {
	t.Parallel()
	xs := newExchanges()
	key := func(i int) exchangeKey { return exchangeKey{fmt.Sprint(i), 1} }
	for i := range maxRecorded + 1 {
		xs.keepRecorded(key(i), &delivery.Recorded{Webhooks: i})
	}
	xs.keepRecorded(key(-1), nil)
	_, ok := xs.takeRecorded(key(0))
	require.False(t, ok)
	_, ok = xs.takeRecorded(key(-1))
	require.False(t, ok)
	rec, ok := xs.takeRecorded(key(maxRecorded))
	require.True(t, ok)
	require.Equal(t, maxRecorded, rec.Webhooks)
	require.Len(t, xs.recorded.byKey, maxRecorded-1)
}
