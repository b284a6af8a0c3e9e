package dispatch

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// server is one that takes work of several processes and shares its speed among the calls that are
// under way.
type server struct{ under atomic.Int64 }

// call takes longer the more calls are under way: each alone would take unit.
func (s *server) call(unit time.Duration) {
	time.Sleep(unit * time.Duration(s.under.Add(1)))
	s.under.Add(-1)
}

// atOnce is how many starts may be under way.
func (p *pace) atOnce() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limit
}

// atMost is a number of calls that is counted down.
func atMost(n int64) *atomic.Int64 {
	var left atomic.Int64
	left.Store(n)
	return &left
}

// run has starters of a process call the server n times in all.
func (p *pace) run(s *server, n *atomic.Int64, unit time.Duration) {
	for range starters {
		go func() {
			for n.Add(-1) >= 0 {
				p.begin(context.Background())
				began := time.Now()
				s.call(unit)
				p.note(began, true)
				p.leave()
			}
		}()
	}
}

func TestThePaceOfStarts(t *testing.T) {
	t.Parallel()
	t.Run("a fast server gets as many as there are", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p, s, n := newPace(starters), &server{}, atMost(2000)
			p.run(s, n, 8*time.Millisecond)
			synctest.Wait()
			time.Sleep(5 * time.Second)
			require.EqualValues(t, starters, p.atOnce())
			require.EqualValues(t, starters, s.under.Load())
			time.Sleep(time.Hour)
		})
	})
	t.Run("several processes share a slow one", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s, n := &server{}, atMost(20000)
			var all []*pace
			for range 8 {
				p := newPace(starters)
				p.run(s, n, 10*time.Millisecond)
				all = append(all, p)
			}
			time.Sleep(time.Minute)
			require.Less(t, time.Duration(s.under.Load())*10*time.Millisecond, 2*slowStart, "calls take about as long as a slow one")
			require.Greater(t, s.under.Load(), int64(8), "and the server has enough to do")
			for _, p := range all {
				require.Less(t, p.atOnce(), float64(starters))
			}
			n.Store(0)
			time.Sleep(time.Hour)
		})
	})
	t.Run("one more is let in after the server is fast again", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := newPace(starters)
			for range 100 {
				began := time.Now()
				require.True(t, p.begin(t.Context()))
				time.Sleep(slowStart)
				p.note(began, false)
				p.leave()
			}
			require.EqualValues(t, 1, p.atOnce())
			require.True(t, p.begin(t.Context()))
			second := make(chan bool, 1)
			go func() { second <- p.begin(t.Context()) }()
			synctest.Wait()
			require.Empty(t, second)
			p.leave()
			require.True(t, <-second)
			p.leave()
			ended, end := context.WithCancel(t.Context())
			end()
			require.False(t, p.begin(ended))
			s, n := &server{}, atMost(2000)
			p.run(s, n, time.Millisecond)
			time.Sleep(time.Hour)
			require.EqualValues(t, starters, p.atOnce())
		})
	})
	t.Run("calls that are under way together are one slow round", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := newPace(starters)
			began := time.Now()
			for range starters {
				require.True(t, p.begin(t.Context()))
			}
			time.Sleep(slowStart)
			for range starters {
				p.note(began, true)
				p.leave()
			}
			require.InDelta(t, starters*paceCut, p.atOnce(), 1e-9)
		})
	})
}
