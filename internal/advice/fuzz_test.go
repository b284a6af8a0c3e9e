package advice_test

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/advice"
)

// holds checks what every answer promises.
func holds(t *testing.T, cs []advice.Check) {
	t.Helper()
	seen := map[string]bool{}
	for _, c := range cs {
		require.False(t, seen[c.ID], c.ID)
		seen[c.ID] = true
		require.Contains(t, []advice.Level{advice.LevelOK, advice.LevelAdvice, advice.LevelWarning}, c.Level)
		require.NotEmpty(t, c.Title)
		require.NotEmpty(t, c.Detail)
		require.Less(t, len(c.Detail), 2000)
		require.Less(t, len(c.Where), 300)
		require.True(t, utf8.ValidString(c.Detail) && utf8.ValidString(c.Where), "%q %q", c.Detail, c.Where)
	}
	require.True(t, seen["subject_length"])
}

func FuzzChecks(f *testing.F) {
	for _, html := range []string{
		`<p style="float:left;background:url('a;b')">x</p>`, `<style>@import url(x);@media x{p{display:flex}}</style>`, `<a href="https://a.example">www.b.example</a>`,
		`<img src=cid:a alt=''><a href=x><script><!--</script>`, "<style>/*", `<p style="(\`, `<title><a href="`, "<a href=http://[::1%25]>x", "\u2028<plaintext>{{a}}", "<style>}{;:url(url(",
	} {
		f.Add("Subject!!", "click here ${a}", html, "a.zip", []byte("PK\x03\x04PK\x01\x02PK\x05\x06"))
	}
	f.Fuzz(func(t *testing.T, subject, text, html, name string, content []byte) {
		for _, s := range []string{subject, text, html, name} {
			if !utf8.ValidString(s) {
				return // intake refuses it
			}
		}
		m := email.Message{
			From: email.Address{Email: "a@example.com"}, Subject: subject, Text: text, HTML: html, Stream: email.StreamBroadcast,
			Attachments: []email.Attachment{{Filename: name, ContentID: "a", Content: content}},
		}
		cs := advice.Checks(m, facts)
		holds(t, cs)
		require.Equal(t, cs, advice.Checks(m, facts))
	})
}

// Time grows linearly with the length for any HTML: a quadratic walk over any of these
// would take minutes.
func TestHostileMailTakesLittleTime(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	for name, unit := range map[string][3]string{
		"open tags": {"", "<a ", ""}, "open links": {"", "<a href=x>", ""}, "attributes": {"<p ", "onx=1 ", ">"}, "one attribute often": {"<p ", "style=float:left ", ">"},
		"closing": {"", "</p>", ""}, "angles": {"", "<", ""}, "open comments": {"", "<!--", ""}, "declarations": {"<style>", "float:left;", "</style>"}, "open urls": {"<style>", "a:url(", ""},
		"open blocks": {"<style>", "p{", ""}, "closed blocks": {"<style>", "}", ""}, "media": {"<style>", "@media{", ""}, "css comments": {"<style>", "/*", "</style>"}, "strings": {"<style>", `'\`, "</style>"},
		"domains": {"", `<a href="https://a.example">b.example</a>`, ""}, "images": {"", `<img src="x">`, ""}, "words": {"", "click ", ""}, "braces": {"", "{{", ""}, "exclamations": {"", "!", ""},
		"entities": {"", "&amp", ""}, "one long link": {`<a href="https://a.example">`, "a.", "</a>"}, "colons": {`<a href="`, "a:", `">x</a>`}, "scripts": {"", "<script>", ""}, "templates": {"", "<template>", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := unit[0] + strings.Repeat(unit[1], size/len(unit[1])) + unit[2]
			began := time.Now()
			holds(t, advice.Checks(email.Message{Subject: text[:998], Text: text, HTML: text, Stream: email.StreamBroadcast}, facts))
			require.Less(t, time.Since(began), 20*time.Second)
		})
	}
	t.Run("archives", func(t *testing.T) {
		t.Parallel()
		for _, content := range [][]byte{
			append([]byte("PK\x03\x04"), bytes.Repeat([]byte("PK\x05\x06"), size/4)...),
			append(append([]byte("PK\x03\x04"), bytes.Repeat([]byte("PK\x01\x02"), size/4)...), "PK\x05\x06\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00"...),
		} {
			holds(t, advice.Checks(attached(file("a.zip", content...)), facts))
		}
	})
}
