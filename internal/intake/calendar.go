package intake

import (
	"slices"
	"strings"

	"github.com/postrider/postrider/email"
)

// maxCalendarBytes bounds an invitation: calendar programs refuse larger ones.
const maxCalendarBytes = 1 << 20

// calendarMethods are the methods of iTIP (RFC 5546 section 1.4).
var calendarMethods = []string{"PUBLISH", "REQUEST", "REPLY", "ADD", "CANCEL", "REFRESH", "COUNTER", "DECLINECOUNTER"}

// calendar checks an iCalendar object that is sent with text or HTML (RFC 6047). Its method has
// to be the method of the MIME part (RFC 6047 section 2.4): mail programs show no invitation if
// the two differ. Line ends become CRLF (RFC 5545 section 3.1).
func (c *Checks) calendar(in *calendar) email.Calendar {
	if in == nil {
		return email.Calendar{}
	}
	const atMethod, atICS = "/content/calendar/method", "/content/calendar/ics"
	out := email.Calendar{Method: strings.ToUpper(text(in.Method)), ICS: lineEnds.Replace(strings.TrimPrefix(text(in.ICS), "\ufeff"))}
	switch {
	case out.Method == "":
		c.Refuse(atMethod, CodeMissing, "give the method, which is METHOD in the calendar, as REQUEST")
	case !slices.Contains(calendarMethods, out.Method):
		c.Refuse(atMethod, CodeInvalid, "give one of the methods of iTIP: %s", strings.Join(calendarMethods, ", "))
	}
	switch {
	case strings.TrimSpace(out.ICS) == "":
		c.Refuse(atICS, CodeMissing, "give the calendar: an iCalendar object, from BEGIN:VCALENDAR to END:VCALENDAR")
		return out
	case len(out.ICS) > maxCalendarBytes:
		c.Refuse(atICS, CodeTooLarge, "the calendar has %d bytes, the limit is %d", len(out.ICS), maxCalendarBytes)
		return out
	case strings.ContainsFunc(out.ICS, func(r rune) bool { return r < ' ' && r != '\t' && r != '\r' && r != '\n' || r == 0x7f }):
		c.Refuse(atICS, CodeControl, "remove the control characters")
		return out
	}
	out.ICS = strings.TrimRight(out.ICS, "\r\n") + "\r\n"
	method, problem := readCalendar(out.ICS)
	switch {
	case problem != "":
		c.Refuse(atICS, CodeInvalid, "%s", problem)
	case out.Method != "" && !strings.EqualFold(method, out.Method):
		c.Refuse(atMethod, CodeInvalid, "the method is %s, and METHOD in the calendar is %.32q; give the same", out.Method, method)
	}
	return out
}

var lineEnds = strings.NewReplacer("\r\n", "\r\n", "\r", "\r\n", "\n", "\r\n")

// readCalendar returns the method of a text with one calendar, or a problem of its structure
// (RFC 5545 section 3.4). It does not check the contents of components.
func readCalendar(ics string) (method, problem string) {
	var open []string
	calendars, methods, components := 0, 0, 0
	for line := range strings.SplitSeq(strings.ReplaceAll(strings.ReplaceAll(ics, "\r\n ", ""), "\r\n\t", ""), "\r\n") {
		name, value, ok := strings.Cut(line, ":")
		name, _, _ = strings.Cut(name, ";")
		name, value = strings.ToUpper(name), strings.TrimSpace(value)
		switch {
		case line == "":
		case !ok:
			return "", "a line of the calendar has no colon; give each property as NAME:value, and begin a folded line with a space"
		case name == "BEGIN":
			if len(open) == 0 {
				calendars++
				if !strings.EqualFold(value, "VCALENDAR") {
					return "", "the calendar does not begin with BEGIN:VCALENDAR"
				}
			} else {
				components++
			}
			open = append(open, strings.ToUpper(value))
		case name == "END":
			if len(open) == 0 || open[len(open)-1] != strings.ToUpper(value) {
				return "", "an END in the calendar has no BEGIN of the same name"
			}
			open = open[:len(open)-1]
		case len(open) == 0:
			return "", "the calendar does not begin with BEGIN:VCALENDAR, or goes on behind END:VCALENDAR"
		case len(open) == 1 && name == "METHOD":
			method, methods = value, methods+1
		}
	}
	switch {
	case len(open) > 0:
		return "", "the calendar has no END:" + clipped(open[len(open)-1])
	case calendars != 1:
		return "", "give exactly one VCALENDAR"
	case methods != 1:
		return "", "the calendar has to have METHOD once, before its components"
	case components == 0:
		return "", "the calendar holds no component, as a VEVENT"
	}
	return method, ""
}

// clipped shortens a value that an error repeats.
func clipped(s string) string { return strings.ToValidUTF8(s[:min(len(s), 32)], "") }
