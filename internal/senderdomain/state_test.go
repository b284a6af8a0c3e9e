package senderdomain_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/senderdomain"
)

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const hour, day = time.Hour, 24 * time.Hour

// run checks a domain when it says, until it says never or the time is over, and returns
// the pauses between the checks.
func run(s senderdomain.State, until time.Time, result func(now time.Time) senderdomain.Result) (senderdomain.State, []time.Duration) {
	var pauses []time.Duration
	for !s.NextCheckAt.IsZero() && !s.NextCheckAt.After(until) {
		now := s.NextCheckAt
		s = s.Next(result(now), now, 0)
		if !s.NextCheckAt.IsZero() {
			pauses = append(pauses, s.NextCheckAt.Sub(now))
		}
	}
	return s, pauses
}

func always(r senderdomain.Result) func(time.Time) senderdomain.Result {
	return func(time.Time) senderdomain.Result { return r }
}

func TestAPendingDomainOver14Days(t *testing.T) {
	t.Parallel()
	for _, result := range []senderdomain.Result{senderdomain.Missed, senderdomain.Unknown} {
		t.Run(string(result), func(t *testing.T) {
			t.Parallel()
			s, pauses := run(senderdomain.Start(begin), begin.Add(100*day), always(result))
			require.Equal(t, senderdomain.DomainFailed, s.Status)
			require.Equal(t, begin.Add(14*day), s.Since)
			require.Zero(t, s.NextCheckAt)
			type span struct {
				pause time.Duration
				times int
			}
			var spans []span
			for _, p := range pauses {
				if len(spans) == 0 || spans[len(spans)-1].pause != p {
					spans = append(spans, span{pause: p})
				}
				spans[len(spans)-1].times++
			}
			require.Equal(t, []span{
				{10 * time.Second, 6}, {time.Minute, 10},
				{10 * time.Minute, 11}, // from 0:11 to 2:01
				{hour, 46},             // to 48:01
				{6 * hour, 47},         // to 13 days 18:01
				{5*hour + 59*time.Minute, 1},
			}, spans)
		})
	}
}

func TestNext(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) time.Time { return begin.Add(d) }
	const passed, missed, unknown = senderdomain.Passed, senderdomain.Missed, senderdomain.Unknown
	type step struct {
		after  time.Duration
		result senderdomain.Result
		status senderdomain.DomainStatus
		next   time.Duration // zero: never
	}
	for name, steps := range map[string][]step{
		"a record that appears": {
			{0, missed, senderdomain.DomainPending, 10 * time.Second},
			{10 * time.Second, passed, senderdomain.DomainVerified, 10*time.Second + day},
			{10*time.Second + day, passed, senderdomain.DomainVerified, 10*time.Second + 2*day},
		},
		"one miss": {
			{0, passed, senderdomain.DomainVerified, day},
			{day, missed, senderdomain.DomainWarning, day + 3*hour},
			{day + 3*hour, passed, senderdomain.DomainVerified, 2*day + 3*hour},
			{2*day + 3*hour, missed, senderdomain.DomainWarning, 2*day + 6*hour},
			{4 * day, missed, senderdomain.DomainWarning, 4*day + 3*hour}, // 2 misses, counted anew
			{4*day + 3*hour, missed, senderdomain.DomainFailed, 0},        // 3 misses, 48 hours after the first of them
		},
		"three misses within 48 hours": {
			{0, passed, senderdomain.DomainVerified, day},
			{day, missed, senderdomain.DomainWarning, day + 3*hour},
			{2 * day, missed, senderdomain.DomainWarning, 2*day + 3*hour},
			{3*day - time.Second, missed, senderdomain.DomainWarning, 3*day + 3*hour - time.Second},
			{3 * day, missed, senderdomain.DomainFailed, 0},
		},
		"two misses 60 days apart": {
			{0, passed, senderdomain.DomainVerified, day},
			{day, missed, senderdomain.DomainWarning, day + 3*hour},
			{61 * day, missed, senderdomain.DomainWarning, 61*day + 3*hour},
			{62 * day, missed, senderdomain.DomainFailed, 0},
		},
		"temporary failures count for nothing": {
			{0, passed, senderdomain.DomainVerified, day},
			{day, unknown, senderdomain.DomainVerified, 2 * day},
			{2 * day, missed, senderdomain.DomainWarning, 2*day + 3*hour},
			{5 * day, unknown, senderdomain.DomainWarning, 5*day + 3*hour},
			{6 * day, unknown, senderdomain.DomainWarning, 6*day + 3*hour},
			{7 * day, missed, senderdomain.DomainWarning, 7*day + 3*hour},
			{8 * day, unknown, senderdomain.DomainWarning, 8*day + 3*hour},
			{9 * day, missed, senderdomain.DomainFailed, 0},
		},
		"a failed domain stays so": {
			{0, missed, senderdomain.DomainPending, 10 * time.Second},
			{14 * day, missed, senderdomain.DomainFailed, 0},
			{15 * day, passed, senderdomain.DomainFailed, 0},
		},
		"a record that appears at the last check": {
			{0, missed, senderdomain.DomainPending, 10 * time.Second},
			{14 * day, passed, senderdomain.DomainVerified, 15 * day},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := senderdomain.Start(begin)
			require.Equal(t, begin, s.NextCheckAt)
			for i, step := range steps {
				before := s.Status
				s = s.Next(step.result, at(step.after), 0)
				require.Equal(t, step.status, s.Status, "step %d", i)
				if step.next == 0 {
					require.Zero(t, s.NextCheckAt, "step %d", i)
				} else {
					require.Equal(t, at(step.next), s.NextCheckAt, "step %d", i)
				}
				if s.Status != before {
					require.Equal(t, at(step.after), s.Since, "step %d", i)
				}
			}
		})
	}
}

func TestAWarningOver14Days(t *testing.T) {
	t.Parallel()
	s := senderdomain.Start(begin).Next(senderdomain.Passed, begin, 0)
	lost := begin.Add(5*day + hour)
	s, pauses := run(s, begin.Add(14*day), func(now time.Time) senderdomain.Result {
		if now.Before(lost) {
			return senderdomain.Passed
		}
		return senderdomain.Missed
	})
	require.Equal(t, senderdomain.DomainFailed, s.Status)
	require.Equal(t, begin.Add(8*day), s.Since, "48 hours after the first miss, at 6 days")
	require.Len(t, pauses, 5+16)
	require.Equal(t, 3*hour, pauses[5])

	s = senderdomain.Start(begin).Next(senderdomain.Passed, begin, 0)
	s, _ = run(s, begin.Add(14*day), always(senderdomain.Unknown))
	require.Equal(t, senderdomain.DomainVerified, s.Status, "14 days without a usable answer")
}

func TestChecksOfAVerifiedDomainAreSpread(t *testing.T) {
	t.Parallel()
	for jitter, want := range map[float64]time.Duration{-1: 22 * hour, -0.5: 23 * hour, 0: day, 1: 26 * hour} {
		s := senderdomain.Start(begin).Next(senderdomain.Passed, begin, jitter)
		require.Equal(t, begin.Add(want), s.NextCheckAt)
	}
}

func TestVerifyNow(t *testing.T) {
	t.Parallel()
	now := begin.Add(20 * day)
	failed, _ := run(senderdomain.Start(begin), now, always(senderdomain.Missed))
	require.Equal(t, senderdomain.Start(now), failed.VerifyNow(now), "a failed domain starts anew")

	pending, _ := run(senderdomain.Start(begin), begin.Add(day), always(senderdomain.Missed))
	anew := pending.VerifyNow(begin.Add(day))
	require.Equal(t, begin, anew.Since)
	anew.Since = begin.Add(day)
	require.Equal(t, senderdomain.Start(begin.Add(day)), anew, "so does a pending one, which stays pending")

	verified := senderdomain.Start(begin).Next(senderdomain.Passed, begin, 0)
	soon := verified.VerifyNow(begin.Add(hour))
	require.Equal(t, begin.Add(hour), soon.NextCheckAt)
	soon.NextCheckAt = verified.NextCheckAt
	require.Equal(t, verified, soon, "a verified domain stays verified")

	warning := verified.Next(senderdomain.Missed, begin.Add(day), 0)
	again := warning.VerifyNow(begin.Add(day + time.Minute))
	require.Equal(t, senderdomain.DomainWarning, again.Status)
	require.Equal(t, 1, again.Misses)
	for range 10 { // asking often is no way to fail early
		again = again.Next(senderdomain.Missed, begin.Add(day+time.Hour), 0).VerifyNow(begin.Add(day + hour))
	}
	require.Equal(t, senderdomain.DomainWarning, again.Status)
}
