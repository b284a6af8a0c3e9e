package dkim_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dkim"
	"github.com/postrider/postrider/internal/dkimtest"
	"github.com/postrider/postrider/internal/render"
)

func rendered(t testing.TB, m email.Message) string {
	t.Helper()
	const id = "01890a5d-ac96-774b-bcce-b302099a8057"
	raw, err := render.Render(m, render.Composition{EmailID: id, MessageID: id + "@example.com", Date: at})
	require.NoError(t, err)
	return string(raw)
}

func TestRenderedMessagesVerify(t *testing.T) {
	t.Parallel()
	basic := email.Message{From: email.Address{Email: "orders@example.com", Name: "Shop"}, To: []email.Address{{Email: "john@example.net", Name: "John Doe"}}, Subject: "Your order"}
	all := dkimtest.Verifiers(t)
	for name, change := range map[string]func(*email.Message){
		"text":         func(m *email.Message) { m.Text = "Thank you.\n\n\n  It arrives  on Monday.  \n.\n\t\n\n" },
		"text in CRLF": func(m *email.Message) { m.Text = "Thank\r\nyou" },
		"HTML":         func(m *email.Message) { m.HTML = "<p>Thank  you</p>\n\t<pre>  a \n</pre>" },
		"both":         func(m *email.Message) { m.Text, m.HTML = "Thank you", "<p>Thank you</p>" },
		"nothing":      func(*email.Message) {},
		"other scripts": func(m *email.Message) {
			m.Text, m.Subject, m.From.Name = strings.Repeat("注文を確認しました。\n", 50), "ご注文を確認しました "+strings.Repeat("é 📦 ", 60), "Jürgen „Jupp“ Müller"
		},
		"SMTPUTF8": func(m *email.Message) {
			m.From.Email = "jürgen@example.com"
			for i := range 40 {
				m.To = append(m.To, email.Address{Email: fmt.Sprintf("größe%d@example.net", i), Name: "Größe"})
			}
		},
		"attachments": func(m *email.Message) {
			m.Text, m.HTML = "See below", `<img src="cid:logo">`
			m.Attachments = []email.Attachment{
				{Filename: "Größe (1).pdf", Type: "application/pdf", Content: []byte("%PDF\x00\xff\r\n \n")},
				{Filename: "logo.png", Type: "image/png", ContentID: "logo", Content: []byte{1, 2, 3}},
				{Filename: "m.eml", Type: "message/rfc822", Content: []byte("From: a@example.com\nDKIM-Signature: v=1; b=x\nSubject: x  y\t\n\nHello \t \n\n\n")},
				{Filename: "large.bin", Type: "application/octet-stream", Content: []byte(strings.Repeat("\x00 \t\r\n", 300_000))},
			}
		},
		"list": func(m *email.Message) {
			m.Text = "News"
			m.Headers = []email.Header{
				{Name: "List-Unsubscribe", Value: "<https://example.com/u/" + strings.Repeat("x", 300) + ">, <mailto:u@example.com?subject=u>"},
				{Name: "List-Unsubscribe-Post", Value: "List-Unsubscribe=One-Click"}, {Name: "List-Id", Value: "News <news.example.com>"}, {Name: "Feedback-ID", Value: "a:b:c:d"},
				{Name: "X-Same", Value: "1"}, {Name: "x-same", Value: "zwei  Ü"}, {Name: "X-Empty", Value: ""}, {Name: "References", Value: strings.Repeat("<1@example.com> ", 100) + "<2@example.com>"},
			}
		},
		"Bcc only": func(m *email.Message) { m.To, m.Bcc, m.Text = nil, m.To, "x" },
		"calendar": func(m *email.Message) {
			m.Text, m.Calendar.Method, m.Calendar.ICS = "Come", "REQUEST", "BEGIN:VCALENDAR\nEND:VCALENDAR\n"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := basic
			change(&m)
			signed := sign(t, rendered(t, m))
			for _, v := range all {
				require.Equal(t, both, v.Verify(t, signed, published(testKeys())), v.Name)
			}
			wellFolded(t, signed)
		})
	}
}

// TestRandomRenderedMessagesVerify makes messages of pieces that are hard to canonicalise.
func TestRandomRenderedMessagesVerify(t *testing.T) {
	t.Parallel()
	all, dns := dkimtest.Verifiers(t), published(testKeys())
	random := rand.New(rand.NewPCG(8463, 6376))
	pieces := []string{" ", "  ", "\t", "\n", "\r\n", "\n\n", "word", "Größe", "📦", ".", "=", "=?utf-8?q?x?=", ";", ":", "b=", "DKIM-Signature:", "\"", "<", ">", ",", "--", "\xff", "\v", "\f", "\u00a0", "\u0085", strings.Repeat("x", 100)}
	text := func(most int, without string) string {
		var b strings.Builder
		for range random.IntN(most) {
			if p := pieces[random.IntN(len(pieces))]; !strings.ContainsAny(p, without) {
				b.WriteString(p)
			}
		}
		return strings.ToValidUTF8(b.String(), "")
	}
	const ends = "\r\n"
	for range 150 {
		m := email.Message{From: email.Address{Email: "a@example.com", Name: text(6, ends)}, To: []email.Address{{Email: "b@example.net", Name: text(6, ends)}}, Subject: text(20, ends), Text: text(60, "\xff")}
		if random.IntN(2) == 0 {
			m.HTML = text(60, "\xff")
		}
		for range random.IntN(5) {
			m.Headers = append(m.Headers, email.Header{Name: []string{"X-A", "x-a", "List-Unsubscribe", "List-Id", "Resent-To", "Received"}[random.IntN(6)], Value: text(20, ends)})
		}
		for range random.IntN(3) {
			m.Attachments = append(m.Attachments, email.Attachment{Filename: text(4, ends), Type: []string{"text/plain", "message/rfc822", "image/png"}[random.IntN(3)], Content: []byte("From: a@example.com\r\n\r\n" + text(40, ""))})
		}
		signed := sign(t, rendered(t, m))
		for _, v := range all {
			require.Equal(t, both, v.Verify(t, signed, dns), "%s: %q", v.Name, signed)
		}
	}
}

// FuzzRenderedMessages looks for a message of ours with a signature that does not verify.
func FuzzRenderedMessages(f *testing.F) {
	f.Add("Subject", "Name", "text", "<p>html</p>", "X-Value", "value", []byte("content"))
	f.Add("Größe\t 📦 ", `"q" <a@b>`, ".\r\n..\n\r ", "", "Received", strings.Repeat("v ", 300), []byte("From: a\r\n\r\n.\r\n \t \n\n"))
	f.Add("", "", "", "", "List-Unsubscribe", "", []byte(" \n"))
	all, dns := dkimtest.Verifiers(f), published(testKeys())
	f.Fuzz(func(t *testing.T, subject, name, text, html, field, value string, content []byte) {
		m := email.Message{
			From: email.Address{Email: "a@example.com", Name: name}, To: []email.Address{{Email: "b@example.com"}}, Subject: subject, Text: text, HTML: html,
			Headers: []email.Header{{Name: field, Value: value}}, Attachments: []email.Attachment{{Filename: "a", Type: "message/rfc822", Content: append([]byte{}, content...)}},
		}
		raw, err := render.Render(m, render.Composition{EmailID: "1", MessageID: "1@example.com", Date: at})
		if err != nil {
			require.ErrorIs(t, err, render.ErrUnsafe)
			return
		}
		signed := sign(t, string(raw))
		for _, v := range all {
			require.Equal(t, both, v.Verify(t, signed, dns), v.Name)
		}
	})
}

// FuzzMessages looks for a message that Sign takes and whose signature does not verify.
func FuzzMessages(f *testing.F) {
	f.Add("From: a@example.com\r\n", "Hello\r\n")
	f.Add("X-A :\r\n \t\r\n\tb\r\nFrom:a\r\nfrom: b\r\nBcc: x\r\nX;=: y", " \t x  \r\n\r\n \r\n")
	f.Add("", "")
	dns := published(testKeys()[:1])
	f.Fuzz(func(t *testing.T, header, body string) {
		message := header + "\r\n\r\n" + body
		fields, err := dkim.Sign([]byte(message), testKeys()[:1], at)
		if err != nil {
			require.ErrorIs(t, err, dkim.ErrMessage)
			return
		}
		if strings.Contains(strings.ToLower(header), "dkim-signature") {
			return // one that is there already is bad
		}
		require.Equal(t, both[:1], dkimtest.VerifyMsgauth(t, string(fields)+message, dns))
	})
}
