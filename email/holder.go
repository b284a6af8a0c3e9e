package email

// Holder is who keeps an e-mail from being attempted. Each lifts what is its own, and
// nobody else's: an e-mail goes on when nobody keeps it any more.
type Holder string

const (
	// HolderCustomer: its customer, over REST.
	HolderCustomer Holder = "customer"
	// HolderOperator: whoever steers runs in Temporal (signals, updates, terminating one),
	// or `postrider hold`.
	HolderOperator Holder = "operator"
	// HolderPause: a pause that covers it. It is in no event.
	HolderPause Holder = "pause"
)

// Reach says which of the e-mails that are not finished an operator's action is for. What
// is set has to be true of an e-mail; nothing set reaches none.
type Reach struct {
	EmailID    string
	BatchID    string
	CustomerID string
	// RecipientDomain is a domain of one of its recipients, in lower case ASCII. A hold and a
	// cancellation look at recipients that are open, resuming at all: one of them may have
	// reached its end meanwhile.
	RecipientDomain string
}

// Any reports whether it reaches anything.
func (r Reach) Any() bool {
	return r.EmailID != "" || r.BatchID != "" || r.CustomerID != "" || r.RecipientDomain != ""
}

// Reached counts what became of the e-mails of a Reach.
type Reached struct {
	// Changed is how many the action changed.
	Changed int
	// Kept is how many it does not apply to: they are of a batch that is held as a whole.
	Kept int
}

// Wake is an order to wake a run.
type Wake struct {
	// IDs are the orders that one signal carries out.
	IDs []string
	Start
	// Ended: none of the e-mails needs a run any more, so none is started for them.
	Ended bool
}
