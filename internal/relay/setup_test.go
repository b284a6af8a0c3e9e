package relay_test

import "github.com/postrider/postrider/internal/relaytest"

// Helpers that these tests share with those of internal/smtp.
const rendered = relaytest.Rendered

var (
	relays      = relaytest.New
	url         = relaytest.URL
	envelope    = relaytest.Envelope
	noMark      = relaytest.NoMark
	send        = relaytest.Send
	transaction = relaytest.Transaction
	answers     = relaytest.Answers
)
