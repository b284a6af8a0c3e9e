package pacing

import (
	"time"

	"github.com/postrider/postrider/email"
)

// Horizon is how far ahead broadcast mail may reserve slots. It is the longest time
// for which broadcast mail keeps transactional mail waiting.
const Horizon = time.Second

// resolution is the precision in which a Pace is stored. Paces that differ by less are
// the same.
const resolution = time.Microsecond

// Clock is the state of one rate, for two classes of mail. It is the virtual clock of a
// leaky bucket with a burst of one: the generic cell rate algorithm of ITU-T I.371, Annex A.
//
// Slots are one Pace apart. Transactional mail reserves the next free slot, however far
// ahead it is. Broadcast mail gets an estimate behind all estimates given before, and
// asks again at that time; it reserves a slot only within the Horizon. If transactional
// mail has taken the slots that an estimate counted on, the broadcast mail that returns
// gets another estimate, behind all others.
type Clock struct {
	// Pace is the time between two slots.
	Pace time.Duration
	// NextSlot is the first slot that is not reserved.
	NextSlot time.Time
	// NextEstimate is the first estimate that is not given away; never before NextSlot.
	NextEstimate time.Time
}

// Request asks a Clock for slots.
type Request struct {
	Stream email.Stream
	// N consecutive slots are taken together, 1 or more.
	N int
	// Returning says that the estimate given before has come.
	Returning bool
	// Before, unless zero, is the time before which the first slot has to be:
	// otherwise nothing is taken.
	Before time.Time
}

// Slot is what a Request got: the time of the first of its slots.
type Slot struct {
	At time.Time
	// Reserved slots are kept. Otherwise At is an estimate: ask again then.
	Reserved bool
}

// Start prepares the clock for requests at a time and a pace. A slot in the past is
// lost. A new pace stretches or shortens the time until the next slot and the next
// estimate; slots and estimates that were given away stay as they are.
func (c *Clock) Start(now time.Time, pace time.Duration) {
	scaled := func(at time.Time) time.Time {
		left := at.Sub(now)
		if left <= 0 {
			return now
		}
		if pace.Truncate(resolution) != c.Pace.Truncate(resolution) {
			left = time.Duration(float64(left) * float64(pace) / float64(c.Pace))
		}
		return now.Add(left)
	}
	if !c.NextEstimate.After(c.NextSlot) {
		c.NextEstimate = c.NextSlot
	}
	c.NextSlot, c.NextEstimate = scaled(c.NextSlot), scaled(c.NextEstimate)
	c.Pace = pace
}

// Take gives slots or an estimate. It takes nothing and reports false if they would not
// be before r.Before. Start has to come first, with the same time.
func (c *Clock) Take(now time.Time, r Request) (s Slot, ok bool) {
	span := time.Duration(r.N) * c.Pace
	inTime := func(at time.Time) bool { return r.Before.IsZero() || at.Before(r.Before) }
	reserve := func() Slot {
		at := c.NextSlot
		c.NextSlot = c.NextSlot.Add(span)
		return Slot{at, true}
	}
	if r.Stream != email.StreamBroadcast {
		if !inTime(c.NextSlot) {
			return Slot{}, false
		}
		c.NextEstimate = c.NextEstimate.Add(span)
		return reserve(), true
	}
	if r.Returning && !c.NextSlot.After(now.Add(Horizon)) {
		s = reserve() // its estimate has moved NextEstimate on already
		if c.NextEstimate.Before(c.NextSlot) {
			c.NextEstimate = c.NextSlot
		}
		return s, true
	}
	at := c.NextEstimate
	if !inTime(at) {
		return Slot{}, false
	}
	c.NextEstimate = c.NextEstimate.Add(span)
	if at.After(now.Add(Horizon)) {
		return Slot{at, false}, true
	}
	return reserve(), true
}
