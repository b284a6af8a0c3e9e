package pacing

import (
	"time"

	"github.com/postrider/postrider/email"
)

const (
	// earlyBy is how long before its time a slot may be used. A wait that short costs
	// more than it is worth.
	earlyBy = 100 * time.Millisecond
	// slotKept is how long after its time a slot may be used.
	slotKept = time.Minute
)

// Turn is what a recipient waits for, or has, before an attempt: a slot or an estimate
// of a rate, or a day of its sender's warm-up plan. It is stored with the recipient as
// JSON. A nil Turn is none.
type Turn struct {
	// For is the rate or the warm-up plan; empty for none.
	For email.ThrottledBy `json:"for,omitempty"`
	At  time.Time         `json:"at,omitzero"`
	// Reserved: At is a slot. Otherwise it is an estimate.
	Reserved bool `json:"firm,omitempty"`
	// Day, as 2006-01-02 in UTC, is the day of the sender's warm-up plan on which the
	// recipient is counted.
	Day string `json:"day,omitempty"`
}

// Waits reports whether the turn is still to come.
func (t *Turn) Waits(now time.Time) bool {
	return t != nil && t.For != "" && t.At.After(now.Add(earlyBy))
}

// HasSlot reports whether the turn is a slot of the rate whose time has come and is not
// over. A relay that throttled the e-mail until some time after the slot does not let
// the slot expire.
func (t *Turn) HasSlot(rate email.ThrottledBy, relayUntil, now time.Time) bool {
	if t == nil || t.For != rate || !t.Reserved || t.Waits(now) {
		return false
	}
	at := t.At
	if relayUntil.After(at) {
		at = relayUntil
	}
	return now.Sub(at) < slotKept
}

// Request asks the rate for the next slots of n recipients that have this turn: for any
// where it has none, for sooner ones while it waits, and again when its estimate has come.
func (t *Turn) Request(rate email.ThrottledBy, stream email.Stream, n int, now time.Time) Request {
	r := Request{Stream: stream, N: n}
	switch {
	case t == nil || t.For != rate:
	case t.Waits(now):
		r.Before = t.At
	default:
		r.Returning = !t.Reserved
	}
	return r
}

// Spent is the turn after an attempt: the next attempt needs another slot, but is not
// counted twice on one day.
func (t *Turn) Spent() *Turn {
	if day := t.CountedOn(); day != "" {
		return &Turn{Day: day}
	}
	return nil
}

// CountedOn is the day of a warm-up plan on which the recipient is counted; "" for none.
func (t *Turn) CountedOn() string {
	if t == nil {
		return ""
	}
	return t.Day
}

// Counted is the turn with the day that Plan.Assign gave. A recipient that may go on
// that day keeps the slot or estimate that it has at a rate.
func (t *Turn) Counted(assigned Turn) Turn {
	if assigned.For == "" && t != nil && t.For != "" && !t.For.IsWarmup() {
		assigned.For, assigned.At, assigned.Reserved = t.For, t.At, t.Reserved
	}
	return assigned
}
