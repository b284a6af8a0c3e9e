package mailmerge_test

import "github.com/postrider/postrider/internal/intaketest"

// What the tests of this package share with those of others.
var (
	limits  = intaketest.Limits
	with    = intaketest.With
	quoted  = intaketest.Quoted
	failure = intaketest.Failure
)
