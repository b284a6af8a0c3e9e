package relay_test

import (
	"errors"
	"fmt"
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

// attempt sends an e-mail whose id the relays know; false if none takes it now.
func attempt(t *testing.T, rs *relay.Relays, env delivery.Envelope) (delivery.Outcome, bool) {
	t.Helper()
	s, err := rs.Session(t.Context(), delivery.Route{For: env.ID})
	if err != nil {
		relay, ok := errors.AsType[*delivery.RelayError](err)
		require.True(t, ok, "%v", err)
		require.Positive(t, relay.RetryAfter)
		return delivery.Outcome{}, false
	}
	defer s.Close()
	return s.Send(t.Context(), env, []byte("\r\n"), noMark).Outcomes[0], true
}

// TestMailThatARelayRefusesHoldsBackNoOther: however much of it there is, what has not been
// refused yet goes at once, and shows that the relay works.
func TestMailThatARelayRefusesHoldsBackNoOther(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		accessDenied, unknown571, "550 5.7.1 Unable to relay", "521 5.7.1 go away", smtptest.ThenDrop("521 5.7.1 go away"), "421 4.7.0 try again later", smtptest.Drop, "451 4.3.0 Temporary lookup failure",
	} {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			p := (&smtptest.Peer{Answer: answers(map[string]string{"RCPT TO:<bad": answer})}).Start(t)
			rs := relays(t, relay.Options{Now: c.now}, url(p, "name=primary"))
			bad := func(n int) delivery.Envelope { return to(fmt.Sprint("bad ", n), fmt.Sprintf("bad%d@d%d.test", n, n)) }
			for round := range 5 {
				for n := range 20 {
					o, ok := attempt(t, rs, bad(n))
					require.True(t, ok || round > 0, "the %d. is tried once", n)
					if ok && round == 0 {
						requireHeld(t, o)
					}
				}
				good := to(fmt.Sprint("good ", round), "good@y.test")
				o, ok := attempt(t, rs, good)
				require.True(t, ok, "it does not wait")
				require.Equal(t, email.RecipientDelivered, o.Status)
				require.True(t, rs.Up()["primary"], "the relay takes mail")
				c.move(6 * time.Minute)
			}
		})
	}
}

// TestARelayThatTakesOtherMailStaysUpForWhatItRefusesAgain: however much of that there is. A relay
// that takes no mail any more is down after three refusals.
func TestARelayThatTakesOtherMailStaysUpForWhatItRefusesAgain(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"554 5.7.1 <x@other.test>: Relay access denied", "450 4.7.1 Error: too much mail from 127.0.0.1"} {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			var broken atomic.Bool
			p := (&smtptest.Peer{Answer: func(line string) string {
				if strings.HasPrefix(line, "RCPT TO:<bad") || broken.Load() && strings.HasPrefix(line, "RCPT") {
					return answer
				}
				return ""
			}}).Start(t)
			rs := relays(t, relay.Options{Now: c.now}, url(p, "name=primary"))
			refused := func() {
				for n := range 6 {
					if o, ok := attempt(t, rs, to(fmt.Sprint("bad ", n), fmt.Sprintf("bad%d@d.test", n))); ok {
						requireHeld(t, o)
					}
					c.move(time.Second)
				}
			}
			good := func(n int) delivery.Outcome {
				o, ok := attempt(t, rs, to(fmt.Sprint("good ", n), "good@y.test"))
				require.True(t, ok, "it does not wait")
				c.move(time.Second)
				return o
			}
			refused()
			require.False(t, rs.Up()["primary"], "it has taken nothing yet")
			for round := range 5 {
				require.Equal(t, email.RecipientDelivered, good(round).Status)
				c.move(6 * time.Minute)
				refused()
				require.True(t, rs.Up()["primary"], "round %d", round)
			}
			broken.Store(true)
			for n := range 3 {
				require.True(t, rs.Up()["primary"])
				requireHeld(t, good(100+n))
			}
			require.False(t, rs.Up()["primary"])
		})
	}
}

// TestARelayThatRefusesAllMailIsNotAskedAllTheTime: what is new comes one after the other,
// and later and later.
func TestARelayThatRefusesAllMailIsNotAskedAllTheTime(t *testing.T) {
	t.Parallel()
	c := newClock()
	rs := relays(t, relay.Options{Now: c.now}, url(refusing(t, map[string]string{"": unknown571}), "name=primary"))
	asked := 0
	for n := range 1000 {
		if o, ok := attempt(t, rs, to(fmt.Sprint(n), fmt.Sprintf("a%d@d%d.test", n, n))); ok {
			requireHeld(t, o)
			asked++
		}
		c.move(time.Second)
	}
	require.Greater(t, asked, 50)
	require.Less(t, asked, 50+1000/15+10)
	require.Equal(t, map[string]bool{"primary": false}, rs.Up())
}

// TestOneMailAtATimeProbesARelayThatRefusesMail.
func TestOneMailAtATimeProbesARelayThatRefusesMail(t *testing.T) {
	t.Parallel()
	rs := relays(t, relay.Options{}, url(refusing(t, map[string]string{"bad": unknown571}), "name=primary"))
	for n := range 2 {
		_, ok := attempt(t, rs, to(fmt.Sprint("bad ", n), fmt.Sprintf("bad%d@d%d.test", n, n)))
		require.True(t, ok)
	}
	require.NotNil(t, rs.Down(delivery.Route{For: "bad 0"}), "what was refused waits")
	require.Nil(t, rs.Down(delivery.Route{For: "good"}))
	s, err := rs.Session(t.Context(), delivery.Route{For: "good"})
	require.NoError(t, err)
	require.Equal(t, 1, rs.Lot(delivery.Route{Relay: "primary"}, time.Second), "no more of a batch is opened than is sent now")
	down := rs.Down(delivery.Route{For: "good too"})
	require.NotNil(t, down)
	require.LessOrEqual(t, down.RetryAfter, 2*time.Second)
	require.Equal(t, email.RecipientDelivered, s.Send(t.Context(), to("good", "good@y.test"), []byte("\r\n"), noMark).Outcomes[0].Status)
	s.Close()
	for _, of := range []string{"bad 0", "good too"} {
		require.Nil(t, rs.Down(delivery.Route{For: of}))
	}
	require.Greater(t, rs.Lot(delivery.Route{Relay: "primary"}, time.Second), 1)
}

func TestNoEarlyProbesWhileAnotherRelayWorks(t *testing.T) {
	t.Parallel()
	c := newClock()
	first := refusing(t, map[string]string{"bad": unknown571})
	second := (&smtptest.Peer{}).Start(t)
	rs := relays(t, relay.Options{Now: c.now}, url(first, "name=first"), url(second, "name=second"))
	for n := range 2 {
		o, ok := attempt(t, rs, to(fmt.Sprint("bad ", n), fmt.Sprintf("bad%d@d%d.test", n, n)))
		require.True(t, ok && o.Elsewhere)
	}
	for n := range 3 {
		o, ok := attempt(t, rs, to(fmt.Sprint("good ", n), "good@y.test"))
		require.True(t, ok)
		require.Equal(t, email.RecipientDelivered, o.Status)
	}
	require.Len(t, second.Messages(), 3)
	c.move(10 * time.Second)
	_, ok := attempt(t, rs, to("good 3", "good@y.test"))
	require.True(t, ok)
	require.Len(t, first.Messages(), 1, "its backoff is over")
	require.True(t, rs.Up()["first"])
}

// TestAnUnreachableRelayIsDownForAllMail: that it refused some before does not matter then.
func TestAnUnreachableRelayIsDownForAllMail(t *testing.T) {
	t.Parallel()
	p := refusing(t, map[string]string{"bad": unknown571})
	rs := relays(t, relay.Options{}, url(p, "name=primary"))
	for n := range 2 {
		_, ok := attempt(t, rs, to(fmt.Sprint("bad ", n), fmt.Sprintf("bad%d@d%d.test", n, n)))
		require.True(t, ok)
	}
	p.Close()
	for _, of := range []string{"new", "newer"} {
		_, ok := attempt(t, rs, to(of, "good@y.test"))
		require.False(t, ok)
	}
	require.Greater(t, rs.Down(delivery.Route{For: "newest"}).RetryAfter, 10*time.Second, "by the backoff")
}
