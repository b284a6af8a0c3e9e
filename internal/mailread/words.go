package mailread

import (
	"strings"
	"unicode/utf8"
)

// Words decodes the encoded words of a field's value (RFC 2047) to UTF-8. It also takes
// words in quotes or without white space around them, and too little or too much base64
// padding. Words may have a language (RFC 2231 §5) and raw bytes. White space between two words
// is dropped. A character that is split between two words of one charset is put together.
// A word of an unknown charset stays as it is written.
//
// Bytes outside of words are UTF-8 where they are valid as such. Otherwise they are of the
// charset that hint names, else windows-1252.
func Words(s, hint string) string {
	if !strings.Contains(s, "=?") {
		return plain(s, hint)
	}
	var out strings.Builder
	var run []word // adjacent words of one charset
	runStart, runEnd, closing := 0, 0, -1
	flush := func() {
		if len(run) > 0 {
			out.WriteString(decodeRun(run, s[runStart:runEnd]))
		}
		run = run[:0]
	}
	for at := 0; ; {
		i := strings.Index(s[at:], "=?")
		if i < 0 {
			break
		}
		i += at
		w, end, ok := nextWord(s, i, &closing)
		if !ok {
			at = i + 2
			continue
		}
		between := s[runEnd:i]
		switch blank := strings.Trim(between, " \t") == ""; {
		case blank && len(run) > 0 && run[0].charset == w.charset:
		case blank && len(run) > 0 && Known(run[0].charset) && Known(w.charset):
			flush()
		default:
			flush()
			out.WriteString(plain(between, hint))
		}
		if len(run) == 0 {
			runStart = i
		}
		run = append(run, w)
		at, runEnd = end, end
	}
	flush()
	out.WriteString(plain(s[runEnd:], hint))
	return out.String()
}

// word is one encoded word.
type word struct {
	charset  string // lower case
	encoding byte   // 'b' or 'q'
	text     string
}

// nextWord reads the word at s[at:]. closing is the offset of the last "?=" that
// was looked up: it only moves forward, which keeps Words linear.
func nextWord(s string, at int, closing *int) (w word, end int, ok bool) {
	const longestCharset = 60
	rest := s[at+2:]
	q := strings.IndexByte(rest[:min(len(rest), longestCharset)], '?')
	if q < 1 || len(rest) < q+3 || rest[q+2] != '?' {
		return word{}, 0, false
	}
	charset, _, _ := strings.Cut(strings.ToLower(rest[:q]), "*")
	w = word{charset: charset, encoding: rest[q+1] | 0x20}
	if w.encoding != 'b' && w.encoding != 'q' || strings.ContainsAny(charset, " \t\"<>()=") {
		return word{}, 0, false
	}
	text := at + 2 + q + 3
	if *closing < text {
		i := strings.Index(s[text:], "?=")
		if i < 0 {
			*closing = len(s)
		} else {
			*closing = text + i
		}
	}
	if *closing >= len(s) {
		return word{}, 0, false
	}
	w.text = s[text:*closing]
	if strings.Contains(w.text, "=?") {
		return word{}, 0, false // the end is another word's
	}
	return w, *closing + 2, true
}

// decodeRun decodes adjacent words of one charset.
func decodeRun(run []word, written string) string {
	charset := run[0].charset
	if !Known(charset) {
		return plain(written, "")
	}
	var all []byte
	for _, w := range run {
		if w.encoding == 'q' {
			all = append(all, wordQ(w.text)...)
			continue
		}
		b, _ := Base64([]byte(w.text))
		all = append(all, b...)
	}
	if normal(charset) == "utf8" && !utf8.Valid(all) {
		// Some encode the whole text and cut the base64 wherever a line is full.
		var joined strings.Builder
		for _, w := range run {
			if w.encoding == 'q' {
				joined.Reset()
				break
			}
			joined.WriteString(strings.TrimRight(w.text, "= \t"))
		}
		if b, _ := Base64([]byte(joined.String())); joined.Len() > 0 && utf8.Valid(b) {
			all = b
		}
	}
	text, _ := Text(all, charset)
	return text
}

// wordQ decodes the "Q" encoding (RFC 2047 §4.2).
func wordQ(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '_':
			out = append(out, ' ')
		case s[i] == '=' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			out = append(out, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default:
			out = append(out, s[i])
		}
	}
	return out
}

// plain reads bytes that no word encodes.
func plain(s, hint string) string {
	if strings.Contains(s, "\x1b$") || strings.Contains(s, "\x1b(") {
		hint = "iso-2022-jp" // seven bits, and valid UTF-8 by accident
	} else if utf8.ValidString(s) {
		return s
	}
	if !Known(hint) || normal(hint) == "utf8" || normal(hint) == "usascii" {
		hint = ""
	}
	text, _ := Text([]byte(s), hint)
	return text
}
