package relay_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtptest"
)

// closes are the ways in which a relay ends a connection at RCPT.
var closes = map[string]string{
	"421": smtptest.ThenDrop("421 4.3.2 shutting down"), "421 of a policy": "421 4.7.0 try again later", "without a word": smtptest.Drop,
}

// to is an e-mail of its own.
func to(id string, addresses ...string) delivery.Envelope {
	env := envelope(addresses...)
	env.ID = id
	return env
}

// TestARelayThatClosesAtEveryRecipientIsAtFault: no recipient is counted, and the next relay
// gets the mail at once.
func TestARelayThatClosesAtEveryRecipientIsAtFault(t *testing.T) {
	t.Parallel()
	for name, answer := range closes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			first := (&smtptest.Peer{Answer: answers(map[string]string{"RCPT": answer})}).Start(t)
			second := (&smtptest.Peer{}).Start(t)
			rs := relays(t, relay.Options{Now: c.now}, url(first, "name=first"), url(second, "name=second"))
			for n := range 5 {
				env := to(fmt.Sprint("two relays ", n), "a@y.test", "b@z.test")
				outcomes := send(t, rs, env, noMark).Outcomes
				if outcomes[0].Status != email.RecipientDelivered {
					for _, o := range outcomes {
						requireHeld(t, o)
						require.True(t, o.Elsewhere, "%+v", o)
					}
					s, err := rs.Session(t.Context(), delivery.Route{Avoid: "first"})
					require.NoError(t, err)
					outcomes = s.Send(t.Context(), env, []byte("\r\n"), noMark).Outcomes
					s.Close()
				}
				for _, o := range outcomes {
					require.Equal(t, email.RecipientDelivered, o.Status)
				}
				c.move(6 * time.Minute)
			}

			alone := relays(t, relay.Options{Now: c.now}, url(first, "name=first"))
			for n := range 6 {
				for _, o := range send(t, alone, to(fmt.Sprint("alone ", n), "a@y.test", "b@z.test"), noMark).Outcomes {
					requireHeld(t, o)
				}
				require.Equal(t, n < 2, alone.Up()["first"], "three in a row close it")
				c.move(6 * time.Minute)
			}
		})
	}
}

// TestWhereTheRelayClosesAtOneRecipientTheOthersAreNamedFirst, the next time.
func TestWhereTheRelayClosesAtOneRecipientTheOthersAreNamedFirst(t *testing.T) {
	t.Parallel()
	for name, answer := range closes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := (&smtptest.Peer{Answer: answers(map[string]string{"RCPT TO:<bad@": answer})}).Start(t)
			rs := relays(t, relay.Options{}, url(p, ""))
			for _, o := range send(t, rs, to("1", "bad@y.test", "a@y.test", "b@y.test"), noMark).Outcomes {
				requireHeld(t, o)
				require.Equal(t, 10*time.Second, o.RetryAfter)
			}
			bad := send(t, rs, to("1", "bad@y.test", "a@y.test", "b@y.test"), noMark).Outcomes[0]
			require.Equal(t, email.RecipientDeferred, bad.Status)
			require.False(t, bad.RelayFault || bad.Uncounted, "the relay accepted others: %+v", bad)
			var named []string
			for _, l := range p.Lines() {
				if strings.HasPrefix(l, "RCPT") {
					named = append(named, l)
				}
			}
			want := []string{"RCPT TO:<bad@y.test>", "RCPT TO:<a@y.test>", "RCPT TO:<b@y.test>", "RCPT TO:<bad@y.test>"}
			if answer == smtptest.Drop && smtptest.OffersPipelining() {
				want = append([]string{"RCPT TO:<bad@y.test>"}, want...) // asked again, without a group
			}
			require.Equal(t, want, named)
		})
	}
}

// TestARecipientAtWhomTheRelayClosesIsItsOwnWhereOthersGo: deferred as others are.
func TestARecipientAtWhomTheRelayClosesIsItsOwnWhereOthersGo(t *testing.T) {
	t.Parallel()
	for name, answer := range closes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			rs := relays(t, relay.Options{Now: c.now}, url((&smtptest.Peer{Answer: answers(map[string]string{"RCPT TO:<bad@": answer})}).Start(t), "name=primary"))
			try := func(id, address string) delivery.Outcome {
				c.move(6 * time.Minute)
				return send(t, rs, to(id, address), noMark).Outcomes[0]
			}
			for range 2 {
				requireHeld(t, try("bad", "bad@y.test"))
				require.Equal(t, email.RecipientDelivered, try("good", "good@y.test").Status)
			}
			for range 4 {
				o := try("bad", "bad@y.test")
				require.Equal(t, email.RecipientDeferred, o.Status)
				require.False(t, o.RelayFault || o.Uncounted, "%+v", o)
				require.True(t, rs.Up()["primary"])
			}
		})
	}
}

// TestARefusalThatEndsTheConnection (521, RFC 7504) is the verdict of the recipient that got it,
// and of no other.
func TestARefusalThatEndsTheConnection(t *testing.T) {
	t.Parallel()
	const goAway = "521 5.7.1 go away"
	peer := func(t *testing.T, stays bool) *smtptest.Peer {
		answer := smtptest.ThenDrop(goAway)
		if stays {
			answer = goAway
		}
		return (&smtptest.Peer{Answer: answers(map[string]string{"RCPT TO:<bad@": answer})}).Start(t)
	}
	t.Run("behind others", func(t *testing.T) {
		t.Parallel()
		p := peer(t, false)
		rs := relays(t, relay.Options{}, url(p, "name=primary"))
		ex := send(t, rs, to("1", "a@y.test", "bad@y.test", "b@y.test"), noMark)
		require.Equal(t, email.RecipientBounced, ex.Outcomes[1].Status)
		require.Equal(t, email.DetailBlock, ex.Outcomes[1].Reason)
		for _, i := range []int{0, 2} {
			require.True(t, ex.Outcomes[i].Uncounted)
			require.Zero(t, ex.Outcomes[i].Code)
			require.Contains(t, ex.Outcomes[i].Text, "at another recipient")
			require.Equal(t, time.Second, ex.Outcomes[i].RetryAfter)
		}
		if !smtptest.OffersPipelining() {
			require.NotContains(t, p.Lines(), "RCPT TO:<b@y.test>")
		}
		require.Nil(t, rs.Down(delivery.Route{}))
		for _, o := range send(t, rs, to("1", "a@y.test", "b@y.test"), noMark).Outcomes {
			require.Equal(t, email.RecipientDelivered, o.Status, "in one transaction: it is no limit")
		}
	})
	t.Run("before others", func(t *testing.T) {
		t.Parallel()
		p := peer(t, false)
		rs := relays(t, relay.Options{}, url(p, "name=primary"))
		ex := send(t, rs, to("1", "bad@y.test", "a@y.test", "b@y.test"), noMark)
		for i, o := range ex.Outcomes {
			requireHeld(t, o)
			require.Equal(t, i > 0, o.Unasked)
		}
		require.Equal(t, 521, ex.Outcomes[0].Code)
		require.Equal(t, time.Second, ex.Outcomes[1].RetryAfter)
		for _, o := range send(t, rs, to("1", "a@y.test", "b@y.test"), noMark).Outcomes {
			require.Equal(t, email.RecipientDelivered, o.Status)
		}
	})
	t.Run("and leaves it open gives those accepted the message", func(t *testing.T) {
		t.Parallel()
		p := peer(t, true)
		ex := send(t, relays(t, relay.Options{}, url(p, "")), to("1", "a@y.test", "bad@y.test", "b@y.test"), noMark)
		require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status)
		require.Equal(t, email.RecipientBounced, ex.Outcomes[1].Status)
		if smtptest.OffersPipelining() { // the peer accepted b@y.test as well
			require.Equal(t, []string{"a@y.test", "b@y.test"}, p.Messages()[0].To)
			require.Equal(t, email.RecipientDelivered, ex.Outcomes[2].Status)
			return
		}
		require.Equal(t, []string{"a@y.test"}, p.Messages()[0].To)
		require.True(t, ex.Outcomes[2].Unasked)
	})
	t.Run("of the recipient's own server", func(t *testing.T) {
		t.Parallel()
		ex := send(t, relays(t, relay.Options{}, url(peer(t, false), "accepts=final")), to("1", "bad@y.test", "a@y.test"), noMark)
		require.Equal(t, email.DetailBlock, ex.Outcomes[0].Reason)
		require.True(t, ex.Outcomes[1].Uncounted)
		require.False(t, ex.RelayFault)
	})
}
