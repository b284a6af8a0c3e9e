package relay_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtptest"
)

// queue is a Ledger in memory, on the test's clock.
type queue struct {
	mu    sync.Mutex
	now   time.Time
	next  time.Time
	draws []int
	err   error
}

func (q *queue) Now() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.now
}

func (q *queue) pass(d time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.now = q.now.Add(d)
}

func (q *queue) Draw(_ context.Context, d delivery.Demand) (delivery.Slot, bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return delivery.Slot{}, false, q.err
	}
	if d.Queue != "relay:metered" {
		return delivery.Slot{}, false, errors.New(d.Queue)
	}
	if q.next.Before(q.now) {
		q.next = q.now
	}
	wait := q.next.Sub(q.now)
	if d.Sooner > 0 && wait >= d.Sooner {
		return delivery.Slot{}, false, nil
	}
	q.next = q.next.Add(time.Duration(d.N) * d.Pace)
	q.draws = append(q.draws, d.N)
	return delivery.Slot{Wait: wait, Reserved: true}, true, nil
}

func TestARateIsKept(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{}).Start(t)
	q := &queue{now: time.Now()}
	rs := relays(t, relay.Options{Ledger: q, Now: q.Now, MaxIdle: time.Hour}, url(p, "name=metered&rate=1/m"), url((&smtptest.Peer{}).Start(t), "name=other"))
	require.False(t, rs.Fast(delivery.Route{}), "inline is not for waiting")
	take := func(turn delivery.Turn) (delivery.Turn, error) {
		s, err := rs.Session(t.Context(), delivery.Route{Turn: turn})
		if err == nil {
			require.Equal(t, "metered", s.Relay().Name, "a turn that is far off does not lead on to the next relay")
			s.Close()
		}
		throttled, ok := errors.AsType[*delivery.Throttled](err)
		if ok {
			return throttled.Turn, nil
		}
		return delivery.Turn{}, err
	}
	turn, err := take(delivery.Turn{})
	require.NoError(t, err)
	require.Empty(t, turn, "the first goes at once")
	second, err := take(delivery.Turn{})
	require.NoError(t, err)
	require.Equal(t, q.Now().Add(time.Minute).UTC(), second.At)
	third, err := take(delivery.Turn{})
	require.NoError(t, err)
	require.Equal(t, q.Now().Add(2*time.Minute).UTC(), third.At)
	require.Equal(t, []int{1, 1, 1}, q.draws, "as many are drawn as callers wait")

	again, err := take(third)
	require.NoError(t, err)
	require.Equal(t, third, again, "who comes early keeps the place")
	q.pass(2 * time.Minute)
	turn, err = take(third)
	require.NoError(t, err)
	require.Empty(t, turn, "it is their turn")
	turn, err = take(second)
	require.NoError(t, err)
	require.NotEmpty(t, turn, "who comes a minute late draws again")
	require.Len(t, q.draws, 4)

	q.err = errors.New("no database")
	_, err = take(delivery.Turn{})
	require.ErrorContains(t, err, "no database")
	require.Equal(t, 2, p.Dialed(), "sessions are kept meanwhile, for a minute")
}

// estimates gives broadcast mail a slot only when the time of its estimate has come.
type estimates struct {
	queue
	demands []delivery.Demand
}

func (a *estimates) Draw(_ context.Context, d delivery.Demand) (delivery.Slot, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.demands = append(a.demands, d)
	return delivery.Slot{Wait: time.Hour, Reserved: false}, true, nil
}

func TestBroadcastComesAgainForAPlace(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{}).Start(t)
	a := &estimates{queue: queue{now: time.Now()}}
	rs := relays(t, relay.Options{Ledger: a, Now: a.Now, MaxIdle: 100 * time.Hour}, url(p, "name=metered&rate=1/m"))
	require.Equal(t, time.Minute, rs.Pace(delivery.Route{}))
	take := func(turn delivery.Turn) delivery.Turn {
		_, err := rs.Session(t.Context(), delivery.Route{Stream: email.StreamBroadcast, Turn: turn})
		throttled, ok := errors.AsType[*delivery.Throttled](err)
		require.True(t, ok, err)
		return throttled.Turn
	}
	demand := delivery.Demand{Queue: "relay:metered", N: 1, Pace: time.Minute, Stream: email.StreamBroadcast}
	turn := take(delivery.Turn{})
	require.Equal(t, []delivery.Demand{demand}, a.demands)
	take(turn)
	sooner := demand
	sooner.Sooner = time.Hour
	require.Equal(t, sooner, a.demands[1], "who comes early asks whether there is something sooner")
	a.pass(10 * time.Hour)
	again := take(turn)
	demand.Returning = true
	require.Equal(t, demand, a.demands[2], "an estimate holds no slot, however late the mail returns")
	require.True(t, again.At.After(turn.At))
	require.Len(t, a.demands, 3)
}
