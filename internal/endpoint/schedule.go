package endpoint

import "time"

// MaxRetryAfter caps what an endpoint may ask for.
const MaxRetryAfter = 24 * time.Hour

// jitter spreads every wait by this much to either side.
const jitter = 0.2

var defaultSteps = []time.Duration{
	0, 5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour,
	5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// Schedule spaces the attempts of a delivery. The zero value is the default: ten
// attempts. They come 0 s, 5 s, 5 min 5 s and 35 min 5 s after the event. The others come
// 2:35, 7:35, 17:35, 31:35, 51:35 and 75:35 hours (and 5 s) after it. With every wait at
// its longest the last attempt is 90 h 42 min 6 s after the event. If an endpoint asks
// for 24 h with each of nine answers, it is 9 days. Calls take up to 15 s more each.
type Schedule struct {
	// Steps are the waits before the first, second, … attempt; there are as many
	// attempts as steps.
	Steps []time.Duration
}

func (s Schedule) steps() []time.Duration {
	if len(s.Steps) == 0 {
		return defaultSteps
	}
	return s.Steps
}

// Attempts is how many there are in all.
func (s Schedule) Attempts() int { return len(s.steps()) }

// Next is the wait until the next attempt after that many have ended; false
// means that there is none. rnd is in [0,1) and spreads the wait by ±20 %.
func (s Schedule) Next(attempts int, rnd float64) (time.Duration, bool) {
	steps := s.steps()
	if attempts < 0 || attempts >= len(steps) {
		return 0, false
	}
	step := steps[attempts]
	return step + time.Duration((2*rnd-1)*jitter*float64(step)), true
}

// NextAfter is Next where the endpoint asked for retryAfter: the wait is never
// shorter than that, up to MaxRetryAfter. Nor is it shorter than the schedule's:
// an endpoint that keeps answering "in 1 second" would use up all attempts in
// ten. Asking for time gives no further attempts.
func (s Schedule) NextAfter(attempts int, retryAfter time.Duration, rnd float64) (time.Duration, bool) {
	wait, ok := s.Next(attempts, rnd)
	if !ok {
		return 0, false
	}
	return max(wait, min(retryAfter, MaxRetryAfter)), true
}
