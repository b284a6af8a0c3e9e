package db

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
)

// TestBroadcastQueuesBehindTransactional: a line of any length costs transactional
// mail a second at most, and nobody in it is forgotten.
func TestBroadcastQueuesBehindTransactional(t *testing.T) {
	t.Parallel()
	const pace = 20 * time.Millisecond
	now := time.Unix(1_000_000, 0)
	q := &queue{PaceUS: pace.Microseconds(), NextAt: now}
	var firms []time.Time
	var line []time.Time
	draw := func(stream email.Stream, came bool) {
		q.begin(now, pace)
		at, firm, ok := q.draw(stream, 1, came, time.Time{})
		require.True(t, ok)
		if firm {
			firms = append(firms, at)
		} else {
			require.Equal(t, email.StreamBroadcast, stream)
			line = append(line, at)
		}
		if stream != email.StreamBroadcast {
			require.LessOrEqual(t, at.Sub(now), near+pace)
		}
	}
	for range 2000 {
		draw(email.StreamBroadcast, false)
	}
	require.Len(t, firms, 51, "those that are near")
	transactional := 0
	for step := 0; len(line) > 0; step++ {
		require.Less(t, step, 10_000, "the line comes to its end")
		now = now.Add(100 * time.Millisecond)
		if step%2 == 0 { // a tenth of the rate
			draw(email.StreamTransactional, false)
			transactional++
		}
		waiting := line
		line = nil
		for _, at := range waiting {
			if at.After(now) {
				line = append(line, at)
				continue
			}
			draw(email.StreamBroadcast, true)
		}
	}
	require.Len(t, firms, 2000+transactional)
	seen := map[time.Time]bool{}
	for _, at := range firms {
		require.False(t, seen[at], "each place is used once")
		seen[at] = true
		require.False(t, seen[at.Add(pace/2)])
	}
	took := now.Sub(time.Unix(1_000_000, 0))
	require.InDelta(t, (2000 + transactional), float64(took/pace), 200, "and few places are lost")
}

func TestAQueueThatIsEmptyHasAPlace(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	for _, stream := range []email.Stream{email.StreamTransactional, email.StreamBroadcast} {
		q := &queue{PaceUS: 1_000_000, NextAt: now.Add(-time.Hour), LineAt: now.Add(-time.Minute)}
		q.begin(now, time.Second)
		at, firm, ok := q.draw(stream, 3, false, time.Time{})
		require.True(t, ok && firm)
		require.Equal(t, now, at)
		at, firm, ok = q.draw(stream, 1, false, time.Time{})
		require.True(t, ok)
		require.Equal(t, stream == email.StreamTransactional, firm)
		require.Equal(t, now.Add(3*time.Second), at)
		_, _, ok = q.draw(stream, 1, false, at)
		require.False(t, ok, "nothing sooner")
	}
}
