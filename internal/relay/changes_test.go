package relay

import (
	"testing"

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
			var configured []Relay
			for _, url := range relays {
				r, err := Parse(url)
				require.NoError(t, err)
				configured = append(configured, r)
			}
			rs := New(configured, Options{Board: b})
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
