package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/postrider/postrider/email"
)

// Reputation is what became of a sender domain's mail, and how the domain is judged by it.
type Reputation struct {
	DomainID string `json:"domain_id"`
	Domain   string `json:"domain"`
	// Band is unknown, good, warning or critical: the worse of BounceBand and ComplaintBand.
	Band string `json:"band"`
	// Since is when the domain entered its band; zero if it was never judged.
	Since         time.Time `json:"since"`
	BounceBand    string    `json:"bounce_band"`
	ComplaintBand string    `json:"complaint_band"`
	// Window are the last 7 days (UTC), today included, that the bands are derived from. Its days are
	// like 2006-01-02.
	Window struct {
		From       string           `json:"from"`
		To         string           `json:"to"`
		Recipients ReputationCounts `json:"recipients"`
	} `json:"window"`
	// From and To are the first and the last day of Streams, Providers and Days, which leave out
	// those without any count. Days are in UTC, the oldest first.
	From    string `json:"from"`
	To      string `json:"to"`
	Streams []struct {
		Stream     email.Stream     `json:"stream"`
		Recipients ReputationCounts `json:"recipients"`
	} `json:"streams"`
	Providers []struct {
		// Provider is the receiving provider, as google; other is any that has no name here.
		Provider   string           `json:"provider"`
		Recipients ReputationCounts `json:"recipients"`
	} `json:"providers"`
	Days []struct {
		Day        string           `json:"day"`
		Recipients ReputationCounts `json:"recipients"`
	} `json:"days"`
}

// ReputationCounts counts recipients by the day on which it happened. The rates are from 0 to 1:
// BounceRate of the hard bounces in Sent, ComplaintRate of Complained in Delivered. A rate is nil if
// nothing was sent, or delivered.
type ReputationCounts struct {
	// Sent have ended after an attempt: delivered, bounced, expired or failed.
	Sent      int64 `json:"sent"`
	Delivered int64 `json:"delivered"`
	// Deferred counts deferrals, Hard and Soft bounces by their reason.
	Deferred int64 `json:"deferred"`
	Hard     int64 `json:"hard"`
	Soft     int64 `json:"soft"`
	// Blocked were refused because of the sender's reputation or authentication, once a day each.
	Blocked       int64    `json:"blocked"`
	Complained    int64    `json:"complained"`
	Unsubscribed  int64    `json:"unsubscribed"`
	BounceRate    *float64 `json:"bounce_rate"`
	ComplaintRate *float64 `json:"complaint_rate"`
}

// Reputation reads the reputation of a sender domain over so many days, 1 to 366, today included; 0 is
// 30. An empty stream is both; the bands and the window are of both in any case.
func (c *Client) Reputation(ctx context.Context, domainID string, days int, stream email.Stream) (Reputation, error) {
	query := url.Values{}
	if days != 0 {
		query.Set("days", strconv.Itoa(days))
	}
	if stream != "" {
		query.Set("stream", string(stream))
	}
	var out Reputation
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"domains", domainID, "reputation"}, query: query}, &out)
	return out, err
}
