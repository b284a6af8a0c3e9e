package relay_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtptest"
)

func TestTheNextRelayIsUsedWhileOneIsDown(t *testing.T) {
	t.Parallel()
	now := time.Now()
	clock := func() time.Time { return now }
	down := (&smtptest.Peer{Greeting: "421 4.3.2 overloaded"}).Start(t)
	up := (&smtptest.Peer{}).Start(t)
	rs := relays(t, relay.Options{Now: clock}, url(down, "name=first"), url(up, "name=second"))
	for range 3 {
		send(t, rs, envelope("b@y.test"), noMark)
	}
	require.Len(t, up.Messages(), 3)
	require.Equal(t, 1, down.Dialed(), "one that does not answer is left alone for a while")
	now = now.Add(11 * time.Second)
	send(t, rs, envelope("b@y.test"), noMark)
	require.Equal(t, 2, down.Dialed(), "and then probed")
	now = now.Add(11 * time.Second)
	send(t, rs, envelope("b@y.test"), noMark)
	require.Equal(t, 2, down.Dialed(), "the backoff doubles")

	up.Close()
	var err error
	for err == nil { // an idle session is found dead when it is used
		var s *relay.Session
		if s, err = rs.Session(t.Context(), delivery.Route{}); err == nil {
			ex := s.Send(t.Context(), envelope("b@y.test"), []byte(rendered), noMark)
			require.True(t, ex.RelayFault)
			s.Close()
		}
	}
	relay, ok := errors.AsType[*delivery.RelayError](err)
	require.True(t, ok, "%v", err)
	require.Greater(t, relay.RetryAfter, time.Duration(0))
	require.LessOrEqual(t, relay.RetryAfter, 20*time.Second)
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	bulk, special, rest := (&smtptest.Peer{}).Start(t), (&smtptest.Peer{}).Start(t), (&smtptest.Peer{}).Start(t)
	rs := relays(t, relay.Options{}, url(bulk, "name=bulk&streams=broadcast"), url(special, "name=special&domains=x.test,y.test"), url(rest, "name=rest&streams=transactional&accepts=final"))
	for _, tc := range []struct {
		route delivery.Route
		want  string
	}{
		{delivery.Route{Stream: email.StreamBroadcast, SenderDomain: "x.test"}, "bulk"},
		{delivery.Route{Stream: email.StreamTransactional, SenderDomain: "y.test"}, "special"},
		{delivery.Route{Stream: email.StreamTransactional, SenderDomain: "z.test"}, "rest"},
	} {
		s, err := rs.Session(t.Context(), tc.route)
		require.NoError(t, err)
		require.Equal(t, tc.want, s.Relay().Name)
		s.Close()
		require.True(t, rs.Fast(tc.route))
	}
	for want, relay := range map[string]string{"rest": "rest", "special": "gone"} {
		s, err := rs.Session(t.Context(), delivery.Route{Stream: email.StreamTransactional, SenderDomain: "y.test", Relay: relay})
		require.NoError(t, err)
		require.Equal(t, want, s.Relay().Name, "a message stays at the relay %s, as long as there is one of that name", relay)
		s.Close()
	}
	only := relays(t, relay.Options{}, url(bulk, "streams=broadcast"))
	_, err := only.Session(t.Context(), delivery.Route{Stream: email.StreamTransactional})
	require.ErrorContains(t, err, "no relay takes this mail")
}

func TestARelayThatRefusesEverythingIsPassedOver(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	denies := (&smtptest.Peer{Answer: answers(map[string]string{"RCPT": "554 5.7.1 Relay access denied"})}).Start(t)
	takes := (&smtptest.Peer{}).Start(t)
	rs := relays(t, relay.Options{Now: func() time.Time { return now }}, url(denies, "name=first"), url(takes, "name=second"))
	for range 3 {
		ex := send(t, rs, envelope("b@y.test"), noMark)
		require.True(t, ex.RelayFault)
		require.Equal(t, 10*time.Second, ex.Outcomes[0].RetryAfter)
		require.True(t, ex.Outcomes[0].Uncounted)
		require.Empty(t, takes.Messages())
	}
	ex := send(t, rs, envelope("b@y.test"), noMark)
	require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status)
	require.Len(t, takes.Messages(), 1)
}

func TestOneRecipientThatARelayRefusesHoldsBackNobody(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Answer: answers(map[string]string{"RCPT TO:<odd@": "550 5.7.1 Unable to relay"})}).Start(t)
	rs := relays(t, relay.Options{}, url(p, ""))
	for range 4 {
		ex := send(t, rs, envelope("odd@z.test"), noMark)
		require.True(t, ex.RelayFault)
		require.Equal(t, 10*time.Second, ex.Outcomes[0].RetryAfter, "the least; the e-mail's waits grow")
		ex = send(t, rs, envelope("odd@z.test", "b@y.test"), noMark)
		require.False(t, ex.RelayFault)
		require.Equal(t, email.RecipientDeferred, ex.Outcomes[0].Status)
		require.Equal(t, email.RecipientDelivered, ex.Outcomes[1].Status)
	}
}

func TestAFaultInATransactionLeadsToTheNextRelay(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer string
		// times it may happen: a connection may end for one recipient's sake.
		times int
	}{
		"closing": {"421 4.3.2 shutting down", 3}, "gone": {smtptest.Drop, 3}, "credentials": {"530 5.7.0 Authentication required", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ill := (&smtptest.Peer{Answer: answers(map[string]string{"RCPT": tc.answer})}).Start(t)
			well := (&smtptest.Peer{}).Start(t)
			rs := relays(t, relay.Options{}, url(ill, "name=ill"), url(well, "name=well"))
			for range tc.times {
				require.True(t, send(t, rs, envelope("b@y.test"), noMark).RelayFault)
			}
			require.True(t, rs.Fast(delivery.Route{}), "the next one is not known to be slow")
			require.Nil(t, rs.Down(delivery.Route{}), "one is left")
			require.Equal(t, email.RecipientDelivered, send(t, rs, envelope("b@y.test"), noMark).Outcomes[0].Status)
			require.Len(t, well.Messages(), 1)
		})
	}
}

func TestAllRelaysDown(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	one := (&smtptest.Peer{Greeting: "554 5.3.2 no service"}).Start(t)
	two := (&smtptest.Peer{Greeting: smtptest.Drop}).Start(t)
	rs := relays(t, relay.Options{Now: func() time.Time { return now }}, url(one, "name=one"), url(two, "name=two"))
	for _, want := range []time.Duration{10, 20, 40} {
		_, err := rs.Session(t.Context(), delivery.Route{})
		relay, ok := errors.AsType[*delivery.RelayError](err)
		require.True(t, ok)
		require.Equal(t, want*time.Second, relay.RetryAfter)
		require.False(t, rs.Fast(delivery.Route{}))
		require.ErrorContains(t, rs.Down(delivery.Route{}), "not tried before")
		now = now.Add(4 * time.Second)
		_, err = rs.Session(t.Context(), delivery.Route{})
		relay, ok = errors.AsType[*delivery.RelayError](err)
		require.True(t, ok)
		require.Equal(t, want*time.Second-4*time.Second, relay.RetryAfter, "the time of the earliest probe")
		now = now.Add(want*time.Second - 4*time.Second)
	}
	require.Equal(t, 3, one.Dialed())
	require.Equal(t, 3, two.Dialed())
}

func TestRelaysOfOneNameAreKeptApart(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{User: "user", Password: "p"}).Start(t)
	rs := relays(t, relay.Options{}, "smtp://"+p.Addr()+"?tls=none&streams=broadcast", "smtp://user:p@"+p.Addr()+"?tls=none&streams=transactional")
	for _, stream := range []email.Stream{email.StreamBroadcast, email.StreamTransactional, email.StreamBroadcast, email.StreamTransactional} {
		s, err := rs.Session(t.Context(), delivery.Route{Stream: stream})
		require.NoError(t, err)
		s.Send(t.Context(), envelope("b@y.test"), []byte(rendered), noMark)
		s.Close()
	}
	var users []string
	for _, m := range p.Messages() {
		users = append(users, m.User)
	}
	require.Equal(t, []string{"", "user", "", "user"}, users)
	require.Equal(t, 2, p.Dialed())
}

func TestTheEarliestProbeCounts(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	one := (&smtptest.Peer{Greeting: "554 5.3.2 no service"}).Start(t)
	two := (&smtptest.Peer{Greeting: "554 5.3.2 no service"}).Start(t)
	rs := relays(t, relay.Options{Now: func() time.Time { return now }}, url(one, "name=one"), url(two, "name=two&streams=transactional"))
	_, err := rs.Session(t.Context(), delivery.Route{Stream: email.StreamBroadcast})
	require.Error(t, err)
	now = now.Add(4 * time.Second)
	_, err = rs.Session(t.Context(), delivery.Route{Stream: email.StreamTransactional})
	relay, ok := errors.AsType[*delivery.RelayError](err)
	require.True(t, ok)
	require.Equal(t, "two", relay.Relay.Name)
	require.Equal(t, 6*time.Second, relay.RetryAfter)
}

// TestOneRecipientThatEndsConnectionsHoldsBackNobody: neither the others of its e-mail nor other
// mail.
func TestOneRecipientThatEndsConnectionsHoldsBackNobody(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{"421": "421 4.7.0 Try again later", "cut": smtptest.Drop, "nonsense": "???"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := (&smtptest.Peer{Answer: answers(map[string]string{"RCPT TO:<bad@": answer})}).Start(t)
			c := newClock()
			rs := relays(t, relay.Options{Now: c.now}, url(p, ""))
			ex := send(t, rs, envelope("a@y.test", "bad@y.test", "c@y.test"), noMark)
			require.Zero(t, ex.Outcomes[1].RetryAfter, "it waits by its schedule")
			for _, i := range []int{0, 2} {
				require.Equal(t, 10*time.Second, ex.Outcomes[i].RetryAfter)
			}
			for range 10 {
				ex := send(t, rs, envelope("a@y.test", "bad@y.test", "c@y.test"), noMark)
				require.NotEqual(t, email.RecipientDelivered, ex.Outcomes[1].Status)
				var rest []string
				for i, to := range map[int]string{0: "a@y.test", 2: "c@y.test"} {
					if ex.Outcomes[i].Status != email.RecipientDelivered {
						rest = append(rest, to)
					}
				}
				require.LessOrEqual(t, deliver(t, rs, c, rest...), 2, "the rest goes without it, one by one where the relay may have a limit")
			}
		})
	}
}
