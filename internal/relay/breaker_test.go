package relay

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

func fails() *delivery.RelayError {
	return &delivery.RelayError{Relay: email.Relay{Name: "r"}, Reply: email.Reply{Code: 535}, Err: errors.New("refused")}
}

func TestTheBackoffDoublesUpToFiveMinutes(t *testing.T) {
	t.Parallel()
	b, now := &breaker{}, time.Unix(0, 0)
	for _, want := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
		probe, e := b.admit(now, false)
		require.Nil(t, e)
		wait, _ := b.failed(now, fails(), failure{probe: probe})
		require.Equal(t, want*time.Second, wait)
		e = b.down(now.Add(want*time.Second-time.Nanosecond), false)
		require.NotNil(t, e)
		require.Equal(t, 535, e.Reply.Code, "the cause stays visible while nothing is tried")
		require.ErrorContains(t, e, "refused")
		require.Equal(t, want*time.Second, b.down(now, false).RetryAfter)
		now = now.Add(want * time.Second)
		require.Nil(t, b.down(now, false))
	}
	_, e := b.admit(now, false)
	require.Nil(t, e)
	require.True(t, b.succeeded())
	require.True(t, b.up())
	wait, first := b.failed(now, fails(), failure{})
	require.True(t, first)
	require.Equal(t, firstBackoff, wait, "it begins anew")
}

func TestOneProbeAtATime(t *testing.T) {
	t.Parallel()
	b, now := &breaker{}, time.Unix(0, 0)
	b.failed(now, fails(), failure{})
	now = now.Add(firstBackoff)
	probe, e := b.admit(now, false)
	require.True(t, probe)
	require.Nil(t, e)
	_, e = b.admit(now, false)
	require.NotNil(t, e)
	require.Equal(t, firstBackoff, e.RetryAfter)
	b.releaseProbe()
	probe, e = b.admit(now, false)
	require.True(t, probe)
	require.Nil(t, e)
}

func TestManyThatBreakOffAtOnceCountAsOne(t *testing.T) {
	t.Parallel()
	b, now := &breaker{}, time.Unix(0, 0)
	for range 8 {
		wait, _ := b.failed(now, fails(), failure{inTransaction: true})
		require.Equal(t, firstBackoff, wait)
	}
	require.Nil(t, b.down(now.Add(firstBackoff), false))
}

func TestAConnectionHealsOnlyWhatAConnectionBroke(t *testing.T) {
	t.Parallel()
	b, now := &breaker{}, time.Unix(0, 0)
	b.failed(now, fails(), failure{inTransaction: true})
	require.False(t, b.connected())
	require.False(t, b.up())
	require.True(t, b.succeeded())
	b.failed(now, fails(), failure{})
	require.True(t, b.connected())
	require.True(t, b.up())
}

func TestOneRefusedMailDoesNotCloseARelay(t *testing.T) {
	t.Parallel()
	b, now := &breaker{}, time.Unix(0, 0)
	refused := func(how failure) bool {
		how.perhaps, how.inTransaction = true, true
		_, down := b.refused(now, fails(), how)
		return down
	}
	for range 10 {
		require.False(t, refused(failure{}))
		require.False(t, refused(failure{}))
		b.succeeded()
	}
	require.True(t, b.up())
	refused(failure{})
	refused(failure{})
	require.True(t, refused(failure{}), "the third in a row does")
	require.Equal(t, firstBackoff, b.down(now, false).RetryAfter)
	now = now.Add(firstBackoff)
	probe, e := b.admit(now, false)
	require.True(t, probe)
	require.Nil(t, e)
	require.True(t, refused(failure{probe: true}))
	require.Equal(t, 2*firstBackoff, b.down(now, false).RetryAfter)
}

// TestMailThatWasNotRefusedYetGoesFirst: it waits neither for the backoff nor for the probes
// of what was refused.
func TestMailThatWasNotRefusedYetGoesFirst(t *testing.T) {
	t.Parallel()
	b, now := &breaker{}, time.Unix(0, 0)
	pattern := failure{inTransaction: true, perhaps: true}
	b.failed(now, fails(), pattern)
	require.NotNil(t, b.down(now, false))
	require.Nil(t, b.down(now, true))

	pattern.probe = true
	for range 6 { // what was refused is refused again
		now = now.Add(lastBackoff)
		probe, e := b.admit(now, false)
		require.True(t, probe)
		require.Nil(t, e)
		require.Equal(t, freshWait, b.down(now, true).RetryAfter, "one at a time")
		require.Equal(t, freshWait+freshEvery, b.down(now, true).RetryAfter, "one after the other")
		b.failed(now, fails(), pattern)
		require.Nil(t, b.down(now, true))
	}
	require.Equal(t, lastBackoff, b.down(now, false).RetryAfter)

	pattern.fresh = true
	begin := now
	for n := range freshAtOnce + 6 { // what is new is refused as well
		probe, e := b.admit(now, true)
		require.True(t, probe)
		require.Nil(t, e)
		want := time.Duration(0)
		if n >= freshAtOnce {
			want = min(time.Second<<(n-freshAtOnce), 15*time.Second)
		}
		wait, _ := b.failed(now, fails(), pattern)
		require.Equal(t, want, wait)
		require.Equal(t, want > 0, b.down(now, true) != nil)
		now = now.Add(want)
	}
	require.Equal(t, lastBackoff-now.Sub(begin), b.down(now, false).RetryAfter, "which is nothing to the others")

	probe, e := b.admit(now, true)
	require.True(t, probe)
	require.Nil(t, e)
	require.True(t, b.succeeded())
	require.Nil(t, b.down(now, false), "the relay takes mail")

	b.failed(now, fails(), failure{})
	require.NotNil(t, b.down(now, true), "one that is not there is there for nobody")
}

func TestFastForgets(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	p := newPool(Relay{}, Options{})
	require.True(t, p.fast(now), "nothing is known")
	for range 19 {
		p.recent = append(p.recent, timing{now, time.Second})
	}
	p.recent = append(p.recent, timing{now, 3 * time.Second})
	require.False(t, p.fast(now), "1 of 20 is the 95th percentile")
	p.recent = append(p.recent, timing{now, time.Second})
	require.True(t, p.fast(now))
	p.recent = []timing{{now, time.Minute}}
	require.False(t, p.fast(now))
	require.True(t, p.fast(now.Add(recentWithin)), "what was long ago is not recent")
}
