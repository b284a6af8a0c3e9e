// Package reputation judges sender domains by what becomes of their mail, and names receiving
// providers. It computes only.
//
//  1. Counts are recipients, counted once each when they end, by the day of the event.
//  2. Bands.After derives the bands of a domain from the counts of the last WindowDays days.
//  3. A band that was entered is left late: see Bands.After.
package reputation

import (
	"fmt"
	"strings"
	"time"

	"github.com/postrider/postrider/email"
)

const (
	// WindowDays is the number of days (UTC) that the bands are derived from, today included.
	WindowDays = 7
	// KeptDays is how long the counts of a day are kept. Reports go back MaxDays at most.
	KeptDays = 400
	MaxDays  = 366
	// leastCount is how many recipients of the window a rate needs: sent ones for bounces, delivered
	// ones for complaints.
	leastCount = 100
)

// Counts are numbers of recipients.
type Counts struct {
	// Sent have ended after an attempt: delivered, bounced, expired or failed. Suppressed and
	// canceled ones are not sent.
	Sent      int64 `json:"sent"`
	Delivered int64 `json:"delivered"`
	// Deferred counts deferrals: a recipient may have several.
	Deferred int64 `json:"deferred"`
	// Hard and Soft are bounces by their reason.
	Hard int64 `json:"hard"`
	Soft int64 `json:"soft"`
	// Blocked are recipients that a server refused because of the sender's reputation or
	// authentication: bounces with the reason block, and deferrals with the reasons ip_blocked and
	// unauthenticated. A recipient counts once a day.
	Blocked      int64 `json:"blocked"`
	Complained   int64 `json:"complained"`
	Unsubscribed int64 `json:"unsubscribed"`
}

// Add adds other counts.
func (c *Counts) Add(o Counts) {
	c.Sent += o.Sent
	c.Delivered += o.Delivered
	c.Deferred += o.Deferred
	c.Hard += o.Hard
	c.Soft += o.Soft
	c.Blocked += o.Blocked
	c.Complained += o.Complained
	c.Unsubscribed += o.Unsubscribed
}

// BounceRate is the share of hard bounces in the sent recipients, 0 to 1; nil if none was sent.
func (c Counts) BounceRate() *float64 { return rate(c.Hard, c.Sent) }

// ComplaintRate is the share of complaints in the delivered recipients; nil if none was delivered.
// It may be above 1, because a complaint counts on its own day.
func (c Counts) ComplaintRate() *float64 { return rate(c.Complained, c.Delivered) }

func rate(n, of int64) *float64 {
	if of == 0 {
		return nil
	}
	r := float64(n) / float64(of)
	return &r
}

// Band says how a domain's rates compare with the limits of large receivers.
type Band string

// The bands, from the best to the worst. BandUnknown is below the least count, and says nothing.
const (
	BandUnknown  Band = "unknown"
	BandGood     Band = "good"
	BandWarning  Band = "warning"
	BandCritical Band = "critical"
)

// AllBands lists them, BandUnknown first.
func AllBands() []Band { return []Band{BandUnknown, BandGood, BandWarning, BandCritical} }

func (b Band) rank() int {
	switch b {
	case BandGood:
		return 1
	case BandWarning:
		return 2
	case BandCritical:
		return 3
	}
	return 0
}

// WorseThan reports whether the band is worse than another one.
func (b Band) WorseThan(other Band) bool { return b.rank() > other.rank() }

// limits are those of one rate, in tenths of a percent.
type limits struct{ warning, critical int64 }

// The limits: bounces from 2 % and 5 % of the sent recipients, complaints from 0.1 % and 0.3 % of the
// delivered ones.
var (
	bounceLimits    = limits{20, 50}
	complaintLimits = limits{1, 3}
)

// Bands are those of one domain. The zero value is a domain that was never judged.
type Bands struct {
	Bounce    Band
	Complaint Band
}

// Band is the worse of the two.
func (b Bands) Band() Band {
	worst := BandUnknown
	for _, band := range []Band{b.Bounce, b.Complaint} {
		if band.WorseThan(worst) {
			worst = band
		}
	}
	return worst
}

// After derives the bands from the counts of the window, with hysteresis: a rate enters a band at its
// limit, and leaves it below 80 % of that. The least count for warning and critical is 100 to enter
// and 80 to stay.
func (b Bands) After(window Counts) Bands {
	return Bands{
		Bounce:    bounceLimits.band(b.Bounce, window.Hard, window.Sent),
		Complaint: complaintLimits.band(b.Complaint, window.Complained, window.Delivered),
	}
}

func (l limits) band(before Band, n, of int64) Band {
	// scale is what of the limits and of the least count is needed, in tenths.
	scale := func(b Band) int64 {
		if !b.WorseThan(before) {
			return 8
		}
		return 10
	}
	reached := func(b Band, limit int64) bool { return n*1000*10 >= limit*scale(b)*of }
	switch {
	case of*10 < leastCount*scale(BandWarning):
		return BandUnknown
	case reached(BandCritical, l.critical):
		return BandCritical
	case reached(BandWarning, l.warning):
		return BandWarning
	case of < leastCount:
		return BandUnknown
	}
	return BandGood
}

// Standing is how a domain stands.
type Standing struct {
	Bands
	// Since is when it entered its band. Zero: it was never judged.
	Since time.Time
}

// Cause says in words why a domain's band is warning or critical, from the counts of the window.
func (b Bands) Cause(domain string, window Counts) string {
	var causes []string
	if b.Bounce == b.Band() {
		causes = append(causes, fmt.Sprintf("%s of %d mails of %s bounced as hard in the last %d days", percent(window.BounceRate()), window.Sent, domain, WindowDays))
	}
	if b.Complaint == b.Band() {
		causes = append(causes, fmt.Sprintf("%s of %d delivered mails of %s were reported as spam in the last %d days", percent(window.ComplaintRate()), window.Delivered, domain, WindowDays))
	}
	return strings.Join(causes, "; ")
}

func percent(rate *float64) string {
	if rate == nil {
		return "0 %"
	}
	decimals := 1
	if *rate < 0.01 {
		decimals = 2
	}
	return fmt.Sprintf("%.*f %%", decimals, *rate*100)
}

// Change is a domain's move to a worse band, warning or critical.
type Change struct {
	CustomerID string
	Domain     string
	Bands
	Before Band
	// Window are the counts that led to it.
	Window Counts
	// Cause is in words.
	Cause string
	// Paused: the change paused the domain's broadcast stream.
	Paused bool
}

// Report is a domain's standing with its counts.
type Report struct {
	// Domain is in lower case, with A-labels.
	Domain string
	Standing
	// WindowFrom and WindowTo are the first and the last day of Window, which the bands are derived
	// from.
	WindowFrom time.Time
	WindowTo   time.Time
	Window     Counts
	// From and To are the first and the last day of the groups below.
	From time.Time
	To   time.Time
	// Streams, Days (oldest first) and Providers leave out those without any count.
	Streams   []StreamCounts
	Days      []DayCounts
	Providers []ProviderCounts
}

// StreamCounts are those of one stream.
type StreamCounts struct {
	Stream email.Stream
	Counts
}

// DayCounts are those of one day (UTC).
type DayCounts struct {
	Day time.Time
	Counts
}

// ProviderCounts are those at one receiving provider.
type ProviderCounts struct {
	Provider Provider
	Counts
}
