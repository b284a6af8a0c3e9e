package workflows

// Outcome is recordSummary, for tests.
var Outcome = recordSummary
