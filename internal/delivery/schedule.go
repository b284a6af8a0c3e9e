package delivery

import "time"

// Schedule spaces a recipient's attempts.
type Schedule struct {
	// Steps are the waits after the first, second, … counted attempt; the last
	// one repeats. Never empty.
	Steps []time.Duration
	// ExpireAfter ends the attempts of a message that sets no expires_at,
	// counted from its first attempt. Zero means DefaultExpireAfter.
	ExpireAfter time.Duration
}

// DefaultExpireAfter is how long a recipient is tried. RFC 5321 section 4.5.4.1 asks for
// 4-5 days at the least from a server that cannot ask the sender. Postrider reports every
// deferral to the sender, who wants an answer sooner.
const DefaultExpireAfter = 72 * time.Hour

// MaxCopies is how many attempts at a recipient may end without the relay's answer to the
// message. Each may have delivered a copy. After the last one the recipient fails with
// DetailAmbiguous.
const MaxCopies = 5

// ambiguousWaits are the waits after the first, second, … attempt whose answer never came.
var ambiguousWaits = [MaxCopies - 1]time.Duration{time.Minute, 30 * time.Minute, 4 * time.Hour, 12 * time.Hour}

// AmbiguousWait is the time from the end of an attempt whose answer never came to the next
// one: 1 min, 30 min, 4 h, 12 h. n counts such attempts from 1, this one included.
func AmbiguousWait(n int) time.Duration {
	return ambiguousWaits[min(max(n, 1), len(ambiguousWaits))-1]
}

// scheduleJitter spreads retries by this much to either side.
const scheduleJitter = 0.1

// DefaultSchedule yields attempts at 0, 1, 6, 21 and 51 minutes. The next ones are at 1:51,
// 3:51, 7:51, 15:51, 27:51 hours and every 12 hours up to 72.
func DefaultSchedule() Schedule {
	return Schedule{
		Steps: []time.Duration{
			time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute,
			time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 12 * time.Hour,
		},
		ExpireAfter: DefaultExpireAfter,
	}
}

// Wait is the time from the end of an attempt to the next one. counted is how
// many attempts have moved the recipient along, this one included; rnd is in
// [0,1) and spreads the wait by ±10 %. o.RetryAfter replaces the schedule, or is
// its floor if o.AtLeast: a wait that is the floor is up to 10 % longer, never shorter.
func (s Schedule) Wait(counted int, o Outcome, rnd float64) time.Duration {
	step := s.Steps[min(max(counted, 1), len(s.Steps))-1]
	switch {
	case o.RetryAfter > 0 && o.AtLeast && step <= o.RetryAfter:
		return o.RetryAfter + time.Duration(rnd*scheduleJitter*float64(o.RetryAfter))
	case o.RetryAfter > 0 && o.AtLeast: // the schedule's wait is longer
		return max(spread(step, rnd), o.RetryAfter)
	case o.RetryAfter > 0:
		return o.RetryAfter
	}
	return spread(step, rnd)
}

func spread(step time.Duration, rnd float64) time.Duration {
	return step + time.Duration((2*rnd-1)*scheduleJitter*float64(step))
}

// Deadline is when attempts end.
func (s Schedule) Deadline(expiresAt, firstAttempt time.Time) time.Time {
	switch {
	case !expiresAt.IsZero():
		return expiresAt
	case firstAttempt.IsZero():
		return time.Time{}
	case s.ExpireAfter == 0:
		return firstAttempt.Add(DefaultExpireAfter)
	}
	return firstAttempt.Add(s.ExpireAfter)
}
