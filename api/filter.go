package api

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/postrider/postrider/email"
)

// filters are the query parameters that narrow a list of e-mails.
var filters = map[string]func(*email.Filter, string) (hint string){
	"status": func(f *email.Filter, v string) string {
		for word := range strings.SplitSeq(v, ",") {
			switch word { // VoIPBIN's that are none of ours
			case "bounce":
				word = string(email.StatusBounced)
			case "dropped":
				f.Statuses = append(f.Statuses, email.StatusFailed)
				word = string(email.StatusCanceled)
			case "deferred":
				f.Detail = email.DetailDeferred
				word = string(email.StatusSending)
			}
			status, ok := email.ParseStatus(word)
			if !ok {
				return "give queued, sending, delivered, bounced, failed or canceled, several with commas; initiated, processed, bounce, dropped and deferred are read as VoIPBIN means them"
			}
			f.Statuses = append(f.Statuses, status)
		}
		return ""
	},
	"status_detail": func(f *email.Filter, v string) string { f.Detail = email.Detail(v); return "" },
	"to":            func(f *email.Filter, v string) string { return party(&f.To, v) },
	"from":          func(f *email.Filter, v string) string { return party(&f.From, v) },
	"tag":           func(f *email.Filter, v string) string { f.Tag = v; return "" },
	"batch": func(f *email.Filter, v string) string {
		id, err := uuid.Parse(v)
		if err != nil {
			return "give the id of a batch"
		}
		f.BatchID = id.String()
		return ""
	},
	"subject": func(f *email.Filter, v string) string { f.Subject = v; return "" },
	"stream": func(f *email.Filter, v string) string {
		if f.Stream = email.Stream(v); f.Stream != email.StreamTransactional && f.Stream != email.StreamBroadcast {
			return "give transactional or broadcast"
		}
		return ""
	},
	"created_from":   func(f *email.Filter, v string) string { return instant(&f.CreatedFrom, v) },
	"created_before": func(f *email.Filter, v string) string { return instant(&f.CreatedBefore, v) },
}

func party(into *string, v string) string {
	if !strings.Contains(v, "@") {
		return "give a whole address, or a domain as @example.com"
	}
	*into = v
	return ""
}

// instant reads RFC 3339, the seed API's timestamps, or a day.
func instant(into *time.Time, v string) string {
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05.999999", time.DateOnly} {
		if at, err := time.Parse(layout, v); err == nil && storableTime(at) {
			*into = at.UTC()
			return ""
		}
	}
	return "give a time as 2025-03-14T19:04:01Z, 2025-03-14 19:04:01.160250 or 2025-03-14, in UTC unless it says otherwise; + is written %2B in a URL"
}

// credential reports whether a parameter is one of those that a credential may come in.
func credential(parameter string) bool { return parameter == "token" || parameter == "accesskey" }

// parameters refuses all that are not among known, with a hint.
func parameters(c *gin.Context, hint string, known ...string) error {
	for _, name := range slices.Sorted(maps.Keys(c.Request.URL.Query())) {
		if !slices.Contains(known, name) && !credential(name) && !voipbin(c) {
			return invalid(name, "unknown", "there is no such parameter; "+hint)
		}
	}
	return nil
}

// filterOf reads the filter of a list. A parameter that is not known would
// silently take too much, so it is refused.
func filterOf(c *gin.Context, also ...string) (email.Filter, error) {
	var f email.Filter
	query := c.Request.URL.Query()
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if slices.Contains(also, name) || credential(name) {
			continue
		}
		set, ok := filters[name]
		if !ok && voipbin(c) {
			continue
		}
		if !ok {
			return f, invalid(name, "unknown", "there is no such filter; there are "+strings.Join(filterNames, ", "))
		}
		if len(query[name]) > 1 {
			return f, invalid(name, "duplicate", "give it once")
		}
		v := query.Get(name)
		if v == "" {
			continue
		}
		if hint := set(&f, v); hint != "" {
			return f, invalid(name, "invalid", hint)
		}
	}
	if !f.CreatedBefore.IsZero() && !f.CreatedFrom.Before(f.CreatedBefore) {
		return f, invalid("created_before", "invalid", "it has to be later than created_from, which is included while created_before is not")
	}
	return f, nil
}

var filterNames = slices.Sorted(maps.Keys(filters))

// statsDays is how far stats look back where nothing else is asked for, and
// statsMaxDays how far they may.
const (
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
	// The rates go from 0 to 1: the bounced of those with a verdict, delivered, bounced or
	// failed, the others of all.
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

// statusCounts has every status, those without e-mails too, and their total.
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

// emailStats counts e-mails. It takes the filters of the list; without a time, the
// last 30 days.
func (s *Server) emailStats(c *gin.Context) (int, any, error) {
	f, err := filterOf(c)
	if err != nil {
		return 0, nil, err
	}
	if f.CreatedBefore.IsZero() {
		f.CreatedBefore = s.opts.Now().UTC()
	}
	if f.CreatedFrom.IsZero() {
		f.CreatedFrom = f.CreatedBefore.AddDate(0, 0, -statsDays)
	}
	if f.CreatedBefore.Sub(f.CreatedFrom) > statsMaxDays*24*time.Hour {
		return 0, nil, invalid("created_from", "invalid", "ask for a year at most")
	}
	if err := holdQuery(c); err != nil {
		return 0, nil, err
	}
	st, err := s.deps.Emails.Stats(c.Request.Context(), customerOf(c).ID, f)
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
