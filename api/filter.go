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

// filters are the query parameters that filter e-mails. Each sets its part of a Filter, or returns
// a hint what to give instead.
var filters = map[string]func(*email.Filter, string) (hint string){
	"status": func(f *email.Filter, v string) string {
		for word := range strings.SplitSeq(v, ",") {
			switch word { // VoIPBIN's statuses that we do not have
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

// party reads an address, or a domain as @example.com.
func party(into *string, v string) string {
	if !strings.Contains(v, "@") {
		return "give a complete address, or a domain as @example.com"
	}
	*into = v
	return ""
}

// instant reads a time in RFC 3339 format, a timestamp of VoIPBIN's API, or a day.
func instant(into *time.Time, v string) string {
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05.999999", time.DateOnly} {
		if at, err := time.Parse(layout, v); err == nil && storableTime(at) {
			*into = at.UTC()
			return ""
		}
	}
	return "give a time as 2025-03-14T19:04:01Z, 2025-03-14 19:04:01.160250 or 2025-03-14, without an offset it is in UTC; write + as %2B in a URL"
}

// isCredential reports whether a parameter carries a credential.
func isCredential(parameter string) bool { return parameter == "token" || parameter == "accesskey" }

// parameters refuses query parameters that are not in known, with a hint. Customers with the
// profile voipbin may give unknown ones.
func parameters(c *gin.Context, hint string, known ...string) error {
	for _, name := range slices.Sorted(maps.Keys(c.Request.URL.Query())) {
		if !slices.Contains(known, name) && !isCredential(name) && !voipbin(c) {
			return invalid(name, "unknown", "there is no such parameter; "+hint)
		}
	}
	return nil
}

// filterOf reads the filters of a list. also are other parameters of the route. An unknown
// parameter is refused, because ignoring a misspelt filter would select too many e-mails.
func filterOf(c *gin.Context, also ...string) (email.Filter, error) {
	var f email.Filter
	query := c.Request.URL.Query()
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if slices.Contains(also, name) || isCredential(name) {
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
			return f, invalid(name, "duplicate", "give the parameter once")
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
		return f, invalid("created_before", "invalid", "give a time later than created_from; the period includes created_from and excludes created_before")
	}
	return f, nil
}

var filterNames = slices.Sorted(maps.Keys(filters))
