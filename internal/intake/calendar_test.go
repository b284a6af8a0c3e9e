package intake_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
)

const invite = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//example//EN\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:1@example.com\r\nDTSTAMP:20260101T000000Z\r\n" +
	"DTSTART:20260526T150000Z\r\nSUMMARY:Besichtigung in\r\n  Zürich\r\nORGANIZER:mailto:a@example.com\r\nATTENDEE;RSVP=TRUE:mailto:b@example.net\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"

func withCalendar(method, ics string) []byte {
	return []byte(strings.Replace(with(`"tags":[]`), `"content":"t"`, `"content":{"text":"t","calendar":{"method":`+quoted(method)+`,"ics":`+quoted(ics)+`}}`, 1))
}

func TestDecodeCalendar(t *testing.T) {
	t.Parallel()
	for name, ics := range map[string]string{"CRLF": invite, "LF": strings.ReplaceAll(invite, "\r\n", "\n"), "no line end": strings.TrimSpace(invite), "a byte order mark": "\ufeff" + invite} {
		m, err := intake.Decode(withCalendar("request", ics), limits())
		require.NoError(t, err, name)
		require.Equal(t, email.Calendar{Method: "REQUEST", ICS: invite}, m.Calendar, name)
		require.Equal(t, int64(len("t")+len(invite)), m.Size())
	}
	folded, err := intake.Decode(withCalendar("CANCEL", strings.Replace(invite, "METHOD:REQUEST", "METHOD:CAN\r\n CEL", 1)), limits())
	require.NoError(t, err)
	require.Equal(t, "CANCEL", folded.Calendar.Method)
}

func TestDecodeCalendarRefusals(t *testing.T) {
	t.Parallel()
	at := func(body []byte) string {
		_, err := intake.Decode(body, limits())
		f := failure(t, err).Fields[0]
		return strings.TrimPrefix(f.Pointer, "/content/calendar") + " " + f.Code
	}
	for name, row := range map[string]struct{ method, ics, want string }{
		"no method":             {"", invite, "/method missing"},
		"no such method":        {"INVITE", invite, "/method invalid"},
		"another method":        {"CANCEL", invite, "/method invalid"},
		"a line break":          {"REQUEST\r\nX: y", invite, "/method invalid"},
		"no calendar":           {"REQUEST", " \n", "/ics missing"},
		"no METHOD":             {"REQUEST", strings.Replace(invite, "METHOD:REQUEST\r\n", "", 1), "/ics invalid"},
		"METHOD in a part":      {"REQUEST", strings.Replace(strings.Replace(invite, "METHOD:REQUEST\r\n", "", 1), "UID", "METHOD:REQUEST\r\nUID", 1), "/ics invalid"},
		"METHOD twice":          {"REQUEST", strings.Replace(invite, "METHOD", "METHOD:REQUEST\r\nMETHOD", 1), "/ics invalid"},
		"not a calendar":        {"REQUEST", "hello", "/ics invalid"},
		"a part alone":          {"REQUEST", "BEGIN:VEVENT\r\nEND:VEVENT\r\n", "/ics invalid"},
		"cut off":               {"REQUEST", invite[:len(invite)-20], "/ics invalid"},
		"two calendars":         {"REQUEST", invite + invite, "/ics invalid"},
		"something behind":      {"REQUEST", invite + "X:y\r\n", "/ics invalid"},
		"no component":          {"REQUEST", "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n", "/ics invalid"},
		"crossed":               {"REQUEST", strings.Replace(invite, "END:VEVENT\r\nEND:VCALENDAR", "END:VCALENDAR\r\nEND:VEVENT", 1), "/ics invalid"},
		"a control character":   {"REQUEST", strings.Replace(invite, "UID:1", "UID:\x01", 1), "/ics control_character"},
		"more than it may have": {"REQUEST", strings.Replace(invite, "UID:1", "UID:"+strings.Repeat("1", 1<<20), 1), "/ics too_large"},
	} {
		l := limits()
		l.MaxMessageBytes = 4 << 20
		_, err := intake.Decode(withCalendar(row.method, row.ics), l)
		f := failure(t, err).Fields[0]
		require.Equal(t, row.want, strings.TrimPrefix(f.Pointer, "/content/calendar")+" "+f.Code, name)
	}
	require.Equal(t, "/content missing", at([]byte(strings.Replace(string(withCalendar("REQUEST", invite)), `"text":"t",`, "", 1))), "a calendar alone is no message")
	require.Equal(t, "/when unknown", at([]byte(strings.Replace(string(withCalendar("REQUEST", invite)), `"method"`, `"when"`, 1))))
	_, err := intake.Decode(withCalendar("REQUEST", strings.Replace(invite, "UID:1", "UID:"+strings.Repeat("1", 1<<20), 1)), limits())
	require.Equal(t, email.CodeTooLarge, failure(t, err).Code, "it counts against the message's limit")
}

func TestFingerprintOfCalendar(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{intake.Fingerprint(decode(t, with(`"tags":[]`))): true}
	for _, body := range [][]byte{
		withCalendar("REQUEST", invite), withCalendar("CANCEL", strings.Replace(invite, "REQUEST", "CANCEL", 1)), withCalendar("REQUEST", strings.Replace(invite, "UID:1", "UID:2", 1)),
	} {
		f := intake.Fingerprint(decode(t, string(body)))
		require.False(t, seen[f])
		seen[f] = true
	}
	require.True(t, seen[intake.Fingerprint(decode(t, string(withCalendar("request", strings.ReplaceAll(invite, "\r\n", "\n")))))], "line ends make no other calendar")
}
