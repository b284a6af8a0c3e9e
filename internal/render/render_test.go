package render_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jhillyerd/enmime/v2"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/render"
)

var update = flag.Bool("update", false, "write the golden files")

var composition = render.Composition{
	EmailID: "01890a5d-ac96-774b-bcce-b302099a8057", MessageID: "01890a5d-ac96-774b-bcce-b302099a8057@example.com",
	Date: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
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
	m.Text = "Line one\nLine two é\r\n.dot\r\n\rlone\n" + strings.Repeat("long ", 400)
	m.Headers = []email.Header{{Name: "X-Second", Value: "zwei Ü"}, {Name: "X-First", Value: "1"}, {Name: "List-Unsubscribe", Value: "<https://example.com/u?a=1>"}}
	m.Attachments = []email.Attachment{
		{Filename: "Größe (1).pdf", Type: "application/pdf", Content: []byte("%PDF\x00\xff")},
		{Filename: "logo.png", Type: "image/png", ContentID: "logo", Content: bytes.Repeat([]byte{1, 2, 3}, 100)},
		{Filename: `quo"te.txt`, Type: "text/plain; charset=utf-8", Content: []byte("hi\n")},
	}
	return m
}

func golden(t *testing.T, name string, m email.Message) []byte {
	t.Helper()
	got, err := render.Render(m, composition)
	require.NoError(t, err)
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(file, got, 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
	again, err := render.Render(m, composition)
	require.NoError(t, err)
	require.Equal(t, got, again, "the same for every attempt")
	return got
}

func TestGolden(t *testing.T) {
	t.Parallel()
	golden(t, "basic.eml", basic())
	invoice := basic()
	invoice.Attachments = []email.Attachment{{Filename: "invoice-12345.pdf", Type: "application/pdf", Content: []byte("%PDF-1.4\n")}}
	golden(t, "attachment.eml", invoice)
	text := basic()
	text.HTML = ""
	golden(t, "text.eml", text)
	raw := golden(t, "full.eml", full())
	require.NotContains(t, strings.ToLower(string(raw)), "hidden")
}

func TestAFullMessageParsesBack(t *testing.T) {
	t.Parallel()
	m := full()
	raw, err := render.Render(m, composition)
	require.NoError(t, err)
	for line := range strings.SplitSeq(string(raw), "\r\n") {
		require.LessOrEqual(t, len(line), 998)
		require.NotContains(t, line, "\r")
		require.NotContains(t, line, "\n")
	}
	env, err := enmime.ReadEnvelope(bytes.NewReader(raw))
	require.NoError(t, err)
	require.Empty(t, env.Errors)
	require.Equal(t, m.Subject, env.GetHeader("Subject"))
	from, err := env.AddressList("From")
	require.NoError(t, err)
	require.Equal(t, m.From.Name, from[0].Name)
	to, err := env.AddressList("To")
	require.NoError(t, err)
	require.Equal(t, m.To[1].Name, to[1].Name)
	require.Equal(t, m.To[1].Email, to[1].Address)
	require.Equal(t, "<"+composition.MessageID+">", env.GetHeader("Message-Id"))
	require.Equal(t, "zwei Ü", env.GetHeader("X-Second"))
	require.Equal(t, strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(m.Text, "\r\n", "\n"), "\r", "\n"), "\n", "\r\n"), env.Text)
	require.Equal(t, m.HTML, env.HTML)
	require.Len(t, env.Inlines, 1)
	require.Equal(t, "logo", env.Inlines[0].ContentID)
	require.Equal(t, m.Attachments[1].Content, env.Inlines[0].Content)
	require.Len(t, env.Attachments, 2)
	require.Equal(t, "Größe (1).pdf", env.Attachments[0].FileName)
	require.Equal(t, m.Attachments[0].Content, env.Attachments[0].Content)
	require.Equal(t, `quo"te.txt`, env.Attachments[1].FileName)
	require.True(t, render.NeedsSMTPUTF8(m))
	require.False(t, render.NeedsSMTPUTF8(basic()))
}

func TestWithoutVisibleRecipients(t *testing.T) {
	t.Parallel()
	m := basic()
	m.To, m.Bcc = nil, []email.Address{{Email: "hidden@example.net"}}
	raw, err := render.Render(m, composition)
	require.NoError(t, err)
	require.Contains(t, string(raw), "To: undisclosed-recipients:;\r\n")
	require.NotContains(t, string(raw), "hidden")
}

func TestNothingBreaksOutOfAHeader(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*email.Message){
		"subject":      func(m *email.Message) { m.Subject = "a\r\nBcc: eve@example.net" },
		"name":         func(m *email.Message) { m.From.Name = "a\nb" },
		"address":      func(m *email.Message) { m.To[0].Email = "a@b\r\nX: y" },
		"header value": func(m *email.Message) { m.Headers = []email.Header{{Name: "X-A", Value: "a\rb"}} },
		"header name":  func(m *email.Message) { m.Headers = []email.Header{{Name: "X-A: b\r\nX-C", Value: "d"}} },
		"odd name":     func(m *email.Message) { m.Headers = []email.Header{{Name: "X A", Value: "d"}} },
		"filename":     func(m *email.Message) { m.Attachments = []email.Attachment{{Filename: "a\r\nb"}} },
		"content id":   func(m *email.Message) { m.Attachments = []email.Attachment{{ContentID: "a\r\nb"}} },
		"type":         func(m *email.Message) { m.Attachments = []email.Attachment{{Type: "a/b\r\nX: y"}} },
		"NUL":          func(m *email.Message) { m.Subject = "a\x00b" },
		"not UTF-8":    func(m *email.Message) { m.Subject = "\xff" },
	} {
		m := basic()
		change(&m)
		_, err := render.Render(m, composition)
		require.ErrorIs(t, err, render.ErrUnsafe, name)
	}
}

func FuzzRender(f *testing.F) {
	f.Add("Subject", "Name", "text", "<p>html</p>", "X-Value", "file.pdf", []byte("content"))
	f.Add("Größe\t 📦 ", `"q" <a@b>`, ".\r\n..\n\r--=_x", "", strings.Repeat("v ", 300), "Ü?;=\".pdf", []byte("\r\n.\r\n"))
	f.Fuzz(func(t *testing.T, subject, name, text, html, value, file string, content []byte) {
		m := email.Message{
			From: email.Address{Email: "a@example.com", Name: name}, To: []email.Address{{Email: "b@example.com"}}, Subject: subject, Text: text, HTML: html,
			Headers: []email.Header{{Name: "X-Fuzz", Value: value}}, Attachments: []email.Attachment{{Filename: file, Type: "application/x-fuzz", Content: content}},
		}
		raw, err := render.Render(m, composition)
		if err != nil {
			require.ErrorIs(t, err, render.ErrUnsafe)
			return
		}
		header, _, _ := strings.Cut(string(raw), "\r\n\r\n")
		for field := range strings.SplitSeq(strings.ReplaceAll(strings.ReplaceAll(header, "\r\n ", " "), "\r\n\t", " "), "\r\n") {
			key, _, ok := strings.Cut(field, ":")
			require.True(t, ok, "%q", field)
			require.Contains(t, []string{"From", "To", "Date", "Message-Id", "Subject", "X-Fuzz", "Mime-Version", "Content-Type"}, key)
		}
		env, err := enmime.ReadEnvelope(bytes.NewReader(raw))
		require.NoError(t, err)
		require.Len(t, env.Attachments, 1)
		require.True(t, bytes.Equal(content, env.Attachments[0].Content))
	})
}
