// Package header writes the values of header fields that a client sets.
//
//  1. An ASCII value stands as it is. It is never turned into encoded words: those have
//     no meaning in a structured field (RFC 2047 section 5).
//  2. A value that is not ASCII is encoded as its field allows: encoded words in an
//     unstructured field, in a comment and in a phrase; percent-encoding and A-labels in
//     a URL. Where the field allows nothing, the value is refused.
//  3. Lines have at most 998 bytes; the field may be longer.
package header

import (
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"

	"github.com/postrider/postrider/internal/plaintext"
)

const (
	// LineWidth is where fields are folded if they can be (RFC 5322 section 2.1.1).
	LineWidth = 78
	// MaxLine is the longest line, in bytes without its CRLF.
	MaxLine = 998
	// wordWidth is the longest encoded word that fits on a continuation line of 76
	// characters (RFC 2047 section 2), in a multiple of base64's four.
	wordWidth = 72
)

// Pieces are a value cut at the places where its field may be folded. Each piece begins
// with the white space before it.
type Pieces []string

// Encode cuts the value of a client's field and encodes what is not ASCII. The value has
// neither line breaks nor white space at its ends. The error says what the field does not
// allow and what to do; it does not repeat the value.
func Encode(name, value string) (Pieces, error) {
	kind := kinds[strings.ToLower(name)]
	if kind == unstructured && !plaintext.ASCII(value) {
		return Words(name, value), nil
	}
	var out Pieces
	err := pieces(name, value, kind, func(before, text string) { out = append(out, before+text) })
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Check returns the error of Encode. It takes no memory for an ASCII value whose lines are not too
// long. So a batch can check a long value for each of its copies.
func Check(name, value string) error {
	kind := kinds[strings.ToLower(name)]
	if kind == unstructured && !plaintext.ASCII(value) {
		return nil
	}
	return pieces(name, value, kind, func(string, string) {})
}

// pieces calls add for each piece of a value, which is its white space and its text. It encodes what
// is not ASCII in a structured value.
func pieces(name, value string, kind kind, add func(before, text string)) (err error) {
	if !plaintext.ASCII(value) {
		if value, err = encode(name, value, kind); err != nil {
			return err
		}
	}
	for before, text := range cuts(value) {
		if len(before)+len(text) <= MaxLine {
			add(before, text)
			continue
		}
		if kind == unstructured {
			return ErrTooLong
		}
		for _, p := range cutStructured(before + text) {
			if len(p) > MaxLine {
				return ErrTooLong
			}
			add("", p)
		}
	}
	return nil
}

// Structured reports whether the value of a field has a structure. Encode then looks for the parts
// that may have other characters than ASCII, which takes about ten times as long as the rest.
func Structured(name string) bool { return kinds[strings.ToLower(name)] != unstructured }

// ErrTooLong says that a value cannot be folded.
var ErrTooLong = fmt.Errorf("a line of a header has at most %d bytes, and the value has no white space where it could be folded; shorten it", MaxLine)

// Cut cuts a value at its single white spaces. A run of them is not cut: programs differ
// in what they make of its rest.
func Cut(value string) Pieces {
	var out Pieces
	for before, text := range cuts(value) {
		out = append(out, before+text)
	}
	return out
}

// cuts are the pieces of Cut, each as its white space and its text.
func cuts(value string) iter.Seq2[string, string] {
	return func(yield func(before, text string) bool) {
		from, before := 0, " "
		for i := 1; i+1 < len(value); i++ {
			if wsp(value[i]) && !wsp(value[i-1]) && !wsp(value[i+1]) {
				if !yield(before, value[from:i]) {
					return
				}
				from, before = i+1, value[i:i+1]
			}
		}
		yield(before, value[from:])
	}
}

// cutStructured cuts where a structured field allows white space: at runs of it, behind a
// comma, and between two angle brackets. A quoted string and what stands in angle brackets
// are cut nowhere else than at their own white space.
func cutStructured(piece string) Pieces {
	var out Pieces
	from, lead := 0, ""
	cut := func(at int, next string) {
		out = append(out, lead+piece[from:at])
		from, lead = at, next
	}
	quoted, angle := false, false
	for i := 1; i < len(piece); i++ {
		c, before := piece[i], piece[i-1]
		switch {
		case wsp(c) && !wsp(before):
			cut(i, "")
		case quoted || angle:
		case c == '<' && before == '>', before == ',' && !wsp(c):
			cut(i, " ")
		}
		switch {
		case c == '\\' && quoted:
			i++
		case c == '"' && !angle:
			quoted = !quoted
		case quoted:
		case c == '<':
			angle = true
		case c == '>':
			angle = false
		}
	}
	return append(out, lead+piece[from:])
}

// Words are a text in encoded words (RFC 2047 section 2). The text is split between
// characters, so that each word can be decoded by itself. The first one stands beside the
// field's name.
func Words(name, s string) Pieces {
	const frame = len("=?utf-8?b?" + "?=")
	var out Pieces
	room := max(wordWidth-len(name)-2, frame+8)
	for s != "" {
		n := min((room-frame)/4*3, len(s))
		for n < len(s) && !utf8.RuneStart(s[n]) {
			n--
		}
		out = append(out, " =?utf-8?b?"+base64.StdEncoding.EncodeToString([]byte(s[:n]))+"?=")
		s, room = s[n:], wordWidth
	}
	return out
}

func (p Pieces) String() string { return strings.TrimPrefix(strings.Join(p, ""), " ") }

func wsp(c byte) bool { return c == ' ' || c == '\t' }

var (
	errNotASCII = errors.New("this header takes ASCII only; outside of comments, remove the other characters")
	errID       = errors.New("the id between angle brackets has to be ASCII; only the name before it may have other characters")
	errMailbox  = errors.New("the part of an address before the @ has to be ASCII here")
	errURL      = errors.New("a URL with other characters than ASCII begins with its scheme, as https://")
	errDomain   = errors.New("the domain is not a valid domain name")
	errOpen     = errors.New(`a quotation mark, a bracket or a parenthesis has no end; add it`)
)
