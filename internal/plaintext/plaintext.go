// Package plaintext makes texts from outside fit for the place that they go to: valid UTF-8 of a
// bounded length, for Postgres, an answer, a log or a terminal. It imports the standard library
// alone.
package plaintext

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Valid is s as valid UTF-8 without NUL: Postgres takes neither, and its driver would alter
// both silently. U+FFFD takes the place of each run of invalid bytes, and of each NUL.
func Valid(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Cut shortens valid UTF-8 to at most n bytes, between two characters. The result shares its
// memory with s. An n below 0 counts as 0.
func Cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	n = max(n, 0)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Storable is Valid of at most n bytes.
func Storable(s string, n int) string { return Cut(Valid(s), n) }

// Line is one line of valid UTF-8 of at most n bytes: a space takes the place of each control
// character (C0, DEL and C1), and none stand at the ends.
func Line(s string, n int) string {
	s = Cut(strings.ToValidUTF8(s, "\uFFFD"), n)
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s))
}

// Printable keeps a text from steering a terminal: a question mark takes the place of all that
// is not printed.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// Count is a number with its noun: "1 copy", "2 copies".
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// ASCII reports whether each byte is below 128.
func ASCII[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
