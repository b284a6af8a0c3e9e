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
