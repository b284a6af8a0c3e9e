package htmltext_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/htmltext"
)

func TestConvert(t *testing.T) {
	t.Parallel()
	for html, want := range map[string]string{
		"<p>Hello <b>you</b></p>":                                     "Hello you",
		"<h1>Thank you!</h1><p>Order\n  #1 &amp; more.</p>":           "Thank you!\n\nOrder #1 & more.",
		"a<br>b<br><br>c<div>d</div>e":                                "a\nb\n\nc\nd\ne",
		"<ul><li>one<li>two</ul>end":                                  "- one\n- two\n\nend",
		"<table><tr><td>a</td><td>b</td></tr><tr><td>c</table>":       "a b\nc",
		`Go <a href="https://x.test/?a=1&amp;b">there</a>, now`:       "Go there <https://x.test/?a=1&b>, now",
		`<a href="https://x.test">https://x.test</a>`:                 "https://x.test",
		`<a href="https://x.test">x.test</a>`:                         "x.test",
		`<a href="mailto:a@x.test">a@x.test</a>`:                      "a@x.test",
		`<a name="top">Top</a> <a href="#x">in</a> rest`:              "Top in rest",
		`<a href="javascript:x()">click</a> rest`:                     "click rest",
		`<img src="x" alt="Logo"> <img src="y">`:                      "Logo",
		"<head><title>T</title></head><body>b</body>":                 "b",
		"<head><title>T</title><body>b":                               "b",
		"<style>p > a { x: y }</style>a<script>if (a<b) {}</script>b": "ab",
		"<pre>a\n  b</pre>c":                                          "a\n  b\n\nc",
		"a&#0;b&#27;c&#13;d&nbsp;e":                                   "a\ufffdbc d\u00a0e",
		"x > y && y < z":                                              "x > y && y < z",
		"<!-- no --><p>yes":                                           "yes",
		"</a></p></style>still here":                                  "still here",
		`<img src="x">`:                                               "",
		"<ol><li>one<li>two<li>three</ol>end":                         "1. one\n2. two\n3. three\n\nend",
		"<ol start=5><li>a</li><li value=9>b</li><li>c</li></ol>":     "5. a\n9. b\n10. c",
		"<ol start=3 reversed><li>a<li>b</ol>":                        "3. a\n2. b",
		"<ol start=x><li>a</ol><ul><li>b</ul>":                        "1. a\n\n- b",
		"<p>x<ul><li>a<ol><li>b<li>c<ul><li>d</ul></ol><li>e</ul>y":   "x\n\n- a\n   1. b\n   2. c\n      - d\n- e\n\ny",
		"<ol><li>a<ul><li>b</ul></li><li>c</li></ol>":                 "1. a\n   - b\n2. c",
		"</ol></ul><li>a":                                             "- a",
		`<ol><li><p>a</p></li><li><p>b</p></li></ol>`:                 "1. a\n\n2. b",
		`<a href="https://x.test"><img src="/i/x.png?a=1"></a>`:       "[x.png] <https://x.test>",
		`<a href="https://x.test"><img src="/x.png" alt=""> Buy</a>`:  "Buy <https://x.test>",
		`<a href="https://x.test"><img src="x.png" alt="Logo"></a>`:   "Logo <https://x.test>",
		`<a href="https://x.test" title="Shop"><img src="x"></a>`:     "Shop <https://x.test>",
		`<a href="https://x.test" aria-label="Go"></a>`:               "Go <https://x.test>",
		`<a href="https://x.test"><img src="data:image/png,x"></a>`:   "<https://x.test>",
		`<img src="x.png" title="Map">`:                               "Map",
	} {
		text, ok := htmltext.Convert(html, 1<<20)
		require.True(t, ok, html)
		require.Equal(t, want, text, html)
	}
}

// Conversion in quadratic time would not end within the test's time limit.
func TestConvertTakesLinearTime(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{">", "<", "<a href=x>", "<a href='http://x'>y</a>", "&", "&#", "<!--", "<![CDATA[", "</", "<p>", "<pre>", "<p a=\"<b \">", "\"", "<script>", "<svg><", "<hr>", "<ol><li>x</ol>", "<a href=http://x><img src=y></a>"} {
		doc := "x" + strings.Repeat(unit, 300_000/len(unit))
		text, ok := htmltext.Convert(doc, 1<<20)
		require.True(t, ok, unit)
		require.LessOrEqual(t, len(text), 2*len(doc)+16, unit)
	}
}
