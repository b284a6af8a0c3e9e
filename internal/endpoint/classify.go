package endpoint

import (
	"strconv"
	"strings"
	"time"
)

// Verdict is what an attempt makes of a delivery.
type Verdict string

// The verdicts.
const (
	// VerdictDelivered: done.
	VerdictDelivered Verdict = "delivered"
	// VerdictRetry: to be tried again, if the schedule has attempts left.
	VerdictRetry Verdict = "retry"
	// VerdictGone: the endpoint wants no more; it is to be disabled.
	VerdictGone Verdict = "gone"
)

// httpTimes are the formats of an HTTP date (RFC 9110 section 5.6.7).
var httpTimes = []string{"Mon, 02 Jan 2006 15:04:05 GMT", "Monday, 02-Jan-06 15:04:05 MST", time.ANSIC}

// Classify decides on an answer by its HTTP status and its Retry-After header; a
// status of 0 says that none came. Success is 2xx and nothing else: a redirect
// is not followed, because behind it may be a login page that answers 200.
func Classify(status int, retryAfter string, now time.Time) (Verdict, time.Duration) {
	switch {
	case status >= 200 && status <= 299:
		return VerdictDelivered, 0
	case status == 410:
		return VerdictGone, 0
	case status == 0:
		return VerdictRetry, 0
	}
	return VerdictRetry, parseRetryAfter(retryAfter, now)
}

// parseRetryAfter reads seconds or an HTTP date (RFC 9110 section 10.2.3),
// capped at MaxRetryAfter. An unreadable value and a date in the past give 0.
func parseRetryAfter(s string, now time.Time) time.Duration {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0
	}
	if strings.Trim(s, "0123456789") == "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n > int64(MaxRetryAfter/time.Second) { // all digits: an error means too many
			return MaxRetryAfter
		}
		return time.Duration(n) * time.Second
	}
	for _, layout := range httpTimes {
		if at, err := time.Parse(layout, s); err == nil {
			return min(max(at.Sub(now), 0), MaxRetryAfter)
		}
	}
	return 0
}
