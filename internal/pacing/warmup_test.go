package pacing_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/pacing"
)

var firstDay = time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)

func planOf(days ...int) *pacing.Plan {
	return &pacing.Plan{Domain: "acme.test", Limits: account.Warmup{Plan: days, From: firstDay}}
}

func TestPlanAssign(t *testing.T) {
	t.Parallel()
	p := planOf(2, 4)
	assign := func(today time.Time) pacing.Turn { return p.Assign(email.StreamTransactional, today) }
	for range 2 {
		require.Equal(t, pacing.Turn{Day: "2026-11-29"}, assign(firstDay), "today: nothing to wait for")
	}
	// The day is full: the next has four, spread over its first hour.
	for i := range 4 {
		want := firstDay.AddDate(0, 0, 1).Add(time.Second + time.Duration(i)*15*time.Minute)
		require.Equal(t, pacing.Turn{For: warmup, At: want, Reserved: true, Day: "2026-11-30"}, assign(firstDay))
	}
	// The plan is full: the day after it has no limit, and is spread as its last day.
	for i := range 10 {
		want := firstDay.AddDate(0, 0, 2).Add(time.Second + time.Duration(i)*15*time.Minute)
		require.Equal(t, pacing.Turn{For: warmup, At: want, Reserved: true, Day: "2026-12-01"}, assign(firstDay))
	}
	require.Equal(t, map[string]*pacing.DayCount{
		"2026-11-29": {Day: "2026-11-29", Transactional: 2},
		"2026-11-30": {Day: "2026-11-30", Transactional: 4},
		"2026-12-01": {Day: "2026-12-01", Transactional: 10},
	}, p.Changed)
	require.Equal(t, pacing.Turn{Day: "2026-12-09"}, assign(firstDay.AddDate(0, 0, 10)), "after the plan")
}

func TestPlanAssignLeavesTransactionalMailItsShare(t *testing.T) {
	t.Parallel()
	p := planOf(10, 10)
	p.Days = map[string]*pacing.DayCount{"2026-11-29": {Day: "2026-11-29", Broadcast: 7}}
	require.Equal(t, "2026-11-29", p.Assign(email.StreamBroadcast, firstDay).Day, "the eighth of ten")
	require.Equal(t, "2026-11-30", p.Assign(email.StreamBroadcast, firstDay).Day, "broadcast mail has four fifths of a day")
	for range 2 {
		require.Equal(t, "2026-11-29", p.Assign(email.StreamTransactional, firstDay).Day)
	}
	require.Equal(t, "2026-11-30", p.Assign(email.StreamTransactional, firstDay).Day)
	require.Equal(t, pacing.DayCount{Day: "2026-11-29", Transactional: 2, Broadcast: 8}, *p.Changed["2026-11-29"])
}

// TestPlanAssignAtMidnight: a turn may be used a little early, and that is on its day.
func TestPlanAssignAtMidnight(t *testing.T) {
	t.Parallel()
	p := planOf(1, 1)
	p.Assign(email.StreamTransactional, firstDay)
	turn := p.Assign(email.StreamTransactional, firstDay)
	require.True(t, turn.Waits(firstDay.AddDate(0, 0, 1).Add(-time.Nanosecond)))
}
