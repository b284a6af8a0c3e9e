package advice_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/advice"
)

// good is a mail that no check has anything to say against.
func good() email.Message {
	return email.Message{
		From: email.Address{Email: "orders@example.com", Name: "Your Company"}, To: []email.Address{{Email: "john@example.net"}},
		Subject: "Your Order Confirmation", Text: "Thank you for your order #12345.",
		HTML:   `<table width="100%"><tr><td style="color: #333"><h1>Thank you!</h1><p>Your order #12345: <a href="https://example.com/o/12345">look at it</a></p></td></tr></table>`,
		Stream: email.StreamTransactional,
	}
}

// htmled is the good mail with other HTML.
func htmled(html string) email.Message {
	m := good()
	m.HTML = html
	return m
}

var facts = advice.Facts{SizeBytes: 2000}

// row is one mail and what one check says of it.
type row struct {
	name    string
	message email.Message
	// facts are the usual ones where this is zero.
	facts advice.Facts
	// level is empty where the check says nothing at all.
	level advice.Level
	// detail and where are parts of what it says.
	detail, where string
}

func examine(t *testing.T, id string, rows []row) {
	t.Helper()
	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := tt.facts
			if f.SizeBytes == 0 && f.Senders.Total == 0 {
				f = facts
			}
			got := find(advice.Checks(tt.message, f), id)
			require.Equal(t, tt.level, got.Level, "%+v", got)
			require.Contains(t, got.Detail, tt.detail)
			require.True(t, utf8.ValidString(got.Where), "%q", got.Where)
			if tt.where == "" {
				require.Empty(t, got.Where)
			}
			require.Contains(t, got.Where, tt.where)
		})
	}
}

func find(cs []advice.Check, id string) advice.Check {
	for _, c := range cs {
		if c.ID == id {
			return c
		}
	}
	return advice.Check{}
}

func TestNothingIsWrongWithAGoodMail(t *testing.T) {
	t.Parallel()
	cs := advice.Checks(good(), facts)
	require.Greater(t, len(cs), 10)
	for _, c := range cs {
		require.Equal(t, advice.LevelOK, c.Level, "%+v", c)
		require.NotEmpty(t, c.Detail)
		require.Empty(t, c.Where)
	}
}

// TestTheDocumentedHTMLIsGood: the HTML that VoIPBIN's documentation of its e-mail API
// recommends gets no advice.
func TestTheDocumentedHTMLIsGood(t *testing.T) {
	t.Parallel()
	m := htmled(`<!DOCTYPE html>
<html>
<head>
<meta charset="UTF-8">
<meta name="viewport" content="width=device-width, initial-scale=1.0">
</head>
<body style="font-family: Arial, sans-serif; margin: 0; padding: 20px;">
<table width="100%" cellpadding="0" cellspacing="0">
<tr>
<td align="center">
<h1 style="color: #333;">Welcome!</h1>
<p>Your email content here.</p>
</td>
</tr>
</table>
</body>
</html>`)
	for _, c := range advice.Checks(m, facts) {
		require.Equal(t, advice.LevelOK, c.Level, "%+v", c)
	}
}

func TestBothVersions(t *testing.T) {
	t.Parallel()
	text, made, bare := good(), good(), good()
	text.HTML = ""
	made.TextFromHTML = true
	bare.TextFromHTML, bare.Text, bare.HTML = true, "", `<img src="https://example.com/a.png" alt="">`
	examine(t, "both_versions", []row{
		{name: "both", message: good(), level: advice.LevelOK},
		{name: "text only", message: text, level: advice.LevelAdvice, detail: "only plain text"},
		{name: "HTML only", message: made, level: advice.LevelAdvice, detail: "was made from it"},
		{name: "images only", message: bare, level: advice.LevelWarning, detail: "no words"},
	})
}

func TestHTMLSize(t *testing.T) {
	t.Parallel()
	text := good()
	text.HTML = ""
	examine(t, "html_size", []row{
		{name: "no HTML", message: text},
		{name: "as much as is shown", message: htmled(strings.Repeat("a", 102_000)), level: advice.LevelOK},
		{name: "a byte more", message: htmled(strings.Repeat("a", 102_001)), level: advice.LevelWarning, detail: "102001 bytes"},
	})
}

func TestSubjectLength(t *testing.T) {
	t.Parallel()
	with := func(s string) email.Message {
		m := good()
		m.Subject = s
		return m
	}
	examine(t, "subject_length", []row{
		{name: "empty", message: with(" "), level: advice.LevelWarning, detail: "empty", where: "/subject"},
		{name: "60 characters, not bytes", message: with(strings.Repeat("ü", 60)), level: advice.LevelOK, detail: "60 characters"},
		{name: "61", message: with(strings.Repeat("ü", 61)), level: advice.LevelAdvice, detail: "61 characters", where: "/subject"},
		{name: "78", message: with(strings.Repeat("a", 78)), level: advice.LevelAdvice, where: "/subject"},
		{name: "79", message: with(strings.Repeat("a", 79)), level: advice.LevelWarning, detail: "RFC 5322", where: "/subject"},
	})
}

func TestSubjectCapitals(t *testing.T) {
	t.Parallel()
	with := func(s string) email.Message {
		m := good()
		m.Subject = s
		return m
	}
	examine(t, "subject_capitals", []row{
		{name: "a sentence", message: with("Your Order Confirmation"), level: advice.LevelOK},
		{name: "shouted", message: with("YOUR ORDER Confirmation WAITS"), level: advice.LevelWarning, detail: "capitals", where: "/subject"},
		{name: "shouted in Cyrillic", message: with("СРОЧНО ОТКРОЙТЕ"), level: advice.LevelWarning, where: "/subject"},
		{name: "an abbreviation", message: with("RE: INV 2026"), level: advice.LevelOK},
		{name: "an order's number", message: with("Order ABCDEF-123 confirmed"), level: advice.LevelOK},
		{name: "letters without case", message: with("注文を確認しました注文を確認しました"), level: advice.LevelOK},
	})
}

func TestExcerptsAreShortAndWhole(t *testing.T) {
	t.Parallel()
	for n := range 8 {
		m := htmled(`<img title="` + strings.Repeat("a", n) + strings.Repeat("é語", 400) + `">`)
		got := find(advice.Checks(m, facts), "image_alt").Where
		require.True(t, utf8.ValidString(got))
		require.LessOrEqual(t, len(got), 170)
		require.True(t, strings.HasPrefix(got, `<img title="`) && strings.HasSuffix(got, "…"), got)
		require.NotContains(t, got, "\uFFFD")
	}
}
