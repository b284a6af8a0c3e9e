package db

import (
	"time"

	"github.com/postrider/postrider/email"
)

const (
	// near is how soon an appointment becomes a place. It is the longest that
	// transactional mail finds taken by broadcast mail.
	near = time.Second
	// opensEarly is by how much a place may be used before its time. What is closer
	// would cost more to wait for than it is worth.
	opensEarly = 100 * time.Millisecond
	// placeKept is how late somebody may come for a place.
	placeKept = time.Minute
)

// queue is a rate: places one pace apart.
//
// Transactional mail takes the next free place, however far off, and has it.
// Broadcast mail takes an appointment, behind all that have one, and a place only
// when that has come, and only one that is near. So a newsletter of any size holds
// at most one second's worth of places. An appointment for which there is no place,
// because transactional mail has taken so many, goes to the end of the line.
type queue struct {
	Name   string    `bun:"name,pk"`
	PaceUS int64     `bun:"pace_us"`
	NextAt time.Time `bun:"next_at"`
	LineAt time.Time `bun:"queue_at,nullzero"`
	now    time.Time
	pace   time.Duration
}

// begin prepares it for draws at a time and a pace. A new pace stretches or shortens
// what is left: places and appointments that were given away stay as they are.
func (q *queue) begin(now time.Time, pace time.Duration) {
	scaled := func(at time.Time) time.Time {
		left := at.Sub(now)
		if left <= 0 {
			return now
		}
		if us := pace.Microseconds(); us != q.PaceUS {
			left = time.Duration(float64(left) * float64(us) / float64(q.PaceUS))
		}
		return now.Add(left)
	}
	if !q.LineAt.After(q.NextAt) {
		q.LineAt = q.NextAt
	}
	q.NextAt, q.LineAt = scaled(q.NextAt), scaled(q.LineAt)
	q.now, q.pace, q.PaceUS = now, pace, pace.Microseconds()
}

// draw gives the first of the next n places, or an appointment. It gives none, and
// says so, where sooner is set and they would not be before that.
func (q *queue) draw(stream email.Stream, n int, came bool, sooner time.Time) (at time.Time, firm, ok bool) {
	span := time.Duration(n) * q.pace
	take := func(at time.Time) bool { return sooner.IsZero() || at.Before(sooner) }
	if stream != email.StreamBroadcast {
		if at = q.NextAt; !take(at) {
			return time.Time{}, false, false
		}
		q.NextAt, q.LineAt = q.NextAt.Add(span), q.LineAt.Add(span)
		return at, true, true
	}
	isNear := !q.NextAt.After(q.now.Add(near))
	if came && isNear { // the line has moved on for it already
		at = q.NextAt
		q.NextAt = q.NextAt.Add(span)
		if q.LineAt.Before(q.NextAt) {
			q.LineAt = q.NextAt
		}
		return at, true, true
	}
	if at = q.LineAt; !take(at) {
		return time.Time{}, false, false
	}
	q.LineAt = q.LineAt.Add(span)
	if at.After(q.now.Add(near)) {
		return at, false, true
	}
	at = q.NextAt
	q.NextAt = q.NextAt.Add(span)
	return at, true, true
}
