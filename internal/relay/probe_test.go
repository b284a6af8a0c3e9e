package relay_test

import (
	"context"
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

// running runs relays until the test ends.
func running(t *testing.T, rs *relay.Relays) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); rs.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// patience is how long a test waits for what comes at once on a machine that is not busy.
const patience = time.Minute

// hasty is a clock on which five minutes pass each time it is read: each reader finds the
// backoff over.
func hasty() func() time.Time {
	var mu sync.Mutex
	now := time.Unix(1000, 0)
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(5 * time.Minute)
		return now
	}
}

func TestRelaysAreProbedWithoutMail(t *testing.T) {
	t.Parallel()
	var ill atomic.Bool
	p := (&smtptest.Peer{User: "shop", Password: "secret", Answer: func(line string) string {
		if ill.Load() && strings.HasPrefix(line, "AUTH") {
			return "535 5.7.8 wrong credentials"
		}
		return ""
	}}).Start(t)
	rs := relays(t, relay.Options{Now: hasty(), ProbeEvery: time.Millisecond}, "smtp://shop:secret@"+p.Addr()+"?tls=none&name=primary")
	require.Empty(t, rs.Up(), "nothing is known before it was tried")
	running(t, rs)
	p.Await("a probe at the start", func() bool { return slices.Contains(p.Lines(), "QUIT") })
	require.Equal(t, map[string]bool{"primary": true}, rs.Up())
	lines := p.Lines()
	require.True(t, strings.HasPrefix(lines[0], "EHLO "))
	require.True(t, strings.HasPrefix(lines[1], "AUTH "))
	require.NotContains(t, strings.Join(lines, " "), "MAIL")

	ill.Store(true)
	require.Eventually(t, func() bool { return !rs.Up()["primary"] }, patience, time.Millisecond, "a probe fails")
	ill.Store(false)
	require.Eventually(t, func() bool { return rs.Up()["primary"] }, patience, time.Millisecond, "a probe finds it working")
}

// TestARelayThatFailsIsProbedAfterItsBackoff, however long it is until the next probe of one that
// works: waiting mail does not ask.
func TestARelayThatFailsIsProbedAfterItsBackoff(t *testing.T) {
	t.Parallel()
	var ill atomic.Bool
	p := (&smtptest.Peer{Answer: func(line string) string {
		if ill.Load() && strings.HasPrefix(line, "EHLO") {
			return "421 4.3.2 shutting down"
		}
		return ""
	}}).Start(t)
	rs := relays(t, relay.Options{Now: hasty(), ProbeEvery: time.Hour}, url(p, "name=primary"))
	running(t, rs)
	require.Eventually(t, func() bool { return rs.Up()["primary"] }, patience, time.Millisecond)
	ill.Store(true)
	_, err := rs.Session(t.Context(), delivery.Route{})
	require.Error(t, err)
	p.Await("a probe", func() bool { return p.Dialed() >= 3 })
	ill.Store(false)
	require.Eventually(t, func() bool { return rs.Up()["primary"] }, patience, time.Millisecond)
}

// With mail, or without an interval, nothing is probed.
func TestWhatIsNotProbed(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	busy, idle := (&smtptest.Peer{}).Start(t), (&smtptest.Peer{}).Start(t)
	with := relays(t, relay.Options{Now: func() time.Time { return now }, ProbeEvery: time.Minute}, url(busy, ""))
	send(t, with, envelope("b@y.test"), noMark)
	without := relays(t, relay.Options{}, url(idle, ""))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); with.Run(ctx) }()
	without.Run(ctx) // returns: there is nothing to do
	cancel()
	<-done
	require.Equal(t, 1, busy.Dialed())
	require.Zero(t, idle.Dialed())
}

// A relay that refused MAIL is probed with that command, and with no mail waiting.
func TestAProbeWithoutMailRepeatsTheRefusedMAIL(t *testing.T) {
	t.Parallel()
	var full atomic.Bool
	full.Store(true)
	p := (&smtptest.Peer{Answer: func(line string) string {
		if full.Load() && strings.HasPrefix(line, "MAIL") {
			return "452 4.3.1 Insufficient system storage"
		}
		return ""
	}}).Start(t)
	rs := relays(t, relay.Options{Now: hasty(), ProbeEvery: time.Millisecond}, url(p, "name=primary"))
	out := send(t, rs, envelope("b@y.test"), noMark).Outcomes[0]
	require.True(t, out.RelayFault && out.Uncounted)
	mails := func() int {
		return len(slices.DeleteFunc(p.Lines(), func(l string) bool { return l != "MAIL FROM:<a@x.test>" }))
	}
	running(t, rs)
	p.Await("three probes", func() bool { return mails() >= 4 })
	require.False(t, rs.Up()["primary"])
	full.Store(false)
	require.Eventually(t, func() bool { return rs.Up()["primary"] }, patience, time.Millisecond, "it is back")
	require.Equal(t, email.RecipientDelivered, send(t, rs, envelope("b@y.test"), noMark).Outcomes[0].Status)
}
