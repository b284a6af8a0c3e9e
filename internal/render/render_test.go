package render_test

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-message"
	"github.com/jhillyerd/enmime/v2"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/render"
)

var update = flag.Bool("update", false, "write the golden files")

var composition = render.Composition{
	EmailID: "01890a5d-ac96-774b-bcce-b302099a8057", MessageID: "01890a5d-ac96-774b-bcce-b302099a8057@example.com",
	Date: time.Date(2026, 3, 4, 6, 6, 7, 0, time.FixedZone("CET", 3600)),
}

func basic() email.Message {
	return email.Message{
		From: email.Address{Email: "orders@example.com", Name: "Your Company"}, To: []email.Address{{Email: "john@example.net", Name: "John Doe"}},
		Subject: "Your Order Confirmation", Text: "Thank you for your order #12345.",
		HTML: "<h1>Thank you!</h1><p>Your order #12345 has been confirmed.</p>",
	}
}

func full() email.Message {
	m := basic()
	m.From.Name = "Jürgen „Jupp“ Müller, Größenwahn & Söhne"
	m.To = append(m.To, email.Address{Email: "jürgen@xn--exmple-cua.net", Name: `He said "hi", (twice)`})
	m.Cc = []email.Address{{Email: "copy@example.net"}}
	m.Bcc = []email.Address{{Email: "hidden@example.net", Name: "Hidden"}}
	m.ReplyTo = []email.Address{{Email: "help@example.com", Name: "Help"}}
	m.Subject = "Größe 📦 and a subject that is long enough to be folded over more than one line, with naïve façades"
	m.Text = "Line one\nLine two é\r\n.dot\r\n\rlone \nFrom here\n" + strings.Repeat("long ", 400)
	m.Headers = []email.Header{{Name: "X-SecondOne", Value: "zwei Ü"}, {Name: "X-First", Value: "1"}, {Name: "List-Unsubscribe", Value: "<https://example.com/u?a=1>"}}
	m.Attachments = []email.Attachment{
		{Filename: "Größe (1).pdf", Type: "application/pdf", Content: []byte("%PDF\x00\xff")},
		{Filename: "logo.png", Type: "image/png", ContentID: "logo", Content: bytes.Repeat([]byte{1, 2, 3}, 100)},
		{Filename: `quo"te.txt`, Type: "text/plain; charset=utf-8", Content: []byte("hi\n")},
		{Filename: "gone.wav", Optional: true, Problem: "not found"},
	}
	return m
}

func rendered(t *testing.T, m email.Message) []byte {
	t.Helper()
	raw, err := render.Render(m, composition)
	require.NoError(t, err)
	wellFormed(t, raw)
	return raw
}

// wellFormed checks what every message on the wire has to keep.
func wellFormed(t *testing.T, raw []byte) {
	t.Helper()
	require.True(t, bytes.HasSuffix(raw, []byte("\r\n")))
	for line := range strings.SplitSeq(string(raw), "\r\n") {
		require.LessOrEqual(t, len(line), 998)
		require.False(t, strings.ContainsAny(line, "\r\n\x00"), "%q", line)
	}
	require.NotContains(t, string(raw), "\r\n \r\n", "no line of a header is blank")
}

func TestGolden(t *testing.T) {
	t.Parallel()
	invoice := basic()
	invoice.Attachments = []email.Attachment{{Filename: "invoice-12345.pdf", Type: "application/pdf", Content: []byte("%PDF-1.4\n")}}
	text := basic()
	text.HTML = ""
	html := basic()
	html.Text = ""
	for file, m := range map[string]email.Message{"basic.eml": basic(), "attachment.eml": invoice, "text.eml": text, "html.eml": html, "full.eml": full()} {
		got := rendered(t, m)
		file = filepath.Join("testdata", file)
		if *update {
			require.NoError(t, os.WriteFile(file, got, 0o644))
		}
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), file)
	}
}

func TestTheSameBytesForEveryAttempt(t *testing.T) {
	t.Parallel()
	first := rendered(t, full())
	for range 20 {
		require.Equal(t, first, rendered(t, full()))
	}
	other := composition
	other.EmailID = "01890a5d-ac96-774b-bcce-b302099a8058"
	raw, err := render.Render(full(), other)
	require.NoError(t, err)
	require.NotEqual(t, first, raw, "boundaries are of one e-mail")
}

func TestAFullMessageParsesBackWithEnmime(t *testing.T) {
	t.Parallel()
	m := full()
	raw := rendered(t, m)
	require.NotContains(t, strings.ToLower(string(raw)), "\nbcc:")
	require.NotContains(t, strings.ToLower(string(raw)), "hidden")
	env, err := enmime.ReadEnvelope(bytes.NewReader(raw))
	require.NoError(t, err)
	require.Empty(t, env.Errors)
	require.Equal(t, m.Subject, env.GetHeader("Subject"))
	for name, want := range map[string][]email.Address{"From": {m.From}, "To": m.To, "Cc": m.Cc, "Reply-To": m.ReplyTo} {
		got, err := env.AddressList(name)
		require.NoError(t, err)
		require.Len(t, got, len(want))
		for i := range want {
			require.Equal(t, want[i].Name, got[i].Name)
			require.Equal(t, want[i].Email, got[i].Address)
		}
	}
	require.Equal(t, "<"+composition.MessageID+">", env.GetHeader("Message-ID"))
	date, err := env.Date()
	require.NoError(t, err)
	require.True(t, composition.Date.Equal(date))
	require.Equal(t, "zwei Ü", env.GetHeader("X-SecondOne"))
	require.Equal(t, crlf(m.Text), env.Text)
	require.Equal(t, m.HTML, env.HTML)
	require.Len(t, env.Inlines, 1)
	require.Equal(t, "logo", env.Inlines[0].ContentID)
	require.Equal(t, m.Attachments[1].Content, env.Inlines[0].Content)
	require.Len(t, env.Attachments, 2)
	require.Equal(t, "Größe (1).pdf", env.Attachments[0].FileName)
	require.Equal(t, m.Attachments[0].Content, env.Attachments[0].Content)
	require.Equal(t, `quo"te.txt`, env.Attachments[1].FileName)
	require.Equal(t, m.Attachments[2].Content, env.Attachments[1].Content)
}

func TestTheStructureReadByGoMessage(t *testing.T) {
	t.Parallel()
	m := full()
	e, err := message.Read(bytes.NewReader(rendered(t, m)))
	require.NoError(t, err)
	require.Equal(t, []string{
		"multipart/mixed", ". multipart/related", ". . multipart/alternative", ". . . text/plain", ". . . text/html", ". . image/png", ". application/pdf", ". text/plain",
	}, structure(t, e, ""))

	m.HTML = ""
	e, err = message.Read(bytes.NewReader(rendered(t, m)))
	require.NoError(t, err)
	require.Equal(t, []string{"multipart/mixed", ". text/plain", ". application/pdf", ". image/png", ". text/plain"}, structure(t, e, ""), "without HTML nothing is inline")

	m = full()
	m.Attachments = m.Attachments[1:2]
	e, err = message.Read(bytes.NewReader(rendered(t, m)))
	require.NoError(t, err)
	_, params, err := e.Header.ContentType()
	require.NoError(t, err)
	require.Equal(t, "multipart/alternative", params["type"])
	require.Equal(t, []string{"multipart/related", ". multipart/alternative", ". . text/plain", ". . text/html", ". image/png"}, structure(t, e, ""))
}

// structure lists a message's parts by type, and reads them to their end.
func structure(t *testing.T, e *message.Entity, indent string) []string {
	t.Helper()
	kind, _, err := e.Header.ContentType()
	require.NoError(t, err)
	out := []string{indent + kind}
	parts := e.MultipartReader()
	if parts == nil {
		_, err := io.Copy(io.Discard, e.Body)
		require.NoError(t, err)
		return out
	}
	for {
		p, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		out = append(out, structure(t, p, indent+". ")...)
	}
}

func crlf(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n"), "\n", "\r\n")
}

func TestVisibleRecipients(t *testing.T) {
	t.Parallel()
	m := basic()
	m.To, m.Bcc = nil, []email.Address{{Email: "hidden@example.net"}}
	raw := string(rendered(t, m))
	require.Contains(t, raw, "\r\nTo: undisclosed-recipients:;\r\n")
	require.NotContains(t, raw, "hidden")
	m.Cc = []email.Address{{Email: "copy@example.net"}}
	raw = string(rendered(t, m))
	require.NotContains(t, raw, "\r\nTo:")
	require.Contains(t, raw, "\r\nCc: <copy@example.net>\r\n")
}

func TestTextOfOtherScriptsIsShorterInBase64(t *testing.T) {
	t.Parallel()
	m := basic()
	m.Text, m.HTML = strings.Repeat("注文を確認しました。\n", 200), ""
	raw := rendered(t, m)
	require.Contains(t, string(raw), "Content-Transfer-Encoding: base64\r\n")
	require.Less(t, len(raw), len(m.Text)*3/2+1000)
	env, err := enmime.ReadEnvelope(bytes.NewReader(raw))
	require.NoError(t, err)
	require.Equal(t, crlf(m.Text), env.Text)
}

func TestNeedsSMTPUTF8(t *testing.T) {
	t.Parallel()
	m := full()
	require.True(t, render.NeedsSMTPUTF8(m))
	m.To = m.To[:1]
	require.False(t, render.NeedsSMTPUTF8(m), "names need no extension")
	m.Bcc = []email.Address{{Email: "ü@example.net"}}
	require.True(t, render.NeedsSMTPUTF8(m), "the envelope does")
}
