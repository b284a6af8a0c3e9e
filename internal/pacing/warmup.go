package pacing

import (
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// spread is the time at the beginning of a day over which the slots of the recipients
// that waited for that day are spread. Otherwise all of them would come at midnight.
const spread = time.Hour

// Midnight is the beginning of a day in UTC.
func Midnight(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }

// DayCount is how many recipients are counted on a day of a warm-up plan.
type DayCount struct {
	// Day is a date in UTC, as 2006-01-02.
	Day           string
	Transactional int
	Broadcast     int
}

func (d *DayCount) count(stream email.Stream) {
	if stream == email.StreamBroadcast {
		d.Broadcast++
		return
	}
	d.Transactional++
}

// Plan is the warm-up plan of a sender's domain with the recipients counted so far.
type Plan struct {
	Domain string
	// Limits are the plan's days and its first day.
	Limits account.Warmup
	// Days are the counts, by day; a day that is missing has none.
	Days map[string]*DayCount
	// Changed are the days that Assign counted on, by day: they have to be written.
	Changed map[string]*DayCount
}

// Assign counts a recipient on the first day, from today on, that is not full, and
// returns its turn: nothing to wait for if that is today. Broadcast mail may fill the
// share of a day that Warmup.BroadcastLimit gives. After the plan's last day there is no
// limit; recipients that wait for that time are spread as on the last day.
func (p *Plan) Assign(stream email.Stream, today time.Time) Turn {
	days := p.Limits.Plan
	from := Midnight(p.Limits.From)
	first := int(today.Sub(from)/(24*time.Hour)) + 1
	for n := first; ; n++ {
		start := from.AddDate(0, 0, n-1)
		day := p.day(start)
		limit, over := days[min(n, len(days))-1], n > len(days)
		before := day.Transactional + day.Broadcast
		if !over && (before >= limit || stream == email.StreamBroadcast && day.Broadcast >= p.Limits.BroadcastLimit(n)) {
			continue
		}
		day.count(stream)
		if p.Changed == nil {
			p.Changed = map[string]*DayCount{}
		}
		p.Changed[day.Day] = day
		t := Turn{Day: day.Day}
		if n > first {
			// A turn may be used earlyBy before its time, and that has to be on this day:
			// so the first is one second after midnight.
			t.For, t.Reserved = email.WarmupOf(p.Domain), true
			t.At = start.Add(time.Second + spread/time.Duration(limit)*time.Duration(before))
		}
		return t
	}
}

func (p *Plan) day(start time.Time) *DayCount {
	name := start.Format(time.DateOnly)
	d := p.Days[name]
	if d == nil {
		d = &DayCount{Day: name}
		if p.Days == nil {
			p.Days = map[string]*DayCount{}
		}
		p.Days[name] = d
	}
	return d
}
