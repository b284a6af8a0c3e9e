package pacing_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/pacing"
)

var start = time.Unix(1_000_000, 0).UTC()

// TestBroadcastWaitsBehindTransactional: 2,000 broadcast mails that wait delay
// transactional mail by the Horizon at most. Each of them gets a slot, each slot is
// used once, and few are lost.
func TestBroadcastWaitsBehindTransactional(t *testing.T) {
	t.Parallel()
	const pace = 20 * time.Millisecond
	now := start
	c := &pacing.Clock{Pace: pace, NextSlot: now}
	var reserved, waiting []time.Time
	take := func(stream email.Stream, returning bool) {
		c.Start(now, pace)
		s, ok := c.Take(now, pacing.Request{Stream: stream, N: 1, Returning: returning})
		require.True(t, ok)
		if s.Reserved {
			reserved = append(reserved, s.At)
		} else {
			require.Equal(t, email.StreamBroadcast, stream)
			waiting = append(waiting, s.At)
		}
		if stream != email.StreamBroadcast {
			require.LessOrEqual(t, s.At.Sub(now), pacing.Horizon+pace)
		}
	}
	for range 2000 {
		take(email.StreamBroadcast, false)
	}
	require.Len(t, reserved, 51, "those within the Horizon")
	transactional := 0
	for step := 0; len(waiting) > 0; step++ {
		require.Less(t, step, 10_000, "all of them get a slot")
		now = now.Add(100 * time.Millisecond)
		if step%2 == 0 { // a tenth of the rate
			take(email.StreamTransactional, false)
			transactional++
		}
		before := waiting
		waiting = nil
		for _, at := range before {
			if at.After(now) {
				waiting = append(waiting, at)
				continue
			}
			take(email.StreamBroadcast, true)
		}
	}
	require.Len(t, reserved, 2000+transactional)
	seen := map[time.Time]bool{}
	for _, at := range reserved {
		require.False(t, seen[at], "each slot is used once")
		seen[at] = true
		require.False(t, seen[at.Add(pace/2)])
	}
	require.InDelta(t, 2000+transactional, float64(now.Sub(start)/pace), 200, "few slots are lost")
}

func TestAnIdleClockHasASlotAtOnce(t *testing.T) {
	t.Parallel()
	for _, stream := range []email.Stream{email.StreamTransactional, email.StreamBroadcast} {
		c := &pacing.Clock{Pace: time.Second, NextSlot: start.Add(-time.Hour), NextEstimate: start.Add(-time.Minute)}
		c.Start(start, time.Second)
		s, ok := c.Take(start, pacing.Request{Stream: stream, N: 3})
		require.True(t, ok)
		require.Equal(t, pacing.Slot{At: start, Reserved: true}, s)
		s, ok = c.Take(start, pacing.Request{Stream: stream, N: 1})
		require.True(t, ok)
		require.Equal(t, pacing.Slot{At: start.Add(3 * time.Second), Reserved: stream == email.StreamTransactional}, s)
		was := *c
		_, ok = c.Take(start, pacing.Request{Stream: stream, N: 1, Before: s.At})
		require.False(t, ok, "no slot is sooner")
		require.Equal(t, was, *c, "and none is taken")
	}
}

func TestClockStart(t *testing.T) {
	t.Parallel()
	in := func(d time.Duration) time.Time { return start.Add(d) }
	for name, tt := range map[string]struct {
		clock pacing.Clock
		pace  time.Duration
		want  pacing.Clock
	}{
		"slots in the past are lost": {
			pacing.Clock{Pace: time.Second, NextSlot: in(-time.Hour), NextEstimate: in(-time.Minute)}, time.Second,
			pacing.Clock{Pace: time.Second, NextSlot: start, NextEstimate: start},
		},
		"the same pace moves nothing": {
			pacing.Clock{Pace: time.Second, NextSlot: in(time.Minute), NextEstimate: in(time.Hour)}, time.Second,
			pacing.Clock{Pace: time.Second, NextSlot: in(time.Minute), NextEstimate: in(time.Hour)},
		},
		"a pace sixty times as fast": {
			pacing.Clock{Pace: time.Minute, NextSlot: in(time.Minute), NextEstimate: in(time.Hour)}, time.Second,
			pacing.Clock{Pace: time.Second, NextSlot: in(time.Second), NextEstimate: in(time.Minute)},
		},
		"a pace twice as slow": {
			pacing.Clock{Pace: time.Second, NextSlot: in(time.Second), NextEstimate: in(time.Minute)}, 2 * time.Second,
			pacing.Clock{Pace: 2 * time.Second, NextSlot: in(2 * time.Second), NextEstimate: in(2 * time.Minute)},
		},
		"a difference below a microsecond is none": {
			pacing.Clock{Pace: 333 * time.Microsecond, NextSlot: in(time.Minute), NextEstimate: in(time.Hour)}, 333*time.Microsecond + 333,
			pacing.Clock{Pace: 333*time.Microsecond + 333, NextSlot: in(time.Minute), NextEstimate: in(time.Hour)},
		},
		"no estimate is before the next slot": {
			pacing.Clock{Pace: time.Second, NextSlot: in(time.Minute)}, time.Second,
			pacing.Clock{Pace: time.Second, NextSlot: in(time.Minute), NextEstimate: in(time.Minute)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.clock.Start(start, tt.pace)
			require.Equal(t, tt.want, tt.clock)
		})
	}
}

func TestClockTakeForBroadcast(t *testing.T) {
	t.Parallel()
	in := func(d time.Duration) time.Time { return start.Add(d) }
	const far = time.Hour
	for name, tt := range map[string]struct {
		slot, estimate time.Time
		returning      bool
		want           pacing.Slot
		next, line     time.Time
	}{
		"an estimate beyond the Horizon reserves nothing": {
			in(0), in(far), false, pacing.Slot{At: in(far)}, in(0), in(far + 2*time.Second),
		},
		"an estimate within the Horizon is the next slot": {
			in(0), in(time.Second), false, pacing.Slot{At: in(0), Reserved: true}, in(2 * time.Second), in(3 * time.Second),
		},
		"who returns takes a slot and leaves the estimates of others": {
			in(0), in(far), true, pacing.Slot{At: in(0), Reserved: true}, in(2 * time.Second), in(far),
		},
		"who returns finds the slots taken, and goes to the end": {
			in(far), in(2 * far), true, pacing.Slot{At: in(2 * far)}, in(far), in(2*far + 2*time.Second),
		},
		"the last who returns moves the estimates behind its slots": {
			in(time.Second), in(time.Second), true, pacing.Slot{At: in(time.Second), Reserved: true}, in(3 * time.Second), in(3 * time.Second),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := pacing.Clock{Pace: time.Second, NextSlot: tt.slot, NextEstimate: tt.estimate}
			s, ok := c.Take(start, pacing.Request{Stream: email.StreamBroadcast, N: 2, Returning: tt.returning})
			require.True(t, ok)
			require.Equal(t, tt.want, s)
			require.Equal(t, pacing.Clock{Pace: time.Second, NextSlot: tt.next, NextEstimate: tt.line}, c)
		})
	}
}
