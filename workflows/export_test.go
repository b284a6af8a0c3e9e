package workflows

// Outcome is outcome, for tests.
var Outcome = outcome
