package email

// SenderUse is who sent a customer's last e-mails of one stream.
type SenderUse struct {
	// Total is how many e-mails were looked at.
	Total int
	// Address is the sender that most of them have, Count of them; empty without any.
	Address string
	Count   int
	// Same is how many have the sender that was asked about.
	Same int
}
