package api

import (
	"context"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
)

// Stats counts a customer's e-mails.
type Stats interface {
	Stats(ctx context.Context, customerID string, f email.Filter) (email.Stats, error)
}

// statsHandlers answers /v1.0/emails/stats.
type statsHandlers struct {
	store Stats
	now   func() time.Time
}

const (
	// statsDays is the default period of the statistics, statsMaxDays the longest.
	statsDays    = 30
	statsMaxDays = 366
)

type recipientCountsJSON struct {
	Total     int `json:"total"`
	Delivered int `json:"delivered"`
	Bounced   int `json:"bounced"`
	Failed    int `json:"failed"`
	Canceled  int `json:"canceled"`
	Open      int `json:"open"`
	Deferred  int `json:"deferred"`
	// The rates are from 0 to 1. BouncedRate is the share of bounced recipients among those that
	// are delivered, bounced or failed; the other rates are shares of Total.
	DeliveredRate float64 `json:"delivered_rate"`
	BouncedRate   float64 `json:"bounced_rate"`
	DeferredRate  float64 `json:"deferred_rate"`
}

func recipientCounts(c email.RecipientCounts) recipientCountsJSON {
	rate := func(n, of int) float64 {
		if of == 0 {
			return 0
		}
		return float64(n) / float64(of)
	}
	return recipientCountsJSON{
		Total: c.Total, Delivered: c.Delivered, Bounced: c.Bounced, Failed: c.Failed, Canceled: c.Canceled, Open: c.Open, Deferred: c.Deferred,
		DeliveredRate: rate(c.Delivered, c.Total), BouncedRate: rate(c.Bounced, c.Delivered+c.Bounced+c.Failed), DeferredRate: rate(c.Deferred, c.Total),
	}
}

type statsJSON struct {
	CreatedFrom      *string             `json:"created_from"`
	CreatedBefore    *string             `json:"created_before"`
	Emails           map[string]int      `json:"emails"`
	Recipients       recipientCountsJSON `json:"recipients"`
	Days             []dayJSON           `json:"days"`
	SenderDomains    []domainJSON        `json:"sender_domains"`
	RecipientDomains []domainJSON        `json:"recipient_domains"`
}

type dayJSON struct {
	Day        string              `json:"day"`
	Emails     map[string]int      `json:"emails"`
	Recipients recipientCountsJSON `json:"recipients"`
}

type domainJSON struct {
	Domain     string              `json:"domain"`
	Recipients recipientCountsJSON `json:"recipients"`
}

// statusCounts returns the count of each status, 0 included, and their total.
func statusCounts(c email.StatusCounts) map[string]int {
	out := map[string]int{"total": 0}
	for _, s := range email.Statuses() {
		out[string(s)] = c[s]
		out["total"] += c[s]
	}
	return out
}

func domains(ds []email.DomainStats) []domainJSON {
	out := make([]domainJSON, len(ds))
	for i, d := range ds {
		out[i] = domainJSON{Domain: d.Domain, Recipients: recipientCounts(d.Recipients)}
	}
	return out
}

// get counts the e-mails that match the filters of the list. Without created_from it counts those
// of the 30 days before created_before, which defaults to now.
func (h *statsHandlers) get(c *gin.Context) (int, any, error) {
	f, err := filterOf(c)
	if err != nil {
		return 0, nil, err
	}
	if f.CreatedBefore.IsZero() {
		f.CreatedBefore = h.now().UTC()
	}
	if f.CreatedFrom.IsZero() {
		f.CreatedFrom = f.CreatedBefore.AddDate(0, 0, -statsDays)
	}
	if f.CreatedBefore.Sub(f.CreatedFrom) > statsMaxDays*24*time.Hour {
		return 0, nil, invalid("created_from", "invalid", "give a period of at most 366 days")
	}
	if err := reserveQuery(c); err != nil {
		return 0, nil, err
	}
	st, err := h.store.Stats(c.Request.Context(), customerOf(c).ID, f)
	if err != nil {
		return 0, nil, err
	}
	out := statsJSON{
		CreatedFrom: moment(f.CreatedFrom), CreatedBefore: moment(f.CreatedBefore),
		Emails: statusCounts(st.Emails), Recipients: recipientCounts(st.Recipients), Days: make([]dayJSON, len(st.Days)),
		SenderDomains: domains(st.SenderDomains), RecipientDomains: domains(st.RecipientDomains),
	}
	for i, d := range st.Days {
		out.Days[i] = dayJSON{Day: d.Day, Emails: statusCounts(d.Emails), Recipients: recipientCounts(d.Recipients)}
	}
	return http.StatusOK, out, nil
}
