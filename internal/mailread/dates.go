package mailread

import (
	"strconv"
	"strings"
	"time"
)

// zones are offsets in minutes. The first four pairs are those of RFC 5322 §4.3;
// the others are in use and mean one thing only.
var zones = map[string]int{
	"EST": -300, "EDT": -240, "CST": -360, "CDT": -300, "MST": -420, "MDT": -360, "PST": -480, "PDT": -420,
	"UT": 0, "UTC": 0, "GMT": 0, "Z": 0, "WET": 0, "WEST": 60, "CET": 60, "MET": 60, "CEST": 120, "MEST": 120, "EET": 120, "EEST": 180,
	"MSK": 180, "JST": 540, "KST": 540, "AKST": -540, "AKDT": -480, "HST": -600, "AEST": 600, "AEDT": 660, "NZST": 720, "NZDT": 780,
}

var isoLayouts = []string{
	time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 Z07:00", "2006-01-02 15:04:05 Z0700", "2006-01-02T15:04Z07:00",
	"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02",
}

// Date reads a date of RFC 5322 §3.3 and §4.3, of asctime, of ISO 8601, and what
// lies between: full names, two digits of a year, offsets with a colon, "GMT+0200",
// AM and PM. at is in UTC, zero where the value is no date of the years 1900 to
// 9999. problem says what had to be assumed; it is empty where nothing was.
func Date(value string) (at time.Time, problem string) {
	value = strings.TrimSpace(stripComments(value))
	for i, layout := range isoLayouts {
		if t, err := time.Parse(layout, value); err == nil {
			if i >= 6 {
				problem = "no time zone, read as UTC"
			}
			return inRange(t.UTC()), problem
		}
	}
	d := dateReader{day: -1, month: -1, year: -1, hour: -1}
	value = strings.NewReplacer(",", " ", "\t", " ", "\u00a0", " ").Replace(value)
	for _, word := range strings.Fields(value) {
		if !d.word(word) {
			return time.Time{}, ""
		}
	}
	return d.time()
}

func inRange(t time.Time) time.Time {
	if t.Year() < 1900 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}

type dateReader struct {
	day, month, year   int
	hour, minute, sec  int
	offset             int // minutes
	zoned, afternoon   bool
	twelve, zoneUnread bool
}

// word takes one word of a date and says whether it can be part of one.
func (d *dateReader) word(w string) bool {
	upper := strings.ToUpper(strings.TrimRight(w, "."))
	switch {
	case upper == "":
		return false
	case strings.Count(w, "-") == 2 && w[0] != '-' && d.day < 0: // 09-Jan-2002
		for _, part := range strings.Split(w, "-") {
			if !d.word(part) {
				return false
			}
		}
		return true
	case strings.Contains(w, ":") && w[0] >= '0' && w[0] <= '9':
		return d.clock(w)
	case strings.Count(w, ".") == 2 && d.hour < 0 && strings.Trim(w, "0123456789.") == "":
		return d.clock(strings.ReplaceAll(w, ".", ":"))
	case upper == "AM" || upper == "PM":
		d.twelve, d.afternoon = true, upper == "PM"
		return d.hour >= 0
	case w[0] == '+' || w[0] == '-':
		return d.numericZone(w)
	case w[0] >= '0' && w[0] <= '9':
		return d.number(w)
	}
	if m := monthOf(upper); m > 0 && d.month < 0 {
		d.month = m
		return true
	}
	if isWeekday(upper) || upper == "AT" || d.day < 0 && d.month < 0 && d.hour < 0 && !strings.ContainsAny(w, "0123456789") {
		return true // a weekday, perhaps of another language
	}
	return d.namedZone(upper)
}

func (d *dateReader) number(w string) bool {
	digits := strings.TrimRight(strings.ToLower(w), "stndrh.")
	n, err := strconv.Atoi(digits)
	switch {
	case err != nil || len(digits) > 4:
		return false
	case d.day < 0 && len(digits) <= 2:
		d.day = n
	case d.year < 0:
		switch { // RFC 5322 §4.3
		case len(digits) == 2 && n < 50:
			n += 2000
		case len(digits) <= 3:
			n += 1900
		}
		d.year = n
	case d.hour >= 0 && !d.zoned && len(digits) == 4: // an offset without a sign
		return d.numericZone("+" + digits)
	default:
		return false
	}
	return true
}

func (d *dateReader) clock(w string) bool {
	for _, half := range []string{"AM", "PM"} {
		if rest, ok := strings.CutSuffix(strings.ToUpper(w), half); ok {
			d.twelve, d.afternoon, w = true, half == "PM", rest
		}
	}
	if at := strings.IndexAny(w, "+-"); at > 0 {
		if !d.numericZone(w[at:]) {
			return false
		}
		w = w[:at]
	}
	w = strings.TrimRight(w, "Zz")
	parts := strings.Split(w, ":")
	if len(parts) > 3 || d.hour >= 0 {
		return false
	}
	var values [3]int
	for i, p := range parts {
		whole, _, _ := strings.Cut(p, ".")
		n, err := strconv.Atoi(whole)
		if err != nil || n < 0 || len(whole) > 2 {
			return false
		}
		values[i] = n
	}
	d.hour, d.minute, d.sec = values[0], values[1], values[2]
	return true
}

// numericZone reads +hhmm, +hh:mm and +h.
func (d *dateReader) numericZone(w string) bool {
	digits := strings.ReplaceAll(w[1:], ":", "")
	n, err := strconv.Atoi(digits)
	if err != nil || len(digits) > 4 || n < 0 {
		return false
	}
	hours, minutes := n/100, n%100
	if len(digits) <= 2 {
		hours, minutes = n, 0
	}
	if hours > 23 || minutes > 59 {
		d.zoneUnread = true
		return true
	}
	if d.offset = hours*60 + minutes; w[0] == '-' {
		d.offset = -d.offset
	}
	d.zoned = true
	return true
}

func (d *dateReader) namedZone(upper string) bool {
	if at := strings.IndexAny(upper, "+-"); at > 0 { // GMT+0200
		if _, known := zones[upper[:at]]; known {
			return d.numericZone(upper[at:])
		}
	}
	for _, c := range upper {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	if d.hour < 0 || len(upper) > 5 {
		return false
	}
	if offset, known := zones[upper]; known {
		if !d.zoned {
			d.offset, d.zoned = offset, true
		}
	} else if !d.zoned {
		d.zoneUnread = true // RFC 5322 §4.3: as -0000
	}
	return true
}

func (d *dateReader) time() (at time.Time, problem string) {
	if d.day < 1 || d.month < 1 || d.year < 0 {
		return time.Time{}, ""
	}
	switch {
	case d.hour < 0:
		d.hour, problem = 0, "no time of day, read as midnight"
	case d.zoneUnread && !d.zoned:
		problem = "time zone not known, read as UTC"
	case !d.zoned:
		problem = "no time zone, read as UTC"
	}
	if d.twelve && d.hour <= 12 {
		if d.hour %= 12; d.afternoon {
			d.hour += 12
		}
	}
	if d.hour > 23 || d.minute > 59 || d.sec > 60 {
		return time.Time{}, ""
	}
	at = time.Date(d.year, time.Month(d.month), d.day, d.hour, d.minute, d.sec, 0, time.UTC)
	if at.Day() != d.day && d.sec != 60 {
		return time.Time{}, "" // the 31st of February
	}
	return inRange(at.Add(-time.Duration(d.offset) * time.Minute)), problem
}

func monthOf(upper string) int {
	for m := time.January; m <= time.December; m++ {
		if name := strings.ToUpper(m.String()); len(upper) >= 3 && strings.HasPrefix(name, upper) || upper == "SEPT" && m == time.September {
			return int(m)
		}
	}
	return 0
}

func isWeekday(upper string) bool {
	for d := time.Sunday; d <= time.Saturday; d++ {
		if len(upper) >= 3 && strings.HasPrefix(strings.ToUpper(d.String()), upper) {
			return true
		}
	}
	return upper == "TUES" || upper == "THUR" || upper == "THURS"
}

// stripComments removes comments (RFC 5322 §3.2.2); one without an end goes to
// the end.
func stripComments(s string) string {
	var b strings.Builder
	for {
		at := strings.IndexByte(s, '(')
		if at < 0 {
			return b.String() + s
		}
		b.WriteString(s[:at] + " ")
		end := commentEnd(s[at:])
		if end < 0 {
			return b.String()
		}
		s = s[at+end:]
	}
}
