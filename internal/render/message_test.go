package render_test

import (
	"bytes"
	"io"
	"mime"
	"strings"
	"testing"

	"github.com/emersion/go-message"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/render"
)

const inner = "From: a@example.com\r\nTo: b@example.com\r\nSubject: inner\r\nContent-Type: text/plain\r\n\r\nInner body\r\n.\r\nFrom here \r\n"

// parts are the leaves of a message by their media type, with their transfer encodings.
func parts(t *testing.T, raw []byte) (types []string, headers []message.Header, bodies [][]byte) {
	t.Helper()
	e, err := message.Read(bytes.NewReader(raw))
	require.NoError(t, err)
	require.NoError(t, e.Walk(func(_ []int, e *message.Entity, err error) error {
		require.NoError(t, err)
		kind, _, err := e.Header.ContentType()
		require.NoError(t, err)
		if strings.HasPrefix(kind, "multipart/") {
			types = append(types, kind)
			return nil
		}
		body, err := io.ReadAll(e.Body)
		require.NoError(t, err)
		types, headers, bodies = append(types, kind), append(headers, e.Header), append(bodies, body)
		return nil
	}))
	return types, headers, bodies
}

func TestAMessageIsCarriedAsOne(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{"CRLF": inner, "LF": strings.ReplaceAll(inner, "\r\n", "\n"), "no line end": strings.TrimSuffix(inner, "\r\n")} {
		m := basic()
		m.HTML = ""
		m.Attachments = []email.Attachment{{Filename: "mail.eml", Type: "message/rfc822", Content: []byte(content)}}
		raw := rendered(t, m)
		types, headers, bodies := parts(t, raw)
		require.Equal(t, []string{"multipart/mixed", "text/plain", "message/rfc822"}, types, name)
		require.Equal(t, "7bit", headers[1].Get("Content-Transfer-Encoding"), "RFC 2046 section 5.2.1")
		require.Equal(t, strings.TrimSuffix(inner, "\r\n"), strings.TrimSuffix(string(bodies[1]), "\r\n"), name)

		preview, err := render.MakePreview(m, composition, 10)
		require.NoError(t, err)
		require.Equal(t, int64(len(raw)), preview.SizeBytes, name)
		require.NotContains(t, string(preview.Source), "Inner body")
	}
}

// Content that 7bit cannot hold arrives whole, as a file.
func TestAMessageThatNeedsAnEncodingIsAFile(t *testing.T) {
	t.Parallel()
	withBoundary := basic()
	withBoundary.Attachments = []email.Attachment{{Filename: "a", Content: []byte("x")}}
	for name, content := range map[string]string{
		"8bit": strings.Replace(inner, "body", "bödy", 1), "NUL": inner + "\x00", "bare CR": inner + "a\rb", "a long line": inner + strings.Repeat("x", 999), "no header": "just text", "a mailbox's line": "From a Mon Jan\n" + inner,
		"our own boundary": string(rendered(t, withBoundary)),
	} {
		m := basic()
		m.HTML = ""
		m.Attachments = []email.Attachment{{Filename: "mail.eml", Type: "message/rfc822", Content: []byte(content)}}
		types, headers, bodies := parts(t, rendered(t, m))
		require.Equal(t, []string{"multipart/mixed", "text/plain", "application/octet-stream"}, types, name)
		require.Equal(t, "base64", headers[1].Get("Content-Transfer-Encoding"))
		require.Equal(t, content, string(bodies[1]), name)
	}
}

// Python's email package reads no name, or half of it, where an apostrophe stands outside of
// a quoted string.
func TestNamesThatAreQuoted(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"l'avis.pdf": `filename="l'avis.pdf"`, "l'avis_d'echeance.pdf": `filename="l'avis_d'echeance.pdf"`, "100%.pdf": `filename="100%.pdf"`, "a*b.pdf": `filename="a*b.pdf"`,
		`it's "q".pdf`: `filename="it's \"q\".pdf"`, "plain-1.pdf": "filename=plain-1.pdf", "l'été.pdf": "filename*=utf-8''l%27%C3%A9t%C3%A9.pdf",
	} {
		m := basic()
		m.Attachments = []email.Attachment{{Filename: name, Type: "application/pdf", Content: []byte("x")}}
		raw := rendered(t, m)
		require.Contains(t, strings.ReplaceAll(string(raw), "\r\n ", " "), "\r\nContent-Disposition: attachment; "+want+"\r\n")
		_, headers, _ := parts(t, raw)
		_, params, err := mime.ParseMediaType(headers[2].Get("Content-Disposition"))
		require.NoError(t, err)
		require.Equal(t, name, params["filename"])
	}
}

// Outlook and Gmail show an invitation with buttons where it is the last alternative, with its
// method (RFC 6047).
func TestAnInvitationIsAnAlternative(t *testing.T) {
	t.Parallel()
	ics := "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nSUMMARY:Zürich\\, 8004\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
	m := basic()
	m.Calendar = email.Calendar{Method: "REQUEST", ICS: ics}
	m.Attachments = []email.Attachment{{Filename: "invite.ics", Type: "text/calendar; charset=utf-8", Content: []byte(ics)}}
	raw := rendered(t, m)
	require.Equal(t, raw, rendered(t, m))
	types, headers, bodies := parts(t, raw)
	require.Equal(t, []string{"multipart/mixed", "multipart/alternative", "text/plain", "text/html", "text/calendar", "text/calendar"}, types)
	require.Equal(t, "text/calendar; method=REQUEST; charset=utf-8", headers[2].Get("Content-Type"))
	require.Empty(t, headers[2].Get("Content-Disposition"))
	require.Equal(t, ics, string(bodies[2]))
	require.Contains(t, headers[3].Get("Content-Disposition"), "invite.ics")

	m.HTML, m.Attachments = "", nil
	types, _, _ = parts(t, rendered(t, m))
	require.Equal(t, []string{"multipart/alternative", "text/plain", "text/calendar"}, types)

	for _, method := range []string{"", "REQUEST; x=y", "a\r\nb"} {
		m.Calendar.Method = method
		_, err := render.Render(m, composition)
		require.ErrorIs(t, err, render.ErrUnsafe)
	}
}
