package htmltext_test

import (
	"html"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/htmltext"
)

// FuzzConvert looks for a panic, and for a text that breaks a promise of Convert.
// `go test` runs it on testdata/fuzz; `go test -fuzz FuzzConvert ./internal/htmltext` goes on from there.
func FuzzConvert(f *testing.F) {
	f.Fuzz(func(t *testing.T, doc string, limit int64) {
		if len(doc) <= htmltext.MaxTagBytes {
			require.True(t, htmltext.TagsFit(doc), "a tag is no longer than its document")
		}
		text, ok := htmltext.Convert(doc, limit)
		again, okAgain := htmltext.Convert(doc, limit)
		require.Equal(t, text, again)
		require.Equal(t, ok, okAgain)
		if !ok {
			require.Empty(t, text)
			return
		}
		const slack = 64 << 10
		n := int64(len(doc))
		require.LessOrEqual(t, int64(len(text)), min(2*n, limit-n)+slack)
		require.True(t, utf8.ValidString(text), "%q", text)
		require.Equal(t, strings.TrimSpace(text), text)
		require.NotContains(t, text, "\r")
		require.Negative(t, strings.IndexFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }), "%q", text)
	})
}

// FuzzConvertKeepsWords: a text that is escaped as HTML comes back as its words.
func FuzzConvertKeepsWords(f *testing.F) {
	for _, s := range []string{"Hello you", " a\n\tb\r\nc  d ", "x > y && y < z &amp; <p>", "\u00a0no break\u00a0", "\x00 \x1b[31m \u0085", "a\xff\xc3b", "用户 😀 é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var words []string
		for _, w := range strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" \n\t\r\f", r) }) {
			w = strings.Map(func(r rune) rune {
				if unicode.IsControl(r) {
					return -1
				}
				return r
			}, w)
			if w != "" {
				words = append(words, w)
			}
		}
		text, ok := htmltext.Convert("<p>"+html.EscapeString(s)+"</p>", 1<<30)
		require.True(t, ok)
		require.Equal(t, strings.TrimSpace(strings.Join(words, " ")), text)
	})
}
