package htmltext

import (
	"errors"
	"io"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// MaxTagBytes is the longest tag of HTML, in bytes, not counting its quoted values. The
// tokenizer keeps every attribute of a tag, which takes about 15 bytes of memory per byte.
const MaxTagBytes = 64 << 10

// rawText are the elements whose content is text only, even if it looks like tags.
var rawText = words("iframe noembed noframes noscript plaintext script style textarea title xmp")

// TagsFit reports whether each tag of HTML has at most MaxTagBytes, not counting its quoted
// values. It reads the document once, and keeps no attributes.
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

// smallTokens is the length of the tokens before a document's first token of MaxTagBytes or
// more. in is the rawText element that is open there, raw the one that is open at the start.
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

// tokenizer reads a document; raw is the rawText element that is open at its start.
func tokenizer(doc, raw string) *html.Tokenizer {
	if raw == "" {
		return html.NewTokenizer(strings.NewReader(doc))
	}
	z := html.NewTokenizer(io.MultiReader(strings.NewReader("<"+raw+">"), strings.NewReader(doc)))
	z.Next()
	return z
}

// beginsTag reports whether a text begins with a tag, as "<p" or "</p".
func beginsTag(doc string) bool {
	doc, found := strings.CutPrefix(doc, "<")
	if doc = strings.TrimPrefix(doc, "/"); !found || doc == "" {
		return false
	}
	c := doc[0] | 0x20
	return 'a' <= c && c <= 'z'
}

// tagLength is the length of the tag at the beginning of a text, with its ">". For a tag without
// an end it is the length of the text. It is -1 for a tag that has more than MaxTagBytes besides
// its quoted values. Values begin and end as HTML defines (WHATWG 13.2.5.8 and 13.2.5.32 to
// 13.2.5.39).
func tagLength(doc string) int {
	i, quoted := 1, 0
	until := func(stop string) { // moves to the next byte in stop, or to the end
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
		if next('=') { // an attribute's name may begin with =
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
