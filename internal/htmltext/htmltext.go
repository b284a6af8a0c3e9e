// Package htmltext converts HTML to plain text. The HTML comes from customers, so time and
// memory are bounded: they grow linearly with the length of the document, for any tags.
//
//  1. taglimit.go checks that each tag is short enough: an HTML tokenizer keeps all attributes
//     of one tag in memory.
//  2. htmltext.go writes the text, in one pass over the document's tokens.
//
// k3a/html2text is not used. Its time grows with the square of the number of ">". With link
// texts kept, it loses everything after an <a> without href.
package htmltext

import (
	"bytes"
	"path"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/html"
)

// Convert makes the plain-text alternative of HTML:
//
//   - Empty lines separate paragraphs.
//   - The URL of a link follows its text in angle brackets.
//   - List items have their numbers, and are indented by depth.
//   - An image is its alternative text.
//   - Scripts and styles are left out.
//   - The text has no control characters other than line feeds and tabs.
//
// It reads the document once. ok is false for a text that is too long: more than twice as long
// as the document, or both together more than limit bytes. In both cases slack bytes more are
// allowed. Only numbers and indentation of list items without text can make the
// text that long. The caller checks TagsFit first.
func Convert(doc string, limit int64) (text string, ok bool) {
	w := &writer{}
	z := html.NewTokenizer(strings.NewReader(doc))
	n := int64(len(doc))
	for most := min(2*n, limit-n) + slack; int64(w.out.Len()) <= most; {
		switch z.Next() {
		case html.ErrorToken: // io.EOF: a string ends in no other way
			return strings.TrimSpace(w.out.String()), true
		case html.TextToken:
			w.text(string(z.Text()))
		case html.StartTagToken, html.SelfClosingTagToken:
			w.start(z)
		case html.EndTagToken:
			name, _ := z.TagName()
			w.end(string(name))
		}
	}
	return "", false
}

// slack is how many bytes a text may have beyond its limit.
const slack = 64 << 10

// Elements by their effect on the text: left out, a paragraph, or a line of its own.
var (
	hidden     = words("script style title template noscript head")
	paragraphs = words("p h1 h2 h3 h4 h5 h6 ul ol menu dl table blockquote pre hr form fieldset")
	lines      = words("div tr li dt dd section article header footer main nav aside address figure figcaption center caption")
)

type writer struct {
	out bytes.Buffer
	// breaks is how many line breaks are due before the next word. space: a space is due, if
	// no line break is.
	breaks int
	space  bool
	// skip is the open hidden element; pre counts the open <pre>.
	skip string
	pre  int
	// href is that of the open <a>, whose text begins at from.
	href string
	from int
	// image is the name of an image without alternative text in that <a>. It is the link's
	// text if there is no other.
	image string
	// mark is the text's length after an item's number or dash: the next word is on the same
	// line.
	mark int
	// lists are the open <ol> and <ul>, up to maxLists; deeper counts the ones nested deeper.
	lists  []list
	deeper int
}

// list is an open list: the number of its next item, and the step to the item after it. A step
// of 0 is a list without numbers.
type list struct{ next, step int }

// maxLists is how many nested lists have numbers of their own.
const maxLists = 1000

func (w *writer) beginList(l list) {
	if len(w.lists) == maxLists {
		w.deeper++
		return
	}
	w.lists = append(w.lists, l)
}

func (w *writer) endList() {
	switch {
	case w.deeper > 0:
		w.deeper--
	case len(w.lists) > 0:
		w.lists = w.lists[:len(w.lists)-1]
	}
}

// maxIndent is how many levels of lists are indented.
const maxIndent = 8

func (w *writer) start(z *html.Tokenizer) {
	raw, more := z.TagName()
	name := string(raw)
	if w.skip != "" {
		// The body ends a head without an end tag.
		if name != "body" {
			return
		}
		w.skip = ""
	}
	attr := map[string]string{}
	for more {
		var key, value []byte
		key, value, more = z.TagAttr()
		switch k := string(key); k {
		case "href", "alt", "title", "aria-label", "src", "start", "value", "reversed":
			if _, twice := attr[k]; !twice && !(len(value) > maxURL && (k == "href" || k == "src")) {
				attr[k] = string(value)
			}
		}
	}
	switch {
	case hidden[name]:
		w.skip = name
	case name == "br":
		w.breaks = min(w.breaks+1, 2)
	case name == "a":
		w.href, w.from, w.image = strings.TrimSpace(attr["href"]), w.out.Len(), firstOf(attr["aria-label"], attr["title"])
	case name == "img":
		w.text(firstOf(attr["alt"], attr["title"], attr["aria-label"]))
		if _, decorative := attr["alt"]; !decorative && w.href != "" && w.image == "" {
			w.image = imageName(attr["src"])
		}
	case name == "td" || name == "th":
		w.space = true
	}
	w.block(name)
	switch name {
	case "ul", "menu":
		w.beginList(list{})
	case "ol":
		_, reversed := attr["reversed"]
		w.beginList(numbered(attr["start"], reversed))
	case "li":
		w.listItem(attr["value"])
	case "hr":
		w.word("---")
		w.breaks = 2
	case "pre":
		w.pre++
	}
}

func (w *writer) end(name string) {
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
	if name == "ul" || name == "ol" || name == "menu" {
		w.endList()
	}
	w.block(name)
}

// numbered is a list with numbers. A reversed list without a start counts upwards: its length
// is not known when its first item is written.
func numbered(start string, reversed bool) list {
	l := list{next: 1, step: 1}
	if n, err := strconv.Atoi(strings.TrimSpace(start)); err == nil && abs(n) <= maxNumber {
		l.next = n
		if reversed {
			l.step = -1
		}
	}
	return l
}

// maxURL is the longest URL of a link or an image that the text has, in bytes.
const maxURL = 8 << 10

// maxNumber bounds the number of an item that HTML may set.
const maxNumber = 1_000_000

func abs(n int) int { return max(n, -n) }

// listItem writes the number or dash before an item.
func (w *writer) listItem(value string) {
	mark := "- "
	if n := len(w.lists); n > 0 {
		if l := &w.lists[n-1]; l.step != 0 {
			if given, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && abs(given) <= maxNumber {
				l.next = given
			}
			mark = strconv.Itoa(l.next) + ". "
			l.next += l.step
		}
	}
	w.mark = 0
	w.word(strings.Repeat("   ", min(max(len(w.lists)-1, 0), maxIndent)) + mark)
	w.mark = w.out.Len()
}

// imageName is the file name of an image, in brackets; empty if it has none.
func imageName(src string) string {
	if strings.HasPrefix(src, "data:") {
		return ""
	}
	src, _, _ = strings.Cut(src, "?")
	src, _, _ = strings.Cut(src, "#")
	if name := path.Base(src); strings.Trim(name, "./") != "" {
		return "[" + name + "]"
	}
	return ""
}

func firstOf(texts ...string) string {
	for _, s := range texts {
		if strings.TrimSpace(s) != "" {
			return s
		}
	}
	return ""
}

// block separates an element from the text before it.
func (w *writer) block(name string) {
	switch {
	case len(w.lists) > 0 && (name == "ul" || name == "ol" || name == "menu"): // a list inside of one
		w.breaks = max(w.breaks, 1)
	case paragraphs[name]:
		w.breaks = 2
	case lines[name]:
		w.breaks = max(w.breaks, 1)
	}
}

// link writes a link's URL, unless its text is the URL.
func (w *writer) link() {
	shown := strings.TrimSpace(string(w.out.Bytes()[min(w.from, w.out.Len()):]))
	href := w.href
	w.href = ""
	scheme, rest, _ := strings.Cut(href, ":")
	switch strings.ToLower(scheme) {
	case "http", "https", "mailto", "tel":
	default:
		return // fragments, javascript:, data:
	}
	if shown == href || shown == rest || shown == strings.TrimPrefix(rest, "//") {
		return
	}
	if shown == "" { // the link has an image only
		w.text(w.image)
	}
	w.space = true
	w.word("<" + strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, href) + ">")
}

// text writes running text: white space of any length becomes one space, except in <pre>.
func (w *writer) text(s string) {
	if w.skip != "" {
		return
	}
	if w.pre > 0 {
		w.word(strings.ReplaceAll(s, "\r", ""))
		return
	}
	first := true
	for word := range strings.FieldsFuncSeq(s, htmlSpace) {
		w.space = w.space || !first || htmlSpace(rune(s[0]))
		w.word(word)
		first = false
	}
	if s != "" && htmlSpace(rune(s[len(s)-1])) {
		w.space = true
	}
}

// word writes the line breaks or the space that are due, and s.
func (w *writer) word(s string) {
	s = clean(s)
	if s == "" {
		return
	}
	if n := w.out.Len(); n > 0 {
		switch last := w.out.Bytes()[n-1]; {
		case n == w.mark:
		case w.breaks > 0:
			w.out.WriteString("\n\n"[:w.breaks])
		case w.space && last != ' ' && last != '\n':
			w.out.WriteByte(' ')
		}
	}
	w.breaks, w.space = 0, false
	w.out.WriteString(s)
}

// htmlSpace reports ASCII white space; a no-break space is not among it.
func htmlSpace(r rune) bool {
	return r == ' ' || r == '\n' || r == '\t' || r == '\r' || r == '\f'
}

// clean removes control characters, which may come from character references.
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
