package intake_test

import "github.com/postrider/postrider/internal/intaketest"

// These are the helpers of intaketest that several packages use.
var (
	limits  = intaketest.Limits
	with    = intaketest.With
	quoted  = intaketest.Quoted
	failure = intaketest.Failure
)

var now = intaketest.Now
