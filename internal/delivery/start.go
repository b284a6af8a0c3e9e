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
