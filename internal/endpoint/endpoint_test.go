package endpoint_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/endpoint"
)

func TestSchedule(t *testing.T) {
	t.Parallel()
	var s endpoint.Schedule
	require.Equal(t, 10, s.Attempts())
	var plain, longest, shortest time.Duration
	var at []time.Duration
	for n := range s.Attempts() {
		d, ok := s.Next(n, 0.5)
		require.True(t, ok)
		plain += d
		at = append(at, plain)
		hi, _ := s.Next(n, 1)
		lo, _ := s.Next(n, 0)
		require.InDelta(t, 1.2*float64(d), float64(hi), 1)
		require.InDelta(t, 0.8*float64(d), float64(lo), 1)
		longest += hi
		shortest += lo
	}
	h := func(s string) time.Duration {
		d, err := time.ParseDuration(s)
		require.NoError(t, err)
		return d
	}
	require.Equal(t, []time.Duration{
		0, h("5s"), h("5m5s"), h("35m5s"), h("2h35m5s"), h("7h35m5s"), h("17h35m5s"), h("31h35m5s"), h("51h35m5s"), h("75h35m5s"),
	}, at)
	require.InDelta(t, float64(h("90h42m6s")), float64(longest), 10)
	require.InDelta(t, float64(h("60h28m4s")), float64(shortest), 10)

	for _, n := range []int{-1, 10, 11} {
		_, ok := s.Next(n, 0.5)
		require.False(t, ok, "attempt %d", n)
	}
}

func TestScheduleOfTheOperator(t *testing.T) {
	t.Parallel()
	s := endpoint.Schedule{Steps: []time.Duration{0, time.Minute}}
	require.Equal(t, 2, s.Attempts())
	d, ok := s.Next(1, 0.5)
	require.True(t, ok)
	require.Equal(t, time.Minute, d)
	_, ok = s.Next(2, 0.5)
	require.False(t, ok)
}

func TestRetryAfterMovesTheNextAttempt(t *testing.T) {
	t.Parallel()
	var s endpoint.Schedule
	for name, tc := range map[string]struct {
		attempts   int
		retryAfter time.Duration
		want       time.Duration
		ok         bool
	}{
		"not asked":                {1, 0, 5 * time.Second, true},
		"later than the schedule":  {1, time.Hour, time.Hour, true},
		"sooner than the schedule": {4, time.Second, 2 * time.Hour, true},
		"longer than allowed":      {1, 48 * time.Hour, 24 * time.Hour, true},
		"no attempt left":          {10, time.Hour, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := s.NextAfter(tc.attempts, tc.retryAfter, 0.5)
			require.Equal(t, tc.ok, ok)
			require.Equal(t, tc.want, got)
		})
	}
	var worst time.Duration
	for n := 1; n < s.Attempts(); n++ {
		d, ok := s.NextAfter(n, 24*time.Hour, 0)
		require.True(t, ok)
		worst += d
	}
	require.Equal(t, 9*24*time.Hour, worst)
}

func TestClassify(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		status     int
		retryAfter string
		verdict    endpoint.Verdict
		wait       time.Duration
	}{
		"200":                        {200, "", endpoint.VerdictDelivered, 0},
		"204":                        {204, "60", endpoint.VerdictDelivered, 0},
		"299":                        {299, "", endpoint.VerdictDelivered, 0},
		"no answer":                  {0, "", endpoint.VerdictRetry, 0},
		"199":                        {199, "", endpoint.VerdictRetry, 0},
		"302":                        {302, "", endpoint.VerdictRetry, 0},
		"400":                        {400, "", endpoint.VerdictRetry, 0},
		"404":                        {404, "", endpoint.VerdictRetry, 0},
		"410":                        {410, "60", endpoint.VerdictGone, 0},
		"500":                        {500, "", endpoint.VerdictRetry, 0},
		"429 in seconds":             {429, " 120 ", endpoint.VerdictRetry, 2 * time.Minute},
		"503 too long":               {503, "172800", endpoint.VerdictRetry, 24 * time.Hour},
		"429 far too long":           {429, "99999999999999999999", endpoint.VerdictRetry, 24 * time.Hour},
		"429 with a date":            {429, "Sat, 14 Mar 2026 13:00:00 GMT", endpoint.VerdictRetry, time.Hour},
		"429 with an old date form":  {429, "Saturday, 14-Mar-26 13:00:00 GMT", endpoint.VerdictRetry, time.Hour},
		"429 with an asctime":        {429, "Sat Mar 14 13:00:00 2026", endpoint.VerdictRetry, time.Hour},
		"429 with a date long ahead": {429, "Sun, 14 Mar 2027 13:00:00 GMT", endpoint.VerdictRetry, 24 * time.Hour},
		"429 with a date gone by":    {429, "Sat, 14 Mar 2026 11:00:00 GMT", endpoint.VerdictRetry, 0},
		"429 negative":               {429, "-5", endpoint.VerdictRetry, 0},
		"429 nonsense":               {429, "soon", endpoint.VerdictRetry, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			verdict, wait := endpoint.Classify(tc.status, tc.retryAfter, now)
			require.Equal(t, tc.verdict, verdict)
			require.Equal(t, tc.wait, wait)
		})
	}
}

func TestWants(t *testing.T) {
	t.Parallel()
	e := endpoint.Endpoint{Events: []string{"email.delivered"}}
	require.True(t, e.Wants("email.delivered"))
	require.False(t, e.Wants("email.queued"))
	e.Disabled = true
	require.False(t, e.Wants("email.delivered"))
}
