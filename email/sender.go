package email

// SenderUse counts the senders of a customer's last e-mails of one stream.
type SenderUse struct {
	// Total is how many e-mails were counted.
	Total int
	// Address is the most frequent sender, of Count e-mails; empty if there are none.
	Address string
	Count   int
	// Same is how many have the sender that the caller asked about.
	Same int
}
