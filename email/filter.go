package email

import "time"

// Filter selects e-mails of a list: those that match all fields that are set. The zero value
// selects all.
type Filter struct {
	// Statuses are alternatives.
	Statuses []Status
	// Detail is a status_detail. DetailDeferred selects those that name the reason too, DetailIPBlocked and
	// DetailUnauthenticated.
	Detail Detail
	// To is a recipient's address, or a domain as "@x.com". From is the sender's.
	// Case does not matter.
	To, From string
	Tag      string
	// BatchID selects the e-mails of one batch.
	BatchID string
	Stream  Stream
	// Subject is a part of the subject; case does not matter.
	Subject string
	// CreatedFrom is included, CreatedBefore is not.
	CreatedFrom, CreatedBefore time.Time
}

// Stats counts a customer's e-mails of a period by status.
type Stats struct {
	Emails     StatusCounts
	Recipients RecipientCounts
	// Days are in UTC, as "2006-01-02", the oldest first. Days without mail are left out.
	Days []DayStats
	// SenderDomains and RecipientDomains are the domains with the most mail, in descending
	// order, at most StatsDomains each.
	SenderDomains    []DomainStats
	RecipientDomains []DomainStats
}

// StatsDomains bounds the domains that Stats lists.
const StatsDomains = 100

// StatusCounts counts e-mails by status.
type StatusCounts map[Status]int

// RecipientCounts counts recipients.
type RecipientCounts struct {
	Total int
	// Delivered, Bounced, Failed, Canceled and Open count by status. Failed includes expired
	// recipients, Bounced includes suppressed ones.
	Delivered, Bounced, Failed, Canceled, Open int
	// Deferred counts the recipients that were deferred at least once, with any later status.
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

// Add adds other counts.
func (c *RecipientCounts) Add(o RecipientCounts) {
	c.Total += o.Total
	c.Delivered += o.Delivered
	c.Bounced += o.Bounced
	c.Failed += o.Failed
	c.Canceled += o.Canceled
	c.Open += o.Open
	c.Deferred += o.Deferred
}
