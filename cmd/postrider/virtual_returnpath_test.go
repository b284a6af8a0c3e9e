package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/relay"
)

// TestVirtualARefusedReturnPathShowsItsReplyAndTheNextTry: a relay refuses our return path for twenty minutes and takes
// other mail. Each e-mail shows that reply and a time at which it is tried, also one that has not been tried itself.
// Once the relay takes it, the e-mail arrives by the time that it showed.
func TestVirtualARefusedReturnPathShowsItsReplyAndTheNextTry(t *testing.T) {
	t.Parallel()
	const lasts = 20 * time.Minute
	for how, batch := range map[string]bool{"single": false, "batch": true} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			v := newVirtualWith(t, func(o *db.Options) { o.BounceHost = "bounce.mail.test" })
			v.listen(nil, "", until(lasts, "MAIL FROM:<b-", "550 5.1.8 Sender address rejected: Domain not found"))
			peer, err := relay.Parse("smtp://" + v.peer.Addr() + "?tls=none&name=peer")
			require.NoError(t, err)
			relays := relay.New([]relay.Relay{peer}, relay.Options{Now: v.Now, MailOf: func(ctx context.Context, r delivery.Route) (string, delivery.MailCommand, error) {
				if r.SenderDomain == "other.test" {
					return r.For, delivery.MailCommand{From: "shop@other.test"}, nil
				}
				return v.store.Mail.MailOf(ctx, r)
			}})
			t.Cleanup(relays.Close)
			v.work(relaySessions{relays})
			// Mail of another sender, every 3 seconds.
			for at := time.Second; at < 2*time.Minute; at += 3 * time.Second {
				v.at(at, func() error { return sendOther(t.Context(), relays) })
			}

			var batchID string
			var ids []string
			if batch {
				later := v.expiring(0)
				later.SendAt = virtualStart.Add(3 * time.Minute)
				batchID, ids = v.acceptBatch(v.expiring(0), v.expiring(0), later)
			} else {
				ids = []string{v.accept(time.Time{}, "a@x.test"), v.accept(time.Time{}, "b@x.test"), v.accept(virtualStart.Add(3*time.Minute), "c@x.test")}
			}
			shown := map[string]time.Time{}
			for at := 4*time.Minute + 500*time.Millisecond; at < lasts; at += 7 * time.Second {
				v.at(at, func() error {
					v.setClock()
					for _, id := range ids {
						e := v.email(id)
						require.Equal(t, email.DetailRelayDown, e.Detail)
						require.Equal(t, []any{550, "5.1.8"}, []any{e.RelayFault.Reply.Code, e.RelayFault.Reply.Enhanced}, "at %s: %+v", at, e.RelayFault)
						next := e.NextAttemptAt
						require.Equal(t, next, e.RelayFault.NextAttemptAt)
						require.Greater(t, next, v.Now().UTC(), "at %s", at)
						require.LessOrEqual(t, next.Sub(v.Now()), delivery.RelayBackoffMost)
						require.Less(t, e.RelayFault.Since, v.Now().UTC())
						if was := shown[id]; was.After(v.Now()) { // a time that has not come stays
							require.WithinDuration(t, was, next, delivery.PathProbe+slack)
						}
						shown[id] = next
					}
					return nil
				})
			}
			if batch {
				v.sendBatch(batchID)
			} else {
				v.send(ids...)
			}
			for _, id := range ids {
				e := v.email(id)
				require.Equal(t, email.StatusDelivered, e.Status)
				require.Nil(t, e.RelayFault)
				require.LessOrEqual(t, v.happened(id, email.EventDelivered)[0], shown[id].Sub(virtualStart)+delivery.PathProbe+slack, "or once another has probed")
				require.Empty(t, v.happened(id, email.EventDeferred))
			}
		})
	}
}

// sendOther sends a mail whose return path is a sender's own address.
func sendOther(ctx context.Context, relays *relay.Relays) error {
	s, err := relays.Session(ctx, delivery.Route{For: uuid.NewString(), SenderDomain: "other.test"})
	if err != nil {
		return err
	}
	defer s.Close()
	env := delivery.Envelope{From: "shop@other.test", Recipients: []delivery.EnvelopeRecipient{{ID: "1", Address: "a@y.test"}}}
	s.Send(ctx, env, []byte(strings.ReplaceAll("From: shop@other.test\n\nHi\n", "\n", "\r\n")), func(context.Context, []delivery.Outcome) error { return nil })
	return nil
}
