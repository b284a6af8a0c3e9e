package client

import (
	"context"
	"net/http"
	"time"

	"github.com/postrider/postrider/email"
)

// Stats counts e-mails by what became of them.
type Stats struct {
	// CreatedFrom and CreatedBefore are the time that was counted.
	CreatedFrom   time.Time `json:"created_from"`
	CreatedBefore time.Time `json:"created_before"`
	// Emails are by status, and in all as "total".
	Emails     map[string]int  `json:"emails"`
	Recipients RecipientCounts `json:"recipients"`
	// Days are in UTC, the oldest first; days without mail are left out.
	Days []struct {
		// Day is like 2006-01-02.
		Day        string          `json:"day"`
		Emails     map[string]int  `json:"emails"`
		Recipients RecipientCounts `json:"recipients"`
	} `json:"days"`
	// SenderDomains and RecipientDomains are the busiest hundred.
	SenderDomains    []DomainCounts `json:"sender_domains"`
	RecipientDomains []DomainCounts `json:"recipient_domains"`
}

// RecipientCounts counts recipients by where they stand. Deferred were put off at
// least once, however they ended. The rates go from 0 to 1: BouncedRate is of those with a
// verdict (delivered, bounced or failed), the others of all.
type RecipientCounts struct {
	Total         int     `json:"total"`
	Delivered     int     `json:"delivered"`
	Bounced       int     `json:"bounced"`
	Failed        int     `json:"failed"`
	Canceled      int     `json:"canceled"`
	Open          int     `json:"open"`
	Deferred      int     `json:"deferred"`
	DeliveredRate float64 `json:"delivered_rate"`
	BouncedRate   float64 `json:"bounced_rate"`
	DeferredRate  float64 `json:"deferred_rate"`
}

// DomainCounts are the recipients of, or at, one domain.
type DomainCounts struct {
	Domain     string          `json:"domain"`
	Recipients RecipientCounts `json:"recipients"`
}

// Stats counts the e-mails that a filter takes, of the last 30 days if it names no
// time, and of a year at most.
func (c *Client) Stats(ctx context.Context, f email.Filter) (Stats, error) {
	var out Stats
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"emails", "stats"}, query: filterQuery(f)}, &out)
	return out, err
}
