package relay

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// TestMailThatWaitsIsJudgedByTheRelaysOfANewProcess: an e-mail does not wait for a relay that is not
// configured any more, does not take it any more, or has moved.
func TestMailThatWaitsIsJudgedByTheRelaysOfANewProcess(t *testing.T) {
	t.Parallel()
	none, anew := delivery.Obstacle{RelayDown: true, NoRelay: true}, delivery.Obstacle{RelayDown: true}
	relays := []string{"smtp://127.0.0.1:1?name=one&streams=transactional", "smtp://127.0.0.1:2?name=two&streams=transactional"}
	left := delivery.RelayState{Name: "one", Address: "127.0.0.1:9", Failures: 3}
	for name, tc := range map[string]struct {
		wait  delivery.RelayWait
		state delivery.RelayState
		want  *delivery.Obstacle // nil: unchanged
	}{
		"its relay was removed, none takes it":    {wait: delivery.RelayWait{Stream: email.StreamBroadcast, Relay: "gone"}, want: &none},
		"its relay is there, for another stream":  {wait: delivery.RelayWait{Stream: email.StreamBroadcast, Relay: "one"}, want: &none},
		"its relay was removed, another takes it": {wait: delivery.RelayWait{Stream: email.StreamTransactional, Relay: "gone"}, want: &anew},
		"its relay has moved":                     {wait: delivery.RelayWait{Stream: email.StreamTransactional, Relay: "one"}, state: left, want: &anew},
		"another relay has moved":                 {wait: delivery.RelayWait{Stream: email.StreamTransactional, Relay: "two"}, state: left},
		"its relay is down": {wait: delivery.RelayWait{Stream: email.StreamTransactional, Relay: "one"},
			state: delivery.RelayState{Name: "one", Address: "127.0.0.1:1", Failures: 3}},
		"its relay refuses only this mail": {wait: delivery.RelayWait{Stream: email.StreamTransactional, Relay: "one"}},
		"no relay took it, one does":       {wait: delivery.RelayWait{Stream: email.StreamTransactional, NoRelay: true}, want: &anew},
		"no relay takes it still":          {wait: delivery.RelayWait{Stream: email.StreamBroadcast, NoRelay: true}},
		"it is to be tried":                {wait: delivery.RelayWait{Stream: email.StreamTransactional}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &board{state: tc.state, waits: []delivery.RelayWait{tc.wait}, changed: map[delivery.RelayWait]delivery.Obstacle{}}
			rs := New(parse(t, relays...), Options{Board: b})
			t.Cleanup(rs.Close)
			require.NoError(t, rs.applyToWaiting(t.Context()))
			if tc.want == nil {
				require.Empty(t, b.changed)
				return
			}
			require.Equal(t, map[delivery.RelayWait]delivery.Obstacle{tc.wait: *tc.want}, b.changed)
		})
	}
}

// parse reads relays' settings.
func parse(t *testing.T, urls ...string) []Relay {
	t.Helper()
	out := make([]Relay, len(urls))
	for i, url := range urls {
		var err error
		out[i], err = Parse(url)
		require.NoError(t, err)
	}
	return out
}

// TestMailIsWokenWhenARelayWorksAgain: a process wakes what a recovered relay takes, as soon as it
// hears of that and once more a minute later. A recovery of a while ago wakes nothing.
func TestMailIsWokenWhenARelayWorksAgain(t *testing.T) {
	t.Parallel()
	now := time.Now()
	waits := []delivery.RelayWait{
		{Stream: email.StreamTransactional, Relay: "one"}, {Stream: email.StreamTransactional, Relay: "two"},
		{Stream: email.StreamBroadcast, Relay: "two"},
		{Stream: email.StreamTransactional}, {Stream: email.StreamTransactional, NoRelay: true}, // wait for no relay
	}
	b := &board{waits: waits, changed: map[delivery.RelayWait]delivery.Obstacle{}}
	rs := New(parse(t, "smtp://127.0.0.1:1?name=one&streams=transactional", "smtp://127.0.0.1:2?name=two"), Options{Board: b, Now: func() time.Time { return now }})
	t.Cleanup(rs.Close)
	known := map[string]recovery{}
	requireWoken := func(want ...delivery.RelayWait) {
		t.Helper()
		clear(b.changed)
		require.NoError(t, rs.wakeRecovered(t.Context(), known))
		all := map[delivery.RelayWait]delivery.Obstacle{}
		for _, w := range want {
			all[w] = delivery.Obstacle{RelayDown: true}
		}
		require.Equal(t, all, b.changed)
	}
	requireWoken()
	first := now
	b.state = delivery.RelayState{Name: "one", Address: "127.0.0.1:1", Failures: 2, ChangedAt: first}
	requireWoken()

	b.state.Failures, b.state.ChangedAt = 0, first.Add(time.Minute)
	b.changeErr = errors.New("the database is away")
	require.ErrorIs(t, rs.wakeRecovered(t.Context(), known), b.changeErr)
	b.changeErr = nil
	rs.pools[0].breaker.failed(now, &delivery.RelayError{}, failure{})
	require.NotNil(t, rs.pools[0].breaker.down(now, false))
	requireWoken(waits[0], waits[1])
	require.Equal(t, b.state.ChangedAt, b.dueBy, "mail that the relay refused and that is due later did not wait for it")
	require.Nil(t, rs.pools[0].breaker.down(now, false), "another process reaches it: this one tries")
	requireWoken()
	now = now.Add(applyAgainAfter)
	requireWoken(waits[0], waits[1])
	require.Equal(t, b.state.ChangedAt.Add(applyAgainAfter), b.dueBy, "this process may not have heard of the recovery before")
	now = now.Add(applyAgainAfter)
	requireWoken()

	b.state = delivery.RelayState{Name: "two", Address: "127.0.0.1:2", ChangedAt: now}
	requireWoken(waits[0], waits[1], waits[2])
	b.state = delivery.RelayState{Name: "two", Address: "127.0.0.1:9", ChangedAt: now.Add(time.Minute)}
	requireWoken()
	known = map[string]recovery{}
	b.state = delivery.RelayState{Name: "two", Address: "127.0.0.1:2", ChangedAt: now, SinceChange: recoveryAge + time.Second}
	requireWoken()
}

// TestMailWaitsToBeWoken only if a probe without an e-mail finds out when each of its relays works.
func TestMailWaitsToBeWoken(t *testing.T) {
	t.Parallel()
	broken := errors.New("connection refused")
	for name, tc := range map[string]struct {
		fault      failure
		noBoard    bool
		probeEvery time.Duration
		other      *failure // of a second relay
		want       bool
	}{
		"the relay cannot be reached":     {probeEvery: time.Minute, want: true},
		"it refused MAIL":                 {probeEvery: time.Minute, fault: failure{inTransaction: true, mail: &delivery.MailCommand{From: "a@x.test"}}, want: true},
		"it refused MAIL, perhaps of one": {probeEvery: time.Minute, fault: failure{inTransaction: true, perhaps: true, mail: &delivery.MailCommand{From: "a@x.test"}}},
		"it refused a message":            {probeEvery: time.Minute, fault: failure{inTransaction: true}},
		"relays are not probed":           {},
		"processes share nothing":         {probeEvery: time.Minute, noBoard: true},
		"both cannot be reached":          {probeEvery: time.Minute, other: &failure{}, want: true},
		"another one refused a message":   {probeEvery: time.Minute, other: &failure{inTransaction: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := Options{ProbeEvery: tc.probeEvery, Board: &board{}}
			if tc.noBoard {
				opts.Board = nil
			}
			faults, urls := []failure{tc.fault}, []string{"smtp://127.0.0.1:1?name=one"}
			if tc.other != nil {
				faults, urls = append(faults, *tc.other), append(urls, "smtp://127.0.0.1:2?name=two")
			}
			rs := New(parse(t, urls...), opts)
			t.Cleanup(rs.Close)
			for i, p := range rs.pools {
				p.breaker.failed(rs.now(), &delivery.RelayError{Relay: p.relay.Identity(), Err: broken}, faults[i])
			}
			_, err := rs.Session(t.Context(), delivery.Route{})
			down, ok := errors.AsType[*delivery.RelayError](err)
			require.True(t, ok, err)
			require.Equal(t, tc.want, down.Watched)
		})
	}
}
