package email

import "time"

// Filter narrows a list of e-mails. The zero value takes all; every member that
// is set has to hold.
type Filter struct {
	// Statuses are alternatives.
	Statuses []Status
	// Detail is a status_detail.
	Detail Detail
	// To is a recipient's address, or a domain as "@x.com". From is the sender's.
	// Case does not matter.
	To, From string
	Tag      string
	// BatchID takes the e-mails of one batch.
	BatchID string
	Stream  Stream
	// Subject is a part of it; case does not matter.
	Subject string
	// CreatedFrom is included, CreatedBefore is not.
	CreatedFrom, CreatedBefore time.Time
}

// Stats counts a customer's e-mails of a time by what became of them.
type Stats struct {
	Emails     StatusCounts
	Recipients RecipientCounts
	// Days are in UTC, as "2006-01-02", the oldest first. Days without mail are left out.
	Days []DayStats
	// SenderDomains and RecipientDomains are the StatsDomains with the most mail, and
	// the busiest first.
	SenderDomains    []DomainStats
	RecipientDomains []DomainStats
}

// StatsDomains bounds the domains that Stats tells apart.
const StatsDomains = 100

// StatusCounts counts e-mails by status.
type StatusCounts map[Status]int

// RecipientCounts counts recipients.
type RecipientCounts struct {
	Total int
	// Delivered, Bounced, Failed, Canceled and Open are where they stand: failed
	// takes in expired ones, bounced suppressed ones.
	Delivered, Bounced, Failed, Canceled, Open int
	// Deferred were put off at least once, however they ended.
	Deferred int
}

// DayStats are the e-mails accepted on one day.
type DayStats struct {
	Day        string
	Emails     StatusCounts
	Recipients RecipientCounts
}

// DomainStats are the recipients of, or at, one domain.
type DomainStats struct {
	Domain     string
	Recipients RecipientCounts
}

// Add adds what was counted elsewhere.
func (c *RecipientCounts) Add(o RecipientCounts) {
	c.Total += o.Total
	c.Delivered += o.Delivered
	c.Bounced += o.Bounced
	c.Failed += o.Failed
	c.Canceled += o.Canceled
	c.Open += o.Open
	c.Deferred += o.Deferred
}
