package delivery

import (
	"time"

	"github.com/postrider/postrider/email"
)

// Start is an e-mail, or a batch of them, that needs a run.
type Start struct {
	EmailID    string
	WorkflowID string
	CustomerID string
	Stream     email.Stream
	// BatchID is set where the run is that of a batch; EmailID is then one of its
	// e-mails, or empty.
	BatchID string
}

// RunOf is how an e-mail's run is started and found.
func RunOf(e email.Email) Start {
	s := Start{EmailID: e.ID, WorkflowID: e.WorkflowID, CustomerID: e.CustomerID, Stream: e.Stream}
	if e.BatchID != "" && e.WorkflowID == email.BatchWorkflowIDPrefix+e.BatchID {
		s.BatchID = e.BatchID
	}
	return s
}

// RunOfBatch is how a batch's run is started and found.
func RunOfBatch(b email.Batch) Start {
	return Start{BatchID: b.ID, WorkflowID: b.WorkflowID, CustomerID: b.CustomerID, Stream: b.Stream}
}

// NoOwner is in the lease of an order that no process holds. Mail that is accepted with this owner is
// started by the first worker that has free slots.
const NoOwner = "00000000-0000-0000-0000-000000000000"

// Claim asks for a lease of what is to be started.
type Claim struct {
	Stream email.Stream
	// Owner gets the lease, for Lease.
	Owner string
	Lease time.Duration
	// Waited is for how long no process may have had a lease. If it is not 0, nothing is claimed
	// while another process has leases: it starts what waits.
	Waited time.Duration
	// Limit is the most that is wanted.
	Limit int
	// Begins: the runs' first steps will be this process's. The claim reads what they need.
	Begins bool
}

// StartKind is a kind of what is to be started: e-mails or batches, of a stream.
type StartKind struct {
	Batches bool
	Stream  email.Stream
}

// StartKinds are all kinds, the most urgent first.
func StartKinds() []StartKind {
	return []StartKind{
		{Stream: email.StreamTransactional}, {Batches: true, Stream: email.StreamTransactional},
		{Stream: email.StreamBroadcast}, {Batches: true, Stream: email.StreamBroadcast},
	}
}

// WakeLease is how long the process that orders a wake-up has for the signal itself. After that
// a sweep takes the order: the process died, or Temporal did not answer it.
const WakeLease = 10 * time.Second

// Wake is an order to wake a run.
type Wake struct {
	// IDs are the orders that one signal carries out.
	IDs []string
	Start
	// Ended: none of the e-mails needs a run any more, so none is started for them.
	Ended bool
}
