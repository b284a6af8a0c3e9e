package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/relay"
)

// connectSlow gives the worker the peer as a relay with a rate.
func (v *virtual) connectSlow(rate string) {
	v.t.Helper()
	slow, err := relay.Parse("smtp://" + v.peer.Addr() + "?tls=none&name=slow&rate=" + rate)
	require.NoError(v.t, err)
	relays := relay.New([]relay.Relay{slow}, relay.Options{Now: v.Now, Ledger: v.store.Mail})
	v.t.Cleanup(relays.Close)
	v.work(relaySessions{relays})
}

// TestVirtualABatchThatWaitsForARate: each of its e-mails is throttled until its slot, and is sent
// then.
func TestVirtualABatchThatWaitsForARate(t *testing.T) {
	t.Parallel()
	for _, stream := range []email.Stream{email.StreamTransactional, email.StreamBroadcast} {
		t.Run(string(stream), func(t *testing.T) {
			t.Parallel()
			v := newVirtual(t)
			v.listen(nil, "", until(0, "", ""))
			v.connectSlow("6/m")
			var ms []email.Message
			for i := range 6 {
				ms = append(ms, email.Message{From: email.Address{Email: "shop@acme.test"}, To: []email.Address{{Email: fmt.Sprintf("r%d@x.test", i)}}, Subject: "Hello", Text: "Hi", Stream: stream})
			}
			batch, ids := v.acceptBatch(ms...)
			for look := range 5 {
				v.at(time.Duration(look)*10*time.Second+5*time.Second, func() error {
					var next []time.Duration
					for _, id := range ids {
						if e := v.email(id); !e.Status.Final() {
							require.Equal(t, email.DetailThrottled, e.Detail)
							next = append(next, e.NextAttemptAt.Sub(virtualStart).Round(slack))
						}
					}
					slices.Sort(next)
					slots := []time.Duration{10 * time.Second, 20 * time.Second, 30 * time.Second, 40 * time.Second, 50 * time.Second}
					require.Equal(t, slots[look:], next, "each has a slot of its own")
					return nil
				})
			}
			v.sendBatch(batch)
			for _, id := range ids {
				require.Equal(t, email.StatusDelivered, v.email(id).Status)
			}
		})
	}
}
