package senderdomain

import (
	"slices"
	"time"
)

// DomainStatus is where a domain is in its verification.
type DomainStatus string

const (
	// DomainPending is until a check passes. The domain does not send yet.
	DomainPending DomainStatus = "pending"
	// DomainVerified is after a check has passed.
	DomainVerified DomainStatus = "verified"
	// DomainWarning is after a verified domain's check has missed a record. The domain still
	// sends.
	DomainWarning DomainStatus = "warning"
	// DomainFailed is when a pending domain was not verified in 14 days, or a warning was not
	// ended. Nothing is checked until VerifyNow.
	DomainFailed DomainStatus = "failed"
)

// Result is what one check says of a domain.
type Result string

const (
	// Passed says that all required records are verified.
	Passed Result = "passed"
	// Missed says that a required record is definitely missing or wrong.
	Missed Result = "missed"
	// Unknown is for temporary failures, and for records that are not at all name servers.
	// It counts for nothing.
	Unknown Result = "unknown"
)

// ResultOf sums up the required records of a check. Without any it is Unknown.
func ResultOf(records []Record) Result {
	required, verified := 0, 0
	for _, r := range records {
		switch {
		case !r.Required:
			continue
		case r.Status == Verified:
			verified++
		case r.Status == Failed, r.Status == Pending && r.Problem != NotOnAllServers:
			return Missed
		}
		required++
	}
	if required > 0 && verified == required {
		return Passed
	}
	return Unknown
}

// Unanswered reports whether the DNS gave no usable answer about a required record.
func Unanswered(records []Record) bool {
	return slices.ContainsFunc(records, func(r Record) bool { return r.Required && r.Status == TemporaryFailure })
}

// State is a domain's verification over time. Save it as it is.
type State struct {
	Status DomainStatus
	// Since is when the domain entered the status.
	Since time.Time
	// StartedAt is when a pending domain's checks began, Checks how many there were since.
	StartedAt time.Time
	Checks    int
	// Misses are the definite misses since FirstMissAt, without a passed check in between.
	Misses      int
	FirstMissAt time.Time
	// Unanswered are the latest checks in a row in which the DNS gave no usable answer about a
	// required record.
	Unanswered int
	// NextCheckAt is when to look next. Zero means never.
	NextCheckAt time.Time
}

// The cadence of checks.
const (
	pendingDays = 14 * 24 * time.Hour
	daily       = 24 * time.Hour
	jitterRange = 2 * time.Hour
	warned      = 3 * time.Hour
	// A warning ends in failure after missesToFail misses over missTime.
	missesToFail = 3
	missTime     = 48 * time.Hour
	// After unansweredMost checks in a row without an answer the next is a minute later at the
	// earliest. Each further one doubles that, up to maxUnansweredPause.
	unansweredMost     = 3
	maxUnansweredPause = 6 * time.Hour
)

// Start is the state of a new domain, whose first check is due at once.
func Start(now time.Time) State {
	return State{Status: DomainPending, Since: now, StartedAt: now, NextCheckAt: now}
}

// VerifyNow makes a check due at once. A pending or failed domain starts anew. A verified
// domain keeps its status, and one with a warning its misses. Checks without an answer still count.
func (s State) VerifyNow(now time.Time) State {
	if s.Status == DomainVerified || s.Status == DomainWarning {
		s.NextCheckAt = now
		return s
	}
	anew := Start(now)
	if anew.Unanswered = s.Unanswered; s.Status == DomainPending {
		anew.Since = s.Since
	}
	return anew
}

// Answered completes the state that Next has made of a check at now: ok says that the DNS has answered about
// all required records. If it has not several times in a row, the next check is later.
func (s State) Answered(ok bool, now time.Time) State {
	if ok {
		s.Unanswered = 0
		return s
	}
	if s.Unanswered++; s.Unanswered < unansweredMost || s.NextCheckAt.IsZero() {
		return s
	}
	pause := min(time.Minute<<min(s.Unanswered-unansweredMost, 10), maxUnansweredPause)
	next := now.Add(pause)
	if s.Status == DomainPending {
		next = earlier(next, s.StartedAt.Add(pendingDays))
	}
	if next.After(s.NextCheckAt) {
		s.NextCheckAt = next
	}
	return s
}

// Next is the state after a check at now. The checks of a verified domain are 24 hours
// apart, give or take 2 hours: jitter, from -1 to 1, says which part of them.
func (s State) Next(result Result, now time.Time, jitter float64) State {
	s.Checks++
	switch {
	case s.Status == DomainFailed:
		return s
	case result == Passed:
		s = s.enter(DomainVerified, now)
		s.Misses, s.FirstMissAt = 0, time.Time{}
	case s.Status == DomainPending:
		if now.Sub(s.StartedAt) >= pendingDays {
			s = s.enter(DomainFailed, now)
		}
	case result == Missed:
		if s.Misses == 0 {
			s.FirstMissAt = now
		}
		s.Misses++
		s = s.enter(DomainWarning, now)
		if s.Misses >= missesToFail && now.Sub(s.FirstMissAt) >= missTime {
			s = s.enter(DomainFailed, now)
		}
	}
	switch s.Status {
	case DomainPending:
		// The last check is at 14 days, not after them.
		s.NextCheckAt = earlier(now.Add(s.pendingPause(now)), s.StartedAt.Add(pendingDays))
	case DomainVerified:
		s.NextCheckAt = now.Add(daily + time.Duration(jitter*float64(jitterRange)))
	case DomainWarning:
		s.NextCheckAt = now.Add(warned)
	case DomainFailed:
		s.NextCheckAt = time.Time{}
	}
	return s
}

// pendingPause is how long a pending domain waits: 6 times 10 s, 10 times a minute, 10
// minutes up to 2 hours, an hour up to 48 hours, then 6 hours.
func (s State) pendingPause(now time.Time) time.Duration {
	age := now.Sub(s.StartedAt)
	switch {
	case s.Checks <= 6:
		return 10 * time.Second
	case s.Checks <= 16:
		return time.Minute
	case age < 2*time.Hour:
		return 10 * time.Minute
	case age < 48*time.Hour:
		return time.Hour
	}
	return 6 * time.Hour
}

func (s State) enter(status DomainStatus, now time.Time) State {
	if s.Status != status {
		s.Status, s.Since = status, now
	}
	return s
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
