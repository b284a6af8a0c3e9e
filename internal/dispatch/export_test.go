package dispatch

// These are the numbers that the tests count with.
const (
	Starters       = starters
	UrgentStarters = urgentStarters
	MaxQueued      = maxQueued
	LotMax         = lotMax
	SweepBatch     = sweepBatch
	AwayAfter      = awayAfter
	EagerTimeout   = eagerTimeout
)
