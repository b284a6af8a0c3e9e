package api

import (
	"maps"
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
