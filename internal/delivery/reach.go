package delivery

// Reach says which of the e-mails that are not finished an operator's action is for. Each
// member that is set has to be true of an e-mail. The zero value reaches none.
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
