package email

// Holder is a party that holds an e-mail. Each holder can end its own hold only. The e-mail
// goes on when it has no holder any more.
type Holder string

const (
	// HolderCustomer: the e-mail's customer, over REST.
	HolderCustomer Holder = "customer"
	// HolderOperator: an operator, by a signal or update, by terminating the run in Temporal,
	// or with `postrider hold`.
	HolderOperator Holder = "operator"
	// HolderPause: a pause that covers the e-mail. No event has it.
	HolderPause Holder = "pause"
)
