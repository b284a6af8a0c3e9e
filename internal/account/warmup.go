package account

import (
	"errors"
	"fmt"
	"time"
)

// MaxWarmupDays is how long a warm-up plan may be, and MaxWarmupPerDay how many
// recipients it may let through on a day.
const (
	MaxWarmupDays   = 366
	MaxWarmupPerDay = 10_000_000
)

// Warmup is how many recipients a sender's domain may have on each of its first days.
// Days are those of UTC.
type Warmup struct {
	// Plan has the recipients of the first, second, … day. Empty means no plan. After
	// its last day there is no limit.
	Plan []int
	// From is the midnight that the first day begins with.
	From time.Time
	// Day is which day of the plan it is: below 1 before it, above len(Plan) after it.
	Day int
	// Used and UsedByBroadcast are today's places that are given away; the first
	// includes the second.
	Used, UsedByBroadcast int
	// Waiting is how many e-mails wait for another day.
	Waiting int
}

// Check says what is wrong with a plan.
func (w Warmup) Check() error {
	if len(w.Plan) == 0 || len(w.Plan) > MaxWarmupDays {
		return fmt.Errorf("a plan has 1 to %d days, this one has %d", MaxWarmupDays, len(w.Plan))
	}
	for i, n := range w.Plan {
		if n < 1 || n > MaxWarmupPerDay {
			return fmt.Errorf("day %d has %d recipients; give 1 to %d", i+1, n, MaxWarmupPerDay)
		}
	}
	return nil
}

// Beginning reads a plan's first day, as 2026-11-27; nothing is today. The year 0 is
// none: Postgres does not have it. Nor is a day so long ago that the plan is over.
func (w Warmup) Beginning(text string, now time.Time) (time.Time, error) {
	today := now.UTC().Truncate(24 * time.Hour)
	if text == "" {
		return today, nil
	}
	day, err := time.Parse(time.DateOnly, text)
	if err != nil || day.Year() < 1 {
		return time.Time{}, errors.New("give a day, as 2026-11-27")
	}
	if last := day.AddDate(0, 0, len(w.Plan)-1); last.Before(today) {
		return time.Time{}, fmt.Errorf("the plan's last day would be %s, which is over: there would be no limit", last.Format(time.DateOnly))
	}
	return day, nil
}

// BroadcastLimit is how many of a day's places broadcast mail may have, the day
// counted from 1. It leaves a fifth to transactional mail, which cannot be planned.
func (w Warmup) BroadcastLimit(day int) int { return max(1, w.Plan[day-1]*4/5) }

// Today says it in words.
func (w Warmup) Today() string {
	switch {
	case len(w.Plan) == 0:
		return "no warm-up"
	case w.Day < 1:
		return "begins on " + w.From.Format(time.DateOnly)
	case w.Day > len(w.Plan):
		return "over"
	}
	return fmt.Sprintf("day %d of %d: %d of %d recipients", w.Day, len(w.Plan), w.Used, w.Plan[w.Day-1])
}
