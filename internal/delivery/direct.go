package delivery

import (
	"regexp"
	"time"
)

// ownWorkflowID are the workflow ids that Postrider gives itself.
var ownWorkflowID = regexp.MustCompile(`^(email|batch|webhook)-[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// OwnWorkflowID reports whether a workflow id is of the kind that Postrider gives
// itself: a direct start under one would stand in the way of another's e-mail.
func OwnWorkflowID(id string) bool { return ownWorkflowID.MatchString(id) }

// DirectStart is a run that brings its message itself.
type DirectStart struct {
	CustomerID string
	// Namespace, WorkflowID and RunID are the run's in Temporal.
	Namespace  string
	WorkflowID string
	RunID      string
	// Key is the caller's name for the message; empty means that the workflow id is.
	Key string
	// Fingerprint identifies the normalised message.
	Fingerprint string
}

// Name is what the message goes by, unique for the customer and namespace among
// those that are keyed, or among those that are not.
func (d DirectStart) Name() (name string, keyed bool) {
	if d.Key != "" {
		return d.Key, true
	}
	return d.WorkflowID, false
}

// DirectEmail is the e-mail that a direct start has come to.
type DirectEmail struct {
	EmailID string
	// AcceptedAt is when, RunID by which run, Fingerprint what.
	AcceptedAt  time.Time
	RunID       string
	Fingerprint string
	// Owner is the workflow id of the run that the e-mail belongs to.
	Owner string
	// Final: nothing will be attempted any more.
	Final bool
}
