package intake

import (
	"bytes"
	"strings"
	"unicode"

	"golang.org/x/net/html"
)

// textOf makes the plain-text alternative of HTML: paragraphs are set apart by
// empty lines, links follow their words in angle brackets, scripts and styles are
// left out. It reads the document once, whatever its tags look like.
//
// k3a/html2text is not used: its work grows with the square of the number of ">",
// and with link texts kept it loses all that follows an <a> without href.
func textOf(doc string) string {
	w := &textWriter{}
	z := html.NewTokenizer(strings.NewReader(doc))
	for {
		switch z.Next() {
		case html.ErrorToken: // io.EOF: a string ends in no other way
			return strings.TrimSpace(w.out.String())
		case html.TextToken:
			w.text(string(z.Text()))
		case html.StartTagToken, html.SelfClosingTagToken:
			w.start(z)
		case html.EndTagToken:
			name, _ := z.TagName()
			w.end(string(name))
		}
	}
}

// Elements by what they do to the text.
var (
	hidden     = words("script style title template noscript head")
	paragraphs = words("p h1 h2 h3 h4 h5 h6 ul ol dl table blockquote pre hr form fieldset")
	lines      = words("div tr li dt dd section article header footer main nav aside address figure figcaption center caption")
)

type textWriter struct {
	out bytes.Buffer
	// breaks is how many line breaks are due before the next word; space says
	// that at least a space is.
	breaks int
	space  bool
	// skip is the hidden element we are in, pre counts the open <pre>.
	skip string
	pre  int
	// href belongs to the <a> we are in, whose text begins at from.
	href string
	from int
}

func (w *textWriter) start(z *html.Tokenizer) {
	raw, more := z.TagName()
	name := string(raw)
	if w.skip != "" {
		// A head without its end stops at the body.
		if name != "body" {
			return
		}
		w.skip = ""
	}
	attr := map[string]string{}
	for more {
		var key, value []byte
		key, value, more = z.TagAttr()
		if k := string(key); k == "href" || k == "alt" {
			attr[k] = string(value)
		}
	}
	switch {
	case hidden[name]:
		w.skip = name
	case name == "br":
		w.breaks = min(w.breaks+1, 2)
	case name == "a":
		w.href, w.from = strings.TrimSpace(attr["href"]), w.out.Len()
	case name == "img":
		w.text(attr["alt"])
	case name == "td" || name == "th":
		w.space = true
	}
	w.block(name)
	switch name {
	case "li":
		w.word("- ")
	case "hr":
		w.word("---")
		w.breaks = 2
	case "pre":
		w.pre++
	}
}

func (w *textWriter) end(name string) {
	if w.skip != "" {
		if name == w.skip {
			w.skip = ""
		}
		return
	}
	if name == "pre" && w.pre > 0 {
		w.pre--
	}
	if name == "a" && w.href != "" {
		w.link()
	}
	w.block(name)
}

// block sets an element apart from what came before.
func (w *textWriter) block(name string) {
	switch {
	case paragraphs[name]:
		w.breaks = 2
	case lines[name]:
		w.breaks = max(w.breaks, 1)
	}
}

// link writes where a link goes, unless its own text says that.
func (w *textWriter) link() {
	said := strings.TrimSpace(string(w.out.Bytes()[min(w.from, w.out.Len()):]))
	href := w.href
	w.href = ""
	scheme, rest, _ := strings.Cut(href, ":")
	switch strings.ToLower(scheme) {
	case "http", "https", "mailto", "tel":
	default:
		return // fragments, javascript:, data:
	}
	if said == href || said == rest || said == strings.TrimPrefix(rest, "//") {
		return
	}
	w.space = true
	w.word("<" + strings.Join(strings.Fields(clean(href)), "") + ">")
}

// text writes running text: white space of any length is one space, but in <pre>.
func (w *textWriter) text(s string) {
	if w.skip != "" {
		return
	}
	if w.pre > 0 {
		w.word(strings.ReplaceAll(s, "\r", ""))
		return
	}
	for i, word := range strings.FieldsFunc(s, htmlSpace) {
		if i > 0 || htmlSpace(rune(s[0])) {
			w.space = true
		}
		w.word(word)
	}
	if s != "" && htmlSpace(rune(s[len(s)-1])) {
		w.space = true
	}
}

// word writes what is due, and s.
func (w *textWriter) word(s string) {
	s = clean(s)
	if s == "" {
		return
	}
	if n := w.out.Len(); n > 0 {
		switch last := w.out.Bytes()[n-1]; {
		case w.breaks > 0:
			w.out.WriteString("\n\n"[:w.breaks])
		case w.space && last != ' ' && last != '\n':
			w.out.WriteByte(' ')
		}
	}
	w.breaks, w.space = 0, false
	w.out.WriteString(s)
}

// htmlSpace is ASCII white space: a no-break space is none.
func htmlSpace(r rune) bool {
	return r == ' ' || r == '\n' || r == '\t' || r == '\r' || r == '\f'
}

// clean drops control characters, which entities can name.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, s)
}

func words(list string) map[string]bool {
	out := map[string]bool{}
	for w := range strings.FieldsSeq(list) {
		out[w] = true
	}
	return out
}
