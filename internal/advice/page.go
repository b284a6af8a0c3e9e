package advice

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/plaintext"
)

// maxText is how much of a text is searched for words, in bytes.
const maxText = 256 << 10

// page is what was found in HTML.
type page struct {
	// text is what can be read, up to maxText.
	text string

	// Styles: stylesheets from elsewhere, rules in <style>, ways of layout.
	stylesheets, rules, layout finding
	// active are scripts, frames and forms.
	active finding

	images                              int
	noAlt, brokenImages, insecureImages finding
	// shown are the content ids of the files that stand in it.
	shown map[string]bool

	brokenLinks, weakLinks, disguisedLinks finding
	unsubscribeLink                        bool
}

// readPage reads a message's HTML.
func readPage(m email.Message) page {
	r := &reader{page: page{shown: map[string]bool{}}, attached: map[string]bool{}, attr: map[string]string{}}
	for _, a := range m.Attachments {
		if a.ContentID != "" {
			r.attached[a.ContentID] = true
		}
	}
	z := html.NewTokenizer(strings.NewReader(m.HTML))
	for {
		switch z.Next() {
		case html.ErrorToken: // io.EOF: a string ends in no other way
			r.endLink()
			r.text = r.words.String()
			return r.page
		case html.TextToken:
			r.read(z)
		case html.StartTagToken, html.SelfClosingTagToken:
			r.start(z)
		case html.EndTagToken:
			r.end(z)
		}
	}
}

// reader walks through the tokens.
type reader struct {
	page
	words strings.Builder
	// attached are the content ids of the message's files.
	attached map[string]bool
	// unread is the element we are in whose content is not for people.
	unread string
	// link is the <a> we are in.
	link *link
	// tag and attr are the tag that is read now.
	tag  []byte
	attr map[string]string
}

// link is an <a> with an href.
type link struct {
	href, where string
	text        strings.Builder
}

// maxLinkText is how much of a link's text is kept, in bytes.
const maxLinkText = 512

var (
	// unread are the elements whose content no recipient reads.
	unread = words("script style title template noscript iframe noembed noframes textarea xmp")
	// inWord are elements that do not end a word.
	inWord = words("a b i u em strong span font small big sub sup code mark s")
	// wanted are the attributes that checks look at.
	wanted = words("alt background href rel src style")
)

func (r *reader) read(z *html.Tokenizer) {
	switch {
	case r.unread == "style":
		r.css(string(z.Text()), false, "<style>")
	case r.unread != "":
	case r.words.Len() < maxText || r.link != nil && r.link.text.Len() < maxLinkText:
		s := string(z.Text())
		r.words.WriteString(plaintext.Cut(s, max(0, maxText-r.words.Len())))
		if r.link != nil {
			r.link.text.WriteString(plaintext.Cut(s, max(0, maxLinkText-r.link.text.Len())))
		}
	}
}

func (r *reader) end(z *html.Tokenizer) {
	raw, _ := z.TagName()
	switch name := string(raw); {
	case r.unread != "":
		if name == r.unread {
			r.unread = ""
		}
	case name == "a":
		r.endLink()
	default:
		r.endWord(name)
	}
}

func (r *reader) endWord(element string) {
	if !inWord[element] && r.words.Len() < maxText {
		r.words.WriteByte('\n')
	}
}

func (r *reader) start(z *html.Tokenizer) {
	if r.unread != "" {
		return
	}
	// The next calls change the tag's bytes.
	r.tag = append(r.tag[:0], z.Raw()[:min(maxExcerpt+utf8.UTFMax, len(z.Raw()))]...)
	raw, more := z.TagName()
	name := string(raw)
	clear(r.attr)
	for more {
		var key, value []byte
		key, value, more = z.TagAttr()
		k := string(key)
		if wanted[k] { // of two with one name the tokenizer gives the first
			r.attr[k] = string(value)
		}
		if len(k) > len("on") && strings.HasPrefix(k, "on") {
			r.active.add(r.where(), "event attributes")
		}
	}
	if unread[name] {
		r.unread = name
	}
	r.endWord(name)
	switch name {
	case "script", "iframe", "frame", "object", "embed", "applet", "form":
		r.active.add(r.where(), "<"+name+">")
	case "link":
		for rel := range strings.FieldsSeq(strings.ToLower(r.attr["rel"])) {
			if rel == "stylesheet" {
				r.stylesheets.add(r.where(), "<link rel=stylesheet>")
			}
		}
	case "img":
		r.image()
	case "a":
		r.endLink() // links do not nest
		if href, ok := r.attr["href"]; ok {
			r.link = &link{href: href, where: r.where()}
		}
	}
	if b := r.attr["background"]; b != "" {
		r.imageURL(b, r.where())
	}
	if style := r.attr["style"]; style != "" {
		r.css(style, true, r.where())
	}
}

// where is the tag that is read now, as an excerpt.
func (r *reader) where() string { return excerpt(strings.ToValidUTF8(string(r.tag), "")) }

func words(list string) map[string]bool {
	out := map[string]bool{}
	for w := range strings.FieldsSeq(list) {
		out[w] = true
	}
	return out
}
