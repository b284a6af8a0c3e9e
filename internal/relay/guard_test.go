package relay_test

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/logtest"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtptest"
)

// clock is one that the test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

const (
	accessDenied = "554 5.7.1 <b@y.test>: Recipient address rejected: Access denied"
	unknown571   = "550 5.7.1 no"
)

// refusing is a peer that answers RCPT for some addresses.
func refusing(t *testing.T, answers map[string]string) *smtptest.Peer {
	return (&smtptest.Peer{Answer: func(line string) string {
		for prefix, answer := range answers {
			if strings.HasPrefix(line, "RCPT TO:<"+prefix) {
				return answer
			}
		}
		return ""
	}}).Start(t)
}

func requireHeld(t *testing.T, o delivery.Outcome) {
	t.Helper()
	require.Equal(t, email.RecipientDeferred, o.Status, "%+v", o)
	require.True(t, o.Uncounted)
	require.True(t, o.RelayFault)
	require.Positive(t, o.RetryAfter)
}

func TestARelayThatRefusesEverybodyAtRCPTBouncesNobody(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		accessDenied, unknown571, "550 5.7.1 TRANSFAULT", "554 5.7.1 <localhost[127.0.0.1]>: Client host rejected: blocked, see http://bl.example/lookup",
		"550 5.7.1 you shall not pass", "553 5.7.3 hm",
	} {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			p := refusing(t, map[string]string{"": answer})
			rs := relays(t, relay.Options{Now: c.now}, url(p, ""))
			for i := range 6 {
				ex := send(t, rs, envelope(fmt.Sprintf("u%d@d%d.test", i, i)), noMark)
				requireHeld(t, ex.Outcomes[0])
				require.True(t, ex.RelayFault)
				c.move(6 * time.Minute) // past any backoff
			}
			require.Empty(t, p.Messages())
		})
	}
}

func TestTheSameRefusalOfSeveralClosesTheRelay(t *testing.T) {
	t.Parallel()
	c := newClock()
	var log logtest.Buffer
	p := refusing(t, map[string]string{"": unknown571})
	rs := relays(t, relay.Options{Now: c.now, Log: slog.New(slog.NewTextHandler(&log, nil))}, url(p, ""))
	send(t, rs, envelope("a@y.test"), noMark)
	require.Nil(t, rs.Down(delivery.Route{}), "one recipient may be the reason")
	require.NotContains(t, log.String(), "level=WARN")
	send(t, rs, envelope("b@z.test"), noMark)
	require.NotNil(t, rs.Down(delivery.Route{}), "two that have nothing in common are not")
	require.Contains(t, log.String(), "level=WARN msg=relay.refusal_held")
	require.Equal(t, map[string]int{"127.0.0.1": 2}, rs.Held())
}

func TestThreeRecipientsOfOneDomainAreAPatternToo(t *testing.T) {
	t.Parallel()
	c := newClock()
	rs := relays(t, relay.Options{Now: c.now}, url(refusing(t, map[string]string{"": unknown571}), ""))
	ex := send(t, rs, envelope("a@y.test", "b@y.test", "c@y.test"), noMark)
	for _, o := range ex.Outcomes {
		requireHeld(t, o)
	}
	require.NotNil(t, rs.Down(delivery.Route{}))
}

func TestARelayThatTakesOthersMayRefuseOne(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{accessDenied, unknown571} {
		t.Run("in one transaction: "+answer, func(t *testing.T) {
			t.Parallel()
			rs := relays(t, relay.Options{}, url(refusing(t, map[string]string{"bad@": answer}), ""))
			ex := send(t, rs, envelope("bad@y.test", "ok@y.test"), noMark)
			require.Equal(t, email.RecipientBounced, ex.Outcomes[0].Status)
			require.Equal(t, email.DetailBlock, ex.Outcomes[0].Reason)
			require.Equal(t, email.RecipientDelivered, ex.Outcomes[1].Status)
		})
		t.Run("shown by a later mail: "+answer, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			rs := relays(t, relay.Options{Now: c.now}, url(refusing(t, map[string]string{"bad@": answer}), ""))
			waits := []time.Duration{time.Minute, 5 * time.Minute}
			if answer == accessDenied { // one dead node of two says so as well
				waits = append(waits, 5*time.Minute, 5*time.Minute, 5*time.Minute)
			}
			for _, wait := range waits {
				held := send(t, rs, envelope("bad@y.test"), noMark).Outcomes[0]
				requireHeld(t, held)
				require.Equal(t, wait, held.RetryAfter)
				c.move(time.Second)
				send(t, rs, envelope("ok@y.test"), noMark)
				require.Zero(t, rs.Held()["127.0.0.1"])
				c.move(held.RetryAfter)
			}
			ex := send(t, rs, envelope("bad@y.test"), noMark)
			require.Equal(t, email.RecipientBounced, ex.Outcomes[0].Status)
			require.Equal(t, email.DetailBlock, ex.Outcomes[0].Reason)
			require.False(t, ex.RelayFault)
		})
	}
	t.Run("the only recipient there is does not wait for ever", func(t *testing.T) {
		t.Parallel()
		c := newClock()
		begin := c.now()
		rs := relays(t, relay.Options{Now: c.now}, url(refusing(t, map[string]string{"bad@": unknown571}), ""))
		tries := 0
		for {
			require.Less(t, tries, 10)
			o := send(t, rs, envelope("bad@y.test"), noMark).Outcomes[0]
			tries++
			if o.Status == email.RecipientBounced {
				break
			}
			requireHeld(t, o)
			c.move(o.RetryAfter)
		}
		require.GreaterOrEqual(t, c.now().Sub(begin), 50*time.Minute)
		require.LessOrEqual(t, c.now().Sub(begin), 2*time.Hour)
	})
}

// TestARelayThatBreaksAgainBouncesNobody: the same recipients, in other e-mails, are
// refused in one outage, accepted after it, and refused in the next.
func TestARelayThatBreaksAgainBouncesNobody(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{accessDenied, unknown571, "550 Administrative prohibition"} {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			var broken atomic.Bool
			p := (&smtptest.Peer{Answer: func(line string) string {
				if broken.Load() && strings.HasPrefix(line, "RCPT") {
					return answer
				}
				return ""
			}}).Start(t)
			rs := relays(t, relay.Options{Now: c.now}, url(p, ""))
			to := func(outage int, recipient string) delivery.Envelope {
				env := envelope(recipient)
				env.ID = fmt.Sprintf("%d %s", outage, recipient)
				return env
			}
			recipients := []string{"p1@a.test", "p2@b.test"}
			for outage := range 3 {
				broken.Store(true)
				for _, r := range recipients {
					requireHeld(t, send(t, rs, to(outage, r), noMark).Outcomes[0])
					c.move(6 * time.Minute)
				}
				broken.Store(false)
				for _, r := range recipients {
					require.Equal(t, email.RecipientDelivered, send(t, rs, to(outage, r), noMark).Outcomes[0].Status)
				}
			}
			// A mail that waits when the relay breaks again has seen it work once.
			broken.Store(true)
			requireHeld(t, send(t, rs, to(3, "p1@a.test"), noMark).Outcomes[0])
			c.move(6 * time.Minute)
			broken.Store(false)
			send(t, rs, to(4, "p2@b.test"), noMark)
			broken.Store(true)
			c.move(6 * time.Minute)
			requireHeld(t, send(t, rs, to(3, "p1@a.test"), noMark).Outcomes[0])
		})
	}
}

func TestARefusalWithAReasonIsNotHeldBack(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]email.Detail{
		"550 5.1.1 no such user": email.DetailHard, "552 5.2.2 full": email.DetailSoft, "550 5.7.1 Blacklisted by recipient": email.DetailBlock,
	} {
		rs := relays(t, relay.Options{}, url(refusing(t, map[string]string{"": answer}), ""))
		require.Equal(t, want, send(t, rs, envelope("a@y.test"), noMark).Outcomes[0].Reason, answer)
	}
	rs := relays(t, relay.Options{}, url(refusing(t, map[string]string{"": accessDenied}), "accepts=final"))
	require.Equal(t, email.DetailBlock, send(t, rs, envelope("a@y.test"), noMark).Outcomes[0].Reason, "its own server")
}

func TestARefusalWithoutAnEnhancedCodeIsHeldBack(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"554 Access denied", "550 Administrative prohibition"} {
		rs := relays(t, relay.Options{}, url(refusing(t, map[string]string{"": answer}), ""))
		for _, o := range send(t, rs, envelope("a@y.test", "b@z.test"), noMark).Outcomes {
			requireHeld(t, o)
		}
	}
}

// TestARateAMinuteIsNotWaitedForByHalfAnHour: what a relay says of its rate for now
// follows its backoff; a day's quota waits longer.
func TestARateAMinuteIsNotWaitedForByHalfAnHour(t *testing.T) {
	t.Parallel()
	for answer, most := range map[string]time.Duration{
		"450 4.7.1 <localhost[127.0.0.1]>: Error: too many recipients from 127.0.0.1": delivery.RelayBackoffMost,
		"450 4.7.1 <localhost[127.0.0.1]>: Error: too much mail from 127.0.0.1":       delivery.RelayBackoffMost,
		"550 5.4.5 Daily user sending limit exceeded":                                 30 * time.Minute,
	} {
		rs := relays(t, relay.Options{}, url(refusing(t, map[string]string{"": answer}), ""))
		o := send(t, rs, envelope("a@y.test"), noMark).Outcomes[0]
		requireHeld(t, o)
		require.LessOrEqual(t, o.RetryAfter, most, answer)
		require.Equal(t, most > delivery.RelayBackoffMost, o.RetryAfter > delivery.RelayBackoffMost, answer)
	}
}

func TestASenderThatTheRelayRefusesAtRCPT(t *testing.T) {
	t.Parallel()
	rs := relays(t, relay.Options{}, url(refusing(t, map[string]string{"": "553 5.7.1 <ann@mism.test>: Sender address rejected: not owned by user relayuser@relay.test"}), ""))
	ex := send(t, rs, envelope("a@y.test", "b@z.test"), noMark)
	for _, o := range ex.Outcomes {
		require.Equal(t, email.RecipientFailed, o.Status)
		require.Equal(t, email.DetailSenderRejected, o.Reason)
	}
}

// TestWhoIsRefusedAsOthersOfTheEmailBounces: others of the e-mail have bounced by that reply, and
// their domain is the same. So the recipients who were left over do not wait, and the relay is up.
func TestWhoIsRefusedAsOthersOfTheEmailBounces(t *testing.T) {
	t.Parallel()
	policy := func(line string) string {
		if a, ok := strings.CutPrefix(line, "RCPT TO:"); ok {
			return "554 5.7.1 " + a + ": Recipient address rejected: policy for this domain"
		}
		return ""
	}
	bounced := func(a, text string) delivery.BounceReply {
		return delivery.NewBounceReply(a, email.Reply{Code: 554, Enhanced: "5.7.1", Text: "<" + a + ">: Recipient address rejected: " + text})
	}
	const says = "policy for this domain"
	for name, tt := range map[string]struct {
		answer  func(string) string
		bounced []delivery.BounceReply
		to      []string
		bounces bool
	}{
		"by the same reply":             {policy, []delivery.BounceReply{bounced("long.one@b.test", says)}, []string{"u1@b.test", "u2@B.test", "u3@b.test"}, true},
		"nobody has bounced":            {policy, nil, []string{"u1@b.test", "u2@b.test", "u3@b.test"}, false},
		"by another reply":              {policy, []delivery.BounceReply{bounced("u0@b.test", "spam")}, []string{"u1@b.test", "u2@b.test", "u3@b.test"}, false},
		"of another domain":             {policy, []delivery.BounceReply{bounced("u0@c.test", says)}, []string{"u1@b.test", "u2@b.test", "u3@b.test"}, false},
		"one more domain is refused so": {policy, []delivery.BounceReply{bounced("u0@b.test", says)}, []string{"u1@b.test", "u2@a.test"}, false},
		"in the words for clients without a login": {
			answers(map[string]string{"RCPT": accessDenied}),
			[]delivery.BounceReply{delivery.NewBounceReply("b@y.test", email.Reply{Code: 554, Enhanced: "5.7.1", Text: "<b@y.test>: Recipient address rejected: Access denied"})},
			[]string{"b@y.test", "c@y.test"}, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rs := relays(t, relay.Options{}, url((&smtptest.Peer{Answer: tt.answer}).Start(t), "name=primary"))
			env := envelope(tt.to...)
			env.Bounced = tt.bounced
			ex := send(t, rs, env, noMark)
			for i, o := range ex.Outcomes {
				if !tt.bounces {
					requireHeld(t, o)
					require.True(t, o.AtRcpt)
					continue
				}
				require.Equal(t, email.RecipientBounced, o.Status)
				require.Equal(t, email.DetailBlock, o.Reason)
				require.Contains(t, o.Text, tt.to[i])
			}
			require.Equal(t, !tt.bounces, ex.RelayFault)
		})
	}
}

// TestWhoseReplyAFaultIs: a recipient keeps what the relay said to its RCPT, and not what was said
// of the whole mail.
func TestWhoseReplyAFaultIs(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Answer: answers(map[string]string{"RCPT TO:<a@": "554 5.7.1 <a@y.test>: Relay access denied"})}).Start(t)
	ex := send(t, relays(t, relay.Options{}, url(p, "")), envelope("a@y.test", "b@y.test"), noMark)
	requireHeld(t, ex.Outcomes[0])
	require.True(t, ex.Outcomes[0].AtRcpt)
	require.Equal(t, 554, ex.Outcomes[0].Code)
	require.Equal(t, email.RecipientDelivered, ex.Outcomes[1].Status)

	for _, at := range []string{"MAIL", "DATA"} {
		p := (&smtptest.Peer{Answer: answers(map[string]string{at: "451 4.3.0 Service unavailable"})}).Start(t)
		o := send(t, relays(t, relay.Options{}, url(p, "")), envelope("a@y.test"), noMark).Outcomes[0]
		requireHeld(t, o)
		require.False(t, o.AtRcpt, at)
	}
}
