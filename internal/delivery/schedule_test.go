package delivery_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/delivery"
)

func TestScheduleWait(t *testing.T) {
	t.Parallel()
	s := delivery.DefaultSchedule()
	const middle = 0.5 // no jitter
	for counted, want := range map[int]time.Duration{0: time.Minute, 1: time.Minute, 2: 5 * time.Minute, 5: time.Hour, 9: 12 * time.Hour, 40: 12 * time.Hour} {
		require.Equal(t, want, s.Wait(counted, delivery.Outcome{}, middle), "after %d", counted)
	}
	require.Equal(t, 54*time.Second, s.Wait(1, delivery.Outcome{}, 0))
	require.InDelta(t, float64(66*time.Second), float64(s.Wait(1, delivery.Outcome{}, 0.999999)), float64(time.Millisecond))
	require.Equal(t, 42*time.Second, s.Wait(3, delivery.Outcome{RetryAfter: 42 * time.Second}, 0), "the server's word replaces the schedule")
	for rnd, want := range map[float64]time.Duration{0: 30 * time.Minute, middle: 31*time.Minute + 30*time.Second} {
		require.Equal(t, want, s.Wait(1, delivery.Outcome{RetryAfter: 30 * time.Minute, AtLeast: true}, rnd), "a floor lifts a short step, and no wait is below it")
	}
	require.Equal(t, 12*time.Hour, s.Wait(9, delivery.Outcome{RetryAfter: 12*time.Hour - time.Minute, AtLeast: true}, middle))
	require.Equal(t, 12*time.Hour-time.Minute, s.Wait(9, delivery.Outcome{RetryAfter: 12*time.Hour - time.Minute, AtLeast: true}, 0), "nor one of the schedule")
	require.Equal(t, 12*time.Hour, s.Wait(9, delivery.Outcome{RetryAfter: 30 * time.Minute, AtLeast: true}, middle), "and leaves a long one")
}

func TestAmbiguousWaitsGrow(t *testing.T) {
	t.Parallel()
	waits := []time.Duration{time.Minute, 30 * time.Minute, 4 * time.Hour, 12 * time.Hour}
	require.Len(t, waits, delivery.MaxCopies-1)
	for i, want := range waits {
		require.Equal(t, want, delivery.AmbiguousWait(i+1))
	}
}

func TestScheduleAddsUpToThreeDays(t *testing.T) {
	t.Parallel()
	s := delivery.DefaultSchedule()
	first := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var at []time.Duration
	for now, n := time.Duration(0), 1; now < s.ExpireAfter; n++ {
		at = append(at, now)
		now += s.Wait(n, delivery.Outcome{}, 0.5)
	}
	// The times that DefaultSchedule's comment promises.
	require.Equal(t, []time.Duration{0, time.Minute, 6 * time.Minute, 21 * time.Minute, 51 * time.Minute, 111 * time.Minute,
		231 * time.Minute, 471 * time.Minute, 951 * time.Minute, 1671 * time.Minute, 2391 * time.Minute, 3111 * time.Minute, 3831 * time.Minute}, at)
	require.Equal(t, first.Add(72*time.Hour), s.Deadline(time.Time{}, first))
	require.Equal(t, first, s.Deadline(first, first.Add(-time.Hour)), "the message's own limit wins")
	require.True(t, s.Deadline(time.Time{}, time.Time{}).IsZero(), "without an attempt there is no limit")
}
