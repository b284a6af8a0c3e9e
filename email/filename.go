package email

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strings"
)

// maxReadings bounds how often a name is decoded again.
const maxReadings = 32

// readings are the names that a mail program may make of a file's name. They are the name
// itself and its decoded forms: encoded words (RFC 2047), a charset before two apostrophes
// (RFC 2231) and percent-encoding (RFC 3986), also nested in any order. For a name with a NUL,
// the part before it is one more.
func readings(filename string) []string {
	out := []string{filename}
	for i := 0; i < len(out) && len(out) < maxReadings; i++ {
		for _, decode := range []func(string) string{withoutWords, withoutCharset, withoutPercent, beforeNUL} {
			if next := decode(out[i]); !slices.Contains(out, next) {
				out = append(out, next)
			}
		}
	}
	return out
}

var (
	// The closing ?= may be missing: some programs do not require it.
	encodedWord  = regexp.MustCompile(`=\?[^?\s]*\?([bBqQ])\?([^?]*)(\?=|$)`)
	betweenWords = regexp.MustCompile(`\?=\s+=\?`)
	extCharset   = regexp.MustCompile(`^[A-Za-z0-9_.:-]*'[A-Za-z0-9-]*'`)
)

// withoutWords decodes encoded words. It treats every charset as ASCII: letters and dots of an
// extension have the same bytes in nearly all.
func withoutWords(s string) string {
	if !strings.Contains(s, "=?") {
		return s
	}
	s = betweenWords.ReplaceAllString(s, "?==?") // white space between words is left out (RFC 2047 section 6.2)
	return encodedWord.ReplaceAllStringFunc(s, func(word string) string {
		parts := encodedWord.FindStringSubmatch(word)
		text := parts[2]
		if strings.EqualFold(parts[1], "q") {
			text = unescaped(strings.ReplaceAll(text, "_", " "), '=')
		} else if raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "=")); err == nil {
			text = string(raw)
		} else {
			return word
		}
		if strings.Count(text, "\x00")*2 >= len(text)-1 {
			text = strings.ReplaceAll(text, "\x00", "") // UTF-16
		}
		return text
	})
}

func withoutCharset(s string) string { return extCharset.ReplaceAllString(s, "") }

func withoutPercent(s string) string { return unescaped(s, '%') }

func beforeNUL(s string) string {
	before, _, _ := strings.Cut(s, "\x00")
	return before
}

// unescaped decodes two hexadecimal digits after a sign, and keeps all other bytes.
func unescaped(s string, sign byte) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == sign && i+2 < len(s) {
			if high, low := hexDigit(s[i+1]), hexDigit(s[i+2]); high >= 0 && low >= 0 {
				out.WriteByte(byte(high<<4 | low))
				i += 2
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

func hexDigit(c byte) int { return strings.IndexByte("0123456789abcdef", c|0x20) }
