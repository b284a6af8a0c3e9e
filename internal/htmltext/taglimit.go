package htmltext

import (
	"errors"
	"io"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// MaxTagBytes is how long a tag of HTML may be, in bytes, without its quoted values. An HTML
// reader keeps every attribute of a tag, and some 15 bytes of memory for each byte.
const MaxTagBytes = 64 << 10

// rawText are the elements whose content has no tags.
var rawText = words("iframe noembed noframes noscript plaintext script style textarea title xmp")

// TagsFit says whether each tag of HTML has at most MaxTagBytes without its quoted values. It
// reads the document once, and keeps no attributes.
func TagsFit(doc string) bool {
	for raw := ""; len(doc) > MaxTagBytes; {
		var at int
		at, raw = smallTokens(doc, raw)
		if doc = doc[at:]; len(doc) <= MaxTagBytes {
			return true
		}
		if raw == "" && beginsTag(doc) {
			n := tagLength(doc)
			if n < 0 {
				return false
			}
			name := strings.ToLower(doc[1 : 1+max(0, strings.IndexAny(doc[1:], " \n\r\t\f/>"))])
			if rawText[name] {
				raw = name
			}
			doc = doc[n:]
			continue
		}
		z := tokenizer(doc, raw)
		z.Next()
		doc, raw = doc[len(z.Raw()):], ""
	}
	return true
}

// smallTokens is the length of what stands before a document's first token of MaxTagBytes or
// more, and the element of rawText that it is in there. raw is that of its beginning.
func smallTokens(doc, raw string) (n int, in string) {
	z := tokenizer(doc, raw)
	z.SetMaxBuf(MaxTagBytes)
	for {
		kind := z.Next()
		token := len(z.Raw())
		switch {
		case kind == html.ErrorToken && !errors.Is(z.Err(), html.ErrBufferExceeded):
			return len(doc), ""
		case kind == html.ErrorToken || token >= MaxTagBytes:
			return n, raw
		}
		n, raw = n+token, ""
		if kind == html.StartTagToken || kind == html.SelfClosingTagToken {
			if name, _ := z.TagName(); rawText[string(name)] {
				raw = string(name)
			}
		}
	}
}

// tokenizer reads a document; raw is the element of rawText that its beginning is in.
func tokenizer(doc, raw string) *html.Tokenizer {
	if raw == "" {
		return html.NewTokenizer(strings.NewReader(doc))
	}
	z := html.NewTokenizer(io.MultiReader(strings.NewReader("<"+raw+">"), strings.NewReader(doc)))
	z.Next()
	return z
}

// beginsTag says whether a tag stands at the beginning of a text, "<p" or "</p".
func beginsTag(doc string) bool {
	doc, found := strings.CutPrefix(doc, "<")
	if doc = strings.TrimPrefix(doc, "/"); !found || doc == "" {
		return false
	}
	c := doc[0] | 0x20
	return 'a' <= c && c <= 'z'
}

// tagLength is the length of the tag at the beginning of a text, its ">" included; all of the
// text if the tag has no end. It is -1 for a tag of more than MaxTagBytes without quoted values.
// Where values begin and end is as in HTML (WHATWG 13.2.5.8 and 13.2.5.32 to 13.2.5.39).
func tagLength(doc string) int {
	i, quoted := 1, 0
	until := func(stop string) { // or to the end
		if n := strings.IndexAny(doc[i:], stop); n >= 0 {
			i += n
		} else {
			i = len(doc)
		}
	}
	skipSpace := func() {
		for i < len(doc) && htmlSpace(rune(doc[i])) {
			i++
		}
	}
	next := func(chars ...byte) bool { return i < len(doc) && slices.Contains(chars, doc[i]) }
	if next('/') {
		i++
	}
	until(" \n\r\t\f/>")
	for skipSpace(); i < len(doc); skipSpace() {
		if i-quoted > MaxTagBytes {
			return -1
		}
		if next('>') {
			return i + 1
		}
		if next('=') { // a name may begin with one
			i++
		}
		until("= \n\r\t\f/>")
		skipSpace()
		if next('/') {
			i++
			continue
		}
		if !next('=') {
			continue
		}
		i++
		skipSpace()
		if next('"', '\'') {
			from := i + 1
			i++
			until(doc[i-1 : i])
			quoted += i - from
			i = min(i+1, len(doc))
			continue
		}
		until(" \n\r\t\f>")
	}
	if i-quoted > MaxTagBytes {
		return -1
	}
	return i
}
