package main

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtptest"
)

// TestVirtualRefusedMessageWaitsForTheOtherRelay: the first relay refuses the messages in a way
// that its EHLO reply does not announce. The other one takes them, and is down. They wait for that
// relay, singly and in a batch, and arrive there once it works.
func TestVirtualRefusedMessageWaitsForTheOtherRelay(t *testing.T) {
	t.Parallel()
	const lasts = 50 * time.Minute
	for name, tt := range map[string]struct {
		verb, answer string
		offers       []string
		to           string
	}{
		"too large at MAIL":           {"MAIL", "552 5.3.4 Message size exceeds fixed limit", nil, "a@x.test"},
		"too large at RCPT":           {"RCPT", "552 5.3.4 Message size exceeds fixed limit", nil, "a@x.test"},
		"too large at DATA":           {"DATA", "552 5.3.4 Message size exceeds fixed limit", nil, "a@x.test"},
		"too large at the dot":        {".", "552 5.3.4 Error: message file too big", nil, "a@x.test"},
		"too large, no enhanced code": {".", "552 Message too large", nil, "a@x.test"},
		"SMTPUTF8 at MAIL":            {"MAIL", "555 5.5.4 Unsupported option: SMTPUTF8", []string{"SMTPUTF8"}, "用户@x.test"},
		"UTF-8 address at RCPT":       {"RCPT", "553 5.6.7 Non-ASCII addresses not permitted", []string{"SMTPUTF8"}, "用户@x.test"},
		"UTF-8 address at the dot":    {".", "554 5.6.7 SMTPUTF8 is required, but was not offered by the next host", []string{"SMTPUTF8"}, "用户@x.test"},
		"UTF-8 header at the dot":     {".", "554 5.6.9 UTF-8 header message cannot be transferred", []string{"SMTPUTF8"}, "用户@x.test"},
	} {
		for when, known := range map[string]bool{"down from the start": false, "down after the refusal": true} {
			for how, batch := range map[string]bool{"single": false, "batch": true} {
				t.Run(name+"/"+when+"/"+how, func(t *testing.T) {
					t.Parallel()
					v := newVirtual(t)
					var refused atomic.Int64
					var down atomic.Bool
					down.Store(!known)
					one := (&smtptest.Peer{Extensions: append([]string{"PIPELINING", "ENHANCEDSTATUSCODES"}, tt.offers...), Answer: func(line string) string {
						if !strings.HasPrefix(line, tt.verb) {
							return ""
						}
						refused.Add(1)
						down.Store(true)
						return tt.answer
					}}).Start(t)
					v.listen(nil, "", func(at time.Duration, line string) string {
						if at < lasts && down.Load() && !strings.HasPrefix(line, "QUIT") {
							return smtptest.Drop
						}
						return ""
					})
					v.peer.Extensions = append(v.peer.Extensions, tt.offers...)
					var list []relay.Relay
					for _, u := range []string{one.Addr() + "?tls=none&name=one", v.peer.Addr() + "?tls=none&name=two"} {
						r, err := relay.Parse("smtp://" + u)
						require.NoError(t, err)
						list = append(list, r)
					}
					relays := relay.New(list, relay.Options{Now: v.Now, Board: v.store.Mail, MailOf: v.store.Mail.MailOf})
					t.Cleanup(relays.Close)
					if known { // it has a connection to the other relay, which has worked so far
						s, err := relays.Session(t.Context(), delivery.Route{Relay: "two"})
						require.NoError(t, err)
						s.Close()
					}
					v.work(relaySessions{relays})

					var ids []string
					var batchID string
					if batch {
						m := v.expiring(0)
						m.To[0].Email = tt.to
						later := m
						later.SendAt = virtualStart.Add(time.Minute)
						batchID, ids = v.acceptBatch(m, m, m, later)
					} else {
						ids = []string{v.accept(time.Time{}, tt.to), v.accept(virtualStart.Add(time.Minute), tt.to)}
					}
					before := int64(-1)
					v.RegisterDelayedCallback(func() {
						before = refused.Load()
						for _, id := range ids {
							e := v.email(id)
							require.Equal(t, email.DetailRelayDown, e.Detail, "%+v", e)
							require.NotNil(t, e.RelayFault)
							require.Equal(t, "two", e.RelayFault.Relay)
							for _, r := range e.Recipients {
								require.Equal(t, email.RecipientQueued, r.Status)
								require.Zero(t, r.Attempts, "nothing counts")
							}
						}
					}, lasts-time.Minute)
					if batch {
						v.sendBatch(batchID)
					} else {
						v.send(ids...)
					}
					v.requireDelivered(lasts, lasts+6*time.Minute, ids...)
					require.Positive(t, before)
					require.LessOrEqual(t, before, int64(len(ids)), "nobody is refused twice while the other relay is down")
					require.Equal(t, before, refused.Load(), "the first relay is not asked again")
					require.Empty(t, one.Messages())
					for _, id := range ids {
						require.Empty(t, v.happened(id, email.EventDeferred))
						attempts, _, err := v.store.Mail.Attempts(t.Context(), v.customer, id, 0)
						require.NoError(t, err)
						require.Equal(t, "two", attempts[len(attempts)-1].Relay.Name)
					}
				})
			}
		}
	}
}

// TestVirtualRefusedMessageExpiresWhileTheOtherRelayIsDown: it waits until it expires, not longer.
func TestVirtualRefusedMessageExpiresWhileTheOtherRelayIsDown(t *testing.T) {
	t.Parallel()
	for how, batch := range map[string]bool{"single": false, "batch": true} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			const expiry = 52*time.Minute + 33*time.Second
			v := newVirtual(t)
			v.listen(nil, "", until(virtualDay, ".", "552 5.3.4 Error: message file too big"))
			addr, _ := closedPort(t)
			var list []relay.Relay
			for _, u := range []string{v.peer.Addr() + "?tls=none&name=one", addr + "?tls=none&name=two"} {
				r, err := relay.Parse("smtp://" + u)
				require.NoError(t, err)
				list = append(list, r)
			}
			relays := relay.New(list, relay.Options{Now: v.Now, Board: v.store.Mail, MailOf: v.store.Mail.MailOf})
			t.Cleanup(relays.Close)
			v.work(relaySessions{relays})
			batchID, ids := v.acceptBatch(v.expiring(expiry))
			if batch {
				v.sendBatch(batchID)
			} else {
				v.send(ids...)
			}
			v.requireExpired(ids[0], expiry)
			require.Len(t, v.received("."), 1)
		})
	}
}
