package relay_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtptest"
)

func TestSessionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{}).Start(t)
	rs := relays(t, relay.Options{}, url(p, "max_conns=3"))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 10 {
				ex := send(t, rs, envelope(fmt.Sprintf("u%d-%d@y.test", i, j)), noMark)
				if ex.Outcomes[0].Status != email.RecipientDelivered {
					t.Errorf("%+v", ex)
				}
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, p.Dialed(), 3)
	got := map[string]int{}
	for _, m := range p.Messages() {
		require.Len(t, m.To, 1, "no recipient of one message leaks into another")
		got[m.To[0]]++
	}
	require.Len(t, got, 80)
}

func TestAStaleSessionIsReplacedSilently(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{}).Start(t)
	rs := relays(t, relay.Options{}, url(p, ""))
	send(t, rs, envelope("one@y.test"), noMark)
	p.Hangup()
	ex := send(t, rs, envelope("two@y.test"), noMark)
	require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status)
	require.Len(t, p.Messages(), 2)
	require.Equal(t, 2, p.Dialed())
}

func TestSessionsRetire(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now := time.Unix(0, 0)
	pass := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	p := (&smtptest.Peer{}).Start(t)
	rs := relays(t, relay.Options{Now: clock}, url(p, ""))
	count := func(line string) int {
		n := 0
		for _, l := range p.Lines() {
			if l == line {
				n++
			}
		}
		return n
	}
	send(t, rs, envelope("b@y.test"), noMark)
	pass(9 * time.Second)
	send(t, rs, envelope("b@y.test"), noMark)
	require.Equal(t, 0, count("NOOP"), "one that has just been used is not asked")
	pass(10 * time.Second)
	send(t, rs, envelope("b@y.test"), noMark)
	require.Equal(t, 1, count("NOOP"))
	require.Equal(t, 1, p.Dialed())
	pass(60 * time.Second)
	send(t, rs, envelope("b@y.test"), noMark)
	require.Equal(t, 2, p.Dialed(), "it was idle for too long")
	for n := range 12 {
		pass(5 * time.Second)
		require.Equal(t, 2, p.Dialed(), n)
		send(t, rs, envelope("b@y.test"), noMark)
	}
	require.Equal(t, 3, p.Dialed(), "and a minute is too old for one in use")
	p.Await("two goodbyes", func() bool { return count("QUIT") == 2 })
}

func TestAnIdleSessionThatDiedIsReplacedBeforeItIsUsed(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	p := (&smtptest.Peer{}).Start(t)
	rs := relays(t, relay.Options{Now: func() time.Time { return now }}, url(p, ""))
	send(t, rs, envelope("b@y.test"), noMark)
	p.Hangup()
	now = now.Add(11 * time.Second)
	ex := send(t, rs, envelope("b@y.test"), noMark)
	require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status)
	require.Equal(t, 250, transaction(ex)[0].Code, "NOOP found out, not MAIL")
}

func TestUnusedSessionsAreSweptAway(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{}).Start(t)
	rs := relays(t, relay.Options{MaxIdle: 5 * time.Millisecond}, url(p, ""))
	send(t, rs, envelope("b@y.test"), noMark)
	p.Await("the session's end", func() bool { return p.Open() == 0 && slices.Contains(p.Lines(), "QUIT") })
}

func TestWaitingForAConnection(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{}).Start(t)
	rs := relays(t, relay.Options{}, url(p, "max_conns=1"))
	held, err := rs.Session(t.Context(), delivery.Route{})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = rs.Session(ctx, delivery.Route{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	got := make(chan *relay.Session)
	go func() {
		s, err := rs.Session(t.Context(), delivery.Route{})
		if err != nil {
			t.Error(err)
		}
		got <- s
	}()
	held.Close()
	(<-got).Close()
	require.Equal(t, 1, p.Dialed())
	rs.Close()
	_, err = rs.Session(t.Context(), delivery.Route{})
	require.ErrorContains(t, err, "shutting down")
	p.Await("the session's end", func() bool { return p.Open() == 0 })
}

func TestASessionGivenBackAfterCloseIsClosed(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{}).Start(t)
	rs := relays(t, relay.Options{}, url(p, ""))
	s, err := rs.Session(t.Context(), delivery.Route{})
	require.NoError(t, err)
	rs.Close()
	require.Equal(t, email.RecipientDelivered, s.Send(t.Context(), envelope("b@y.test"), []byte(rendered), noMark).Outcomes[0].Status)
	s.Close()
	p.Await("the session's end", func() bool { return p.Open() == 0 })
}

func TestAReplacedSessionIsJudgedByItsOwnExtensions(t *testing.T) {
	t.Parallel()
	p := &smtptest.Peer{}
	var ehlos atomic.Int32
	p.Answer = func(line string) string {
		if strings.HasPrefix(line, "EHLO") && ehlos.Add(1) == 2 {
			return "250-peer.test\r\n250 SIZE 10"
		}
		return ""
	}
	p.Start(t)
	rs := relays(t, relay.Options{}, url(p, ""))
	send(t, rs, envelope("b@y.test"), noMark)
	p.Hangup()
	ex := send(t, rs, envelope("b@y.test"), noMark)
	require.Equal(t, email.DetailTooLarge, ex.Outcomes[0].Reason)
	require.Len(t, p.Messages(), 1)
}

// A server may say that it closes an idle connection before it does.
func TestASessionThatSaysItIsClosingIsReplaced(t *testing.T) {
	t.Parallel()
	p := &smtptest.Peer{}
	var mails atomic.Int32
	p.Answer = func(line string) string {
		if strings.HasPrefix(line, "MAIL") && mails.Add(1) == 2 {
			return "421 4.4.2 idle for too long"
		}
		return ""
	}
	p.Start(t)
	rs := relays(t, relay.Options{}, url(p, ""))
	send(t, rs, envelope("b@y.test"), noMark)
	ex := send(t, rs, envelope("b@y.test"), noMark)
	require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status)
	require.Equal(t, 2, p.Dialed())
}

func TestTheSessionUsedLastIsUsedFirst(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{}).Start(t)
	rs := relays(t, relay.Options{}, url(p, ""))
	one, err := rs.Session(t.Context(), delivery.Route{})
	require.NoError(t, err)
	two, err := rs.Session(t.Context(), delivery.Route{})
	require.NoError(t, err)
	one.Close()
	two.Close()
	again, err := rs.Session(t.Context(), delivery.Route{})
	require.NoError(t, err)
	require.Same(t, two, again)
	again.Close()
}

func TestASessionIsUsedForAThousandMessages(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{}).Start(t)
	rs := relays(t, relay.Options{}, url(p, ""))
	for range 1000 {
		send(t, rs, envelope("b@y.test"), noMark)
	}
	require.Equal(t, 1, p.Dialed())
	send(t, rs, envelope("b@y.test"), noMark)
	require.Equal(t, 2, p.Dialed())
}

func TestASessionWithAnUnsolicitedReplyIsNotUsedAgain(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Answer: answers(map[string]string{".": "250 2.0.0 ok\r\n550 5.1.1 for whom?"})}).Start(t)
	rs := relays(t, relay.Options{}, url(p, ""))
	for range 2 {
		require.Equal(t, email.RecipientDelivered, send(t, rs, envelope("b@y.test"), noMark).Outcomes[0].Status)
	}
	require.Equal(t, 2, p.Dialed())
}

func TestARelayThatIsDownIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Answer: answers(map[string]string{"MAIL": "421 4.3.2 shutting down"})}).Start(t)
	rs := relays(t, relay.Options{}, url(p, "max_conns=1"))
	held, err := rs.Session(t.Context(), delivery.Route{})
	require.NoError(t, err)
	defer held.Close()
	require.True(t, held.Send(t.Context(), envelope("b@y.test"), []byte(rendered), noMark).RelayFault)
	_, err = rs.Session(t.Context(), delivery.Route{})
	require.ErrorContains(t, err, "not tried before")
}

func TestAProbeThatFindsNothingOutIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	var up atomic.Bool
	p := (&smtptest.Peer{Answer: func(line string) string {
		if strings.HasPrefix(line, "RCPT") && !up.Load() {
			return "530 5.7.0 authentication required"
		}
		return ""
	}}).Start(t)
	rs := relays(t, relay.Options{Now: func() time.Time { return now }}, url(p, ""))
	require.True(t, send(t, rs, envelope("b@y.test"), noMark).RelayFault)
	now = now.Add(10 * time.Second)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 { // a free slot and an ended context: either may win
		s, err := rs.Session(canceled, delivery.Route{})
		require.ErrorIs(t, err, context.Canceled)
		require.Nil(t, s)
	}
	s, err := rs.Session(t.Context(), delivery.Route{})
	require.NoError(t, err)
	_, err = rs.Session(t.Context(), delivery.Route{})
	require.ErrorContains(t, err, "not tried before", "one at a time")
	s.Close()
	up.Store(true)
	require.False(t, send(t, rs, envelope("b@y.test"), noMark).RelayFault)
	require.True(t, rs.Fast(delivery.Route{}))
}

func BenchmarkSend(b *testing.B) {
	p := (&smtptest.Peer{}).Start(b)
	r, err := relay.Parse(url(p, ""))
	require.NoError(b, err)
	for name, idle := range map[string]time.Duration{"pooled": time.Minute, "dialled": time.Nanosecond} {
		b.Run(name, func(b *testing.B) {
			rs := relay.New([]relay.Relay{r}, relay.Options{MaxIdle: idle})
			defer rs.Close()
			for b.Loop() {
				s, err := rs.Session(b.Context(), delivery.Route{})
				require.NoError(b, err)
				ex := s.Send(b.Context(), envelope("b@y.test"), []byte(rendered), noMark)
				s.Close()
				require.Equal(b, email.RecipientDelivered, ex.Outcomes[0].Status)
			}
		})
	}
}

// TestBroadcastLeavesConnections: with the relay full of broadcast mail, and more of it
// waiting, transactional mail has a connection at once.
func TestBroadcastLeavesConnections(t *testing.T) {
	t.Parallel()
	for maxConns, atMost := range map[int]int{4: 3, 10: 7, 2: 1, 1: 1} {
		t.Run(fmt.Sprint(maxConns), func(t *testing.T) {
			t.Parallel()
			p := (&smtptest.Peer{}).Start(t)
			rs := relays(t, relay.Options{}, url(p, fmt.Sprintf("max_conns=%d", maxConns)))
			newsletter := delivery.Route{Stream: email.StreamBroadcast}
			var held []*relay.Session
			for range atMost {
				s, err := rs.Session(t.Context(), newsletter)
				require.NoError(t, err)
				held = append(held, s)
			}
			const waiting = 20
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for range waiting {
				wg.Go(func() {
					if _, err := rs.Session(ctx, newsletter); !errors.Is(err, context.Canceled) {
						t.Errorf("broadcast got more than %d: %v", atMost, err)
					}
				})
			}
			defer cancel()
			inTime, late := context.WithTimeout(t.Context(), 10*time.Second)
			defer late()
			for range maxConns - atMost {
				s, err := rs.Session(inTime, delivery.Route{})
				require.NoError(t, err)
				defer s.Close()
			}
			cancel()
			wg.Wait()
			for _, s := range held {
				s.Close()
			}
			for range 2 * maxConns { // what was given back, or given up, is free
				s, err := rs.Session(t.Context(), newsletter)
				require.NoError(t, err)
				s.Close()
			}
		})
	}
}
