package htmltext_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/postrider/postrider/internal/htmltext"
)

// TestTagsFit: the limit holds with any text before and after a tag, and for any quoting.
func TestTagsFit(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", htmltext.MaxTagBytes+1)
	var names strings.Builder
	for i := 0; names.Len() <= htmltext.MaxTagBytes; i++ {
		fmt.Fprintf(&names, "a%x ", i)
	}
	for doc, want := range map[string]bool{
		"<p " + names.String() + ">":              false,
		"</p " + names.String() + ">":             false,
		"<p " + names.String():                    false,
		"<" + long + ">":                          false,
		"<p a=" + long + ">":                      false,
		"<p a=\"" + long + "\" b='" + long + "'>": true,
		"<p a = \"" + long:                        true,
		"<p a\"" + long + "\">":                   false,
		"<p " + names.String()[:60<<10] + ">":     true,
		"x" + long + "<p>" + long + "</p><!--<p " + long + "--><?x " + long + ">":             true,
		"<style>" + long + "</style><script>a<b " + long + "</script>":                        true,
		"<script><!--<script>" + long + "</script><a b=\"</script><p " + names.String() + ">": false,
		"<script>" + long + "</script><p " + names.String() + ">":                             false,
		"<title x='" + long + "'><p " + long + "</title><p " + names.String() + ">":           false,
		"<title x='" + long + "'><p " + names.String() + "</title>":                           true,
		long + "<!--" + long + "<a b=\" --><p " + names.String() + ">":                        false,
		"<p a=\"" + long + ">\"><p b='\"'" + names.String() + ">":                             false,
		strings.Repeat("<b>x</b>", 100_000) + "<p " + names.String() + ">":                    false,
		strings.Repeat("<b c=d>x</b>", 100_000):                                               true,
	} {
		require.Equal(t, want, htmltext.TagsFit(doc), "%.60s (%d bytes)", doc, len(doc))
	}
}

// TestTagLength: a tag ends where the tokenizer ends it, for tags of all combinations of
// significant characters.
func TestTagLength(t *testing.T) {
	t.Parallel()
	pieces := []string{" ", "\n", "\f", "/", "=", "'", "\"", "<", ">", "a", "b=c", "d='e'", `f="g"`, "h=", "ä", "&quot;", "\v"}
	random := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		doc := "<" + []string{"p", "/p", "P-x"}[random.IntN(3)]
		for range random.IntN(12) {
			doc += pieces[random.IntN(len(pieces))]
		}
		z := html.NewTokenizer(strings.NewReader(doc))
		want := len(doc)
		if z.Next() != html.ErrorToken {
			want = len(z.Raw())
		}
		require.Equal(t, want, htmltext.TagLength(doc), doc)
	}
}
