package dispatch

// What the tests count with.
const (
	Starters       = starters
	UrgentStarters = urgentStarters
	MaxQueued      = maxQueued
	LotMax         = lotMax
)
