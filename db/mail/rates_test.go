package mail_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/delivery"
)

func TestPlacesAreHandedOutOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const pace = time.Second
	began := time.Now()
	var mu sync.Mutex
	var places []time.Time
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 5 {
				asked := time.Now()
				place, ok, err := b.Mail.Draw(b.Ctx, delivery.Demand{Queue: "relay:a", N: 2, Pace: pace})
				mu.Lock()
				places = append(places, asked.Add(place.Wait), asked.Add(place.Wait+pace))
				mu.Unlock()
				if err != nil || !ok || !place.Reserved {
					t.Errorf("draw: %v, %v", ok, err)
				}
			}
		})
	}
	wg.Wait()
	asking := time.Since(began)
	slices.SortFunc(places, time.Time.Compare)
	require.Len(t, places, 100)
	for i, at := range places {
		// A wait is returned some time after it was asked for.
		require.WithinDuration(t, places[0].Add(time.Duration(i)*pace), at, asking+time.Millisecond)
	}
}

func TestANewPaceMovesTheQueue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	draw := func(name string, n int, pace, within time.Duration) (time.Duration, bool) {
		place, ok, err := b.Mail.Draw(b.Ctx, delivery.Demand{Queue: name, N: n, Pace: pace, Sooner: within})
		require.NoError(t, err)
		return place.Wait, ok
	}
	wait, ok := draw("relay:a", 100, time.Minute, 0)
	require.True(t, ok)
	require.InDelta(t, 0, wait.Seconds(), 1, "an empty queue has a place at once")
	wait, _ = draw("relay:a", 1, time.Minute, 0)
	require.InDelta(t, 100*60, wait.Seconds(), 5)
	_, ok = draw("relay:a", 1, time.Minute, time.Hour)
	require.False(t, ok, "nothing that soon")
	wait, ok = draw("relay:a", 1, time.Second, time.Hour)
	require.True(t, ok, "sixty times as fast, the queue is as much shorter")
	require.InDelta(t, 101, wait.Seconds(), 5)
	wait, _ = draw("relay:b", 1, time.Minute, 0)
	require.InDelta(t, 0, wait.Seconds(), 1, "each relay has its own")

	b.Exec("UPDATE rates SET next_at = now() - interval '25 hours', queue_at = NULL WHERE name = 'relay:b'")
	require.NoError(t, b.Mail.Housekeep(b.Ctx))
	require.Equal(t, 1, b.Count("SELECT count(*) FROM rates"), "what nobody waits for is cleared away")
}
