package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/reputation"
)

// Reputations stores what became of the mail of sender domains.
type Reputations interface {
	// DomainReport has the days of the customer's domain up to today, of one stream or, if it is empty, of
	// both.
	DomainReport(ctx context.Context, customerID, domainID string, days int, stream email.Stream) (reputation.Report, error)
}

// reputationDays is the default period of a report.
const reputationDays = 30

// reputationHandlers answers /v1.0/domains/:id/reputation.
type reputationHandlers struct{ store Reputations }

// ratesJSON are counts with the rates that the bands use. A rate is from 0 to 1, and null if nothing
// was sent, or delivered.
type ratesJSON struct {
	reputation.Counts
	BounceRate    *float64 `json:"bounce_rate"`
	ComplaintRate *float64 `json:"complaint_rate"`
}

func rates(c reputation.Counts) ratesJSON { return ratesJSON{c, c.BounceRate(), c.ComplaintRate()} }

type reputationJSON struct {
	DomainID string          `json:"domain_id"`
	Domain   string          `json:"domain"`
	Band     reputation.Band `json:"band"`
	// Since is when the domain entered the band; null if it was never judged.
	Since         *string         `json:"since"`
	BounceBand    reputation.Band `json:"bounce_band"`
	ComplaintBand reputation.Band `json:"complaint_band"`
	// Window are the days that the bands are derived from.
	Window windowJSON `json:"window"`
	// From and To are the first and the last day of the lists.
	From      string               `json:"from"`
	To        string               `json:"to"`
	Streams   []streamCountsJSON   `json:"streams"`
	Providers []providerCountsJSON `json:"providers"`
	Days      []dayCountsJSON      `json:"days"`
}

type windowJSON struct {
	From       string    `json:"from"`
	To         string    `json:"to"`
	Recipients ratesJSON `json:"recipients"`
}

type streamCountsJSON struct {
	Stream     email.Stream `json:"stream"`
	Recipients ratesJSON    `json:"recipients"`
}

type providerCountsJSON struct {
	Provider   reputation.Provider `json:"provider"`
	Recipients ratesJSON           `json:"recipients"`
}

type dayCountsJSON struct {
	Day        string    `json:"day"`
	Recipients ratesJSON `json:"recipients"`
}

func newReputationAnswer(id string, r reputation.Report) reputationJSON {
	day := func(t time.Time) string { return t.Format(time.DateOnly) }
	out := reputationJSON{
		DomainID: id, Domain: r.Domain, Band: r.Band(), Since: moment(r.Since), BounceBand: r.Bounce, ComplaintBand: r.Complaint,
		Window: windowJSON{day(r.WindowFrom), day(r.WindowTo), rates(r.Window)}, From: day(r.From), To: day(r.To),
		Streams: []streamCountsJSON{}, Providers: []providerCountsJSON{}, Days: []dayCountsJSON{},
	}
	for _, s := range r.Streams {
		out.Streams = append(out.Streams, streamCountsJSON{s.Stream, rates(s.Counts)})
	}
	for _, p := range r.Providers {
		out.Providers = append(out.Providers, providerCountsJSON{p.Provider, rates(p.Counts)})
	}
	for _, d := range r.Days {
		out.Days = append(out.Days, dayCountsJSON{day(d.Day), rates(d.Counts)})
	}
	return out
}

func (h *reputationHandlers) get(c *gin.Context) (int, any, error) {
	id, err := pathID(c, "id", "domain")
	if err != nil {
		return 0, nil, err
	}
	if err := domainParameters(c, "days", "stream"); err != nil {
		return 0, nil, err
	}
	days := reputationDays
	if text, given := c.GetQuery("days"); given {
		if days, err = strconv.Atoi(text); err != nil || days < 1 || days > reputation.MaxDays {
			return 0, nil, invalid("days", "invalid", "give a number of days from 1 to "+strconv.Itoa(reputation.MaxDays)+", or leave it out for "+strconv.Itoa(reputationDays))
		}
	}
	stream := email.Stream(c.Query("stream"))
	if stream != "" && stream != email.StreamTransactional && stream != email.StreamBroadcast {
		return 0, nil, invalid("stream", "invalid", "give transactional or broadcast, or leave it out for both")
	}
	r, err := h.store.DomainReport(c.Request.Context(), customerOf(c).ID, id, days, stream)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, newReputationAnswer(id, r), nil
}
