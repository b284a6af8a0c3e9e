package smtp

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
)

func fails() *email.RelayError {
	return &email.RelayError{Relay: email.Relay{Name: "r"}, Reply: email.Reply{Code: 535}, Err: errors.New("refused")}
}

func TestTheBackoffDoublesUpToFiveMinutes(t *testing.T) {
	t.Parallel()
	b, now := &breaker{}, time.Unix(0, 0)
	for _, want := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
		probe, e := b.admit(now)
		require.Nil(t, e)
		wait, _ := b.failed(now, fails(), broken{probe: probe})
		require.Equal(t, want*time.Second, wait)
		e = b.down(now.Add(want*time.Second - time.Nanosecond))
		require.NotNil(t, e)
		require.Equal(t, 535, e.Reply.Code, "the cause stays visible while nothing is tried")
		require.ErrorContains(t, e, "refused")
		require.Equal(t, want*time.Second, b.down(now).RetryAfter)
		now = now.Add(want * time.Second)
		require.Nil(t, b.down(now))
	}
	_, e := b.admit(now)
	require.Nil(t, e)
	require.True(t, b.succeeded())
	require.True(t, b.up())
	wait, first := b.failed(now, fails(), broken{})
	require.True(t, first)
	require.Equal(t, firstBackoff, wait, "it begins anew")
}

func TestOneProbeAtATime(t *testing.T) {
	t.Parallel()
	b, now := &breaker{}, time.Unix(0, 0)
	b.failed(now, fails(), broken{})
	now = now.Add(firstBackoff)
	probe, e := b.admit(now)
	require.True(t, probe)
	require.Nil(t, e)
	_, e = b.admit(now)
	require.NotNil(t, e)
	require.Equal(t, firstBackoff, e.RetryAfter)
	b.abstain()
	probe, e = b.admit(now)
	require.True(t, probe)
	require.Nil(t, e)
}

func TestManyThatBreakOffAtOnceCountAsOne(t *testing.T) {
	t.Parallel()
	b, now := &breaker{}, time.Unix(0, 0)
	for range 8 {
		wait, _ := b.failed(now, fails(), broken{inTransaction: true})
		require.Equal(t, firstBackoff, wait)
	}
	require.Nil(t, b.down(now.Add(firstBackoff)))
}

func TestAConnectionHealsOnlyWhatAConnectionBroke(t *testing.T) {
	t.Parallel()
	b, now := &breaker{}, time.Unix(0, 0)
	b.failed(now, fails(), broken{inTransaction: true})
	require.False(t, b.connected())
	require.False(t, b.up())
	require.True(t, b.succeeded())
	b.failed(now, fails(), broken{})
	require.True(t, b.connected())
	require.True(t, b.up())
}

func TestOneRefusedMailDoesNotCloseARelay(t *testing.T) {
	t.Parallel()
	b, now := &breaker{}, time.Unix(0, 0)
	for range 10 {
		require.False(t, b.refused(now, fails()))
		require.False(t, b.refused(now, fails()))
		b.succeeded()
	}
	require.True(t, b.up())
	b.refused(now, fails())
	b.refused(now, fails())
	require.True(t, b.refused(now, fails()), "the third in a row does")
	require.Equal(t, firstBackoff, b.down(now).RetryAfter)
	now = now.Add(firstBackoff)
	probe, e := b.admit(now)
	require.True(t, probe)
	require.Nil(t, e)
	require.True(t, b.refused(now, fails()))
	require.Equal(t, firstBackoff, b.down(now).RetryAfter, "its backoff does not grow")
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
