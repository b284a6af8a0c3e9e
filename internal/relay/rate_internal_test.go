package relay

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/smtp"
)

// ledgerFunc is a Ledger.
type ledgerFunc func(n int) time.Duration

func (f ledgerFunc) Draw(_ context.Context, d delivery.Demand) (delivery.Slot, bool, error) {
	return delivery.Slot{Wait: f(d.N), Reserved: true}, true, nil
}

// TestConcurrentCallersShareADraw: those who wait draw together, and each place is used once.
func TestConcurrentCallersShareADraw(t *testing.T) {
	t.Parallel()
	const pace = 10 * time.Millisecond
	now := time.Now()
	var m *meter
	var draws []int
	drawn := 0
	first := make(chan struct{})
	m = newMeter(Relay{Server: smtp.Server{Name: "r"}, Pace: pace}, Options{Now: func() time.Time { return now }, Ledger: ledgerFunc(func(n int) time.Duration {
		if drawn == 0 { // until all the others wait
			close(first)
			require.Eventually(t, func() bool { return m.transactional.waiting.Load() == 50 }, 10*time.Second, time.Millisecond)
		}
		wait := time.Duration(drawn) * pace
		drawn += n
		draws = append(draws, n)
		return wait
	})})
	var mu sync.Mutex
	var places []time.Duration
	var wg sync.WaitGroup
	for i := range 50 {
		if i == 1 {
			<-first
		}
		wg.Go(func() {
			at, reserved, err := m.turn(t.Context(), delivery.Route{})
			mu.Lock()
			defer mu.Unlock()
			places = append(places, at.Sub(now))
			if err != nil || !reserved {
				t.Error(reserved, err)
			}
		})
	}
	wg.Wait()
	slices.Sort(places)
	for i, at := range places {
		require.Equal(t, time.Duration(i)*pace, at)
	}
	require.Equal(t, 1, draws[0], "the first caller is alone")
	require.Equal(t, 10, draws[1], "100 ms' worth, however many wait")

	m.transactional.left, now = 1, now.Add(time.Hour)
	before := len(draws)
	_, _, err := m.turn(t.Context(), delivery.Route{})
	require.NoError(t, err)
	require.Len(t, draws, before+1, "slots that were not used in time are gone")
}
