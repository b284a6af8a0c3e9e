package mailread

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode/utf32"
	"golang.org/x/text/transform"

	"github.com/postrider/postrider/internal/plaintext"
)

// aliases are names that the registries lack or map to nothing.
var aliases = map[string]encoding.Encoding{
	"hzgb2312": simplifiedchinese.HZGB2312, "hz": simplifiedchinese.HZGB2312,
	"iso2022jp1": japanese.ISO2022JP, "iso2022jp2": japanese.ISO2022JP, "iso2022jpms": japanese.ISO2022JP, "cp50220": japanese.ISO2022JP, "cp50221": japanese.ISO2022JP,
	"cp932": japanese.ShiftJIS, "mskanji": japanese.ShiftJIS, "shiftjis": japanese.ShiftJIS, "cp949": korean.EUCKR, "uhc": korean.EUCKR,
	"gb2312": simplifiedchinese.GB18030, "gbk": simplifiedchinese.GB18030, "cp936": simplifiedchinese.GB18030, "euccn": simplifiedchinese.GB18030,
	"latin1": charmap.Windows1252, "iso88591": charmap.Windows1252, "cp437": charmap.CodePage437, "cp850": charmap.CodePage850, "cp852": charmap.CodePage852, "cp858": charmap.CodePage858,
	"cp866": charmap.CodePage866, "cp1047": charmap.CodePage1047, "mac": charmap.Macintosh, "macroman": charmap.Macintosh, "koi8": charmap.KOI8R,
	"utf32": utf32.UTF32(utf32.BigEndian, utf32.UseBOM), "utf32be": utf32.UTF32(utf32.BigEndian, utf32.IgnoreBOM), "utf32le": utf32.UTF32(utf32.LittleEndian, utf32.IgnoreBOM),
}

// Text reads bytes of a declared charset as UTF-8. A declaration that can hold
// is taken at its word: valid UTF-8 declared as UTF-8 is never anything else. An
// empty, unknown or impossible declaration leaves UTF-8 where the bytes are that,
// else windows-1252. problem says in English what had to be guessed or was lost;
// it is empty where nothing was.
func Text(b []byte, charset string) (text, problem string) {
	text, problem, _ = TextUpTo(b, charset, 3*len(b)) // no charset makes more of a byte
	return text, problem
}

// TextUpTo is Text of the beginning, which is about max bytes, so that no more is decoded.
// cut says that there is more.
func TextUpTo(b []byte, charset string, max int) (text, problem string, cut bool) {
	name := normal(charset)
	switch name {
	case "", "usascii", "ascii", "ansix341968", "646", "iso646us", "8bit", "7bit", "binary", "unknown8bit", "default", "utf8", "utf8mb4", "unicode11utf8":
		text, problem = utf8Text(Head(b, max), name)
		return text, problem, len(b) > max
	case "utf7", "unicode11utf7", "unicode20utf7", "xunicode20utf7", "csunicode11utf7":
		return utf7Text(b[:min(len(b), 4*max)]), "", len(b) > 4*max
	case "iso2022kr":
		cut = len(b) > 2*max
		b, charset = shiftedKorean(b[:min(len(b), 2*max)]), "euc-kr"
	case "utf16":
		charset = "utf-16be" // RFC 2781 §4.3
		if bytes.HasPrefix(b, []byte{0xff, 0xfe}) {
			charset = "utf-16le"
		}
	}
	enc := lookup(normal(charset), charset)
	if enc == nil {
		text, _ = utf8Text(Head(b, max), "")
		return text, "charset: " + plaintext.Cut(strings.ToValidUTF8(charset, "?"), 40) + " is not known", len(b) > max
	}
	out, err := io.ReadAll(io.LimitReader(transform.NewReader(bytes.NewReader(b), enc.NewDecoder()), int64(max)+utf8.UTFMax))
	if err != nil {
		text, _ = utf8Text(Head(b, max), "")
		return text, "charset: not " + plaintext.Cut(strings.ToValidUTF8(charset, "?"), 40), len(b) > max
	}
	return strings.TrimPrefix(string(Head(out, max)), "\uFEFF"), "", cut || len(out) > max
}

var metaCharset = regexp.MustCompile(`(?i)<meta\s[^>]*charset\s*=\s*["']?([\w.:-]+)`)

// MetaCharset is the charset that HTML declares for itself in its first 2 KiB,
// empty where it does not. It counts where the part declares none.
func MetaCharset(html []byte) string {
	// A text in which this search finds anything is not UTF-16, even if it says so.
	if m := metaCharset.FindSubmatch(html[:min(len(html), 2<<10)]); m != nil && !strings.HasPrefix(normal(string(m[1])), "utf16") {
		return string(m[1])
	}
	return ""
}

// Known says whether Text can read a charset.
func Known(charset string) bool {
	switch name := normal(charset); name {
	case "":
		return false
	case "usascii", "ascii", "utf8", "utf7", "unicode11utf7", "iso2022kr":
		return true
	default:
		return lookup(name, charset) != nil
	}
}

// normal is a charset's name without case, punctuation and what some add.
func normal(charset string) string {
	charset, _, _ = strings.Cut(strings.ToLower(charset), "//") // "//TRANSLIT"
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, charset)
	for _, prefix := range []string{"windows", "win", "xcp", "xwindows", "ibm", "csibm", "ms"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" && strings.Trim(rest, "0123456789") == "" {
			return "cp" + rest
		}
	}
	return name
}

func lookup(name, declared string) encoding.Encoding {
	if e := aliases[name]; e != nil {
		return e
	}
	declared = strings.Trim(declared, `"' `)
	candidates := []string{declared, name}
	switch rest := strings.TrimLeft(name, "abcdefghijklmnopqrstuvwxyz"); {
	case strings.HasPrefix(name, "cp"):
		candidates = append(candidates, "windows-"+rest, "ibm"+rest)
	case strings.HasPrefix(name, "iso8859"):
		candidates = append(candidates, "iso-8859-"+strings.TrimPrefix(name, "iso8859"))
	case strings.HasPrefix(name, "koi8"), strings.HasPrefix(name, "euc"), strings.HasPrefix(name, "utf16"):
		at := strings.IndexAny(name, "68c") + 1
		candidates = append(candidates, name[:at]+"-"+name[at:], strings.Replace(name, "utf16", "utf-16", 1))
	case strings.HasPrefix(name, "iso2022"):
		candidates = append(candidates, "iso-2022-"+strings.TrimPrefix(name, "iso2022"))
	}
	for _, c := range candidates {
		if e, err := htmlindex.Get(c); err == nil && e != nil && e != encoding.Replacement {
			return e
		}
		for _, index := range []*ianaindex.Index{ianaindex.MIME, ianaindex.IANA} {
			if e, err := index.Encoding(c); err == nil && e != nil && e != encoding.Replacement {
				return e
			}
		}
	}
	return nil
}

// utf8Text reads what is UTF-8, or should be, or has no declaration.
func utf8Text(b []byte, declared string) (text, problem string) {
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	if utf8.Valid(b) {
		return string(b), ""
	}
	if strings.HasPrefix(declared, "utf8") {
		problem = "charset: some bytes are not utf-8"
		for rest := b; len(rest) > 0; {
			r, n := utf8.DecodeRune(rest)
			if r != utf8.RuneError && n > 1 {
				return strings.ToValidUTF8(string(b), "\uFFFD"), problem // UTF-8 with damage
			}
			rest = rest[n:]
		}
	} else {
		problem = "charset: none that fits is declared, read as windows-1252"
	}
	out, err := charmap.Windows1252.NewDecoder().Bytes(b)
	if err != nil {
		return strings.ToValidUTF8(string(b), "\uFFFD"), problem
	}
	return string(out), problem
}

const base64Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

// utf7Text reads UTF-7 (RFC 2152). Invalid sequences stay as they are.
func utf7Text(b []byte) string {
	var out strings.Builder
	for i := 0; i < len(b); i++ {
		if b[i] != '+' {
			out.WriteByte(b[i])
			continue
		}
		end := i + 1
		for end < len(b) && b[end] < 0x80 && strings.IndexByte(base64Alphabet, b[end]) >= 0 {
			end++
		}
		if end == i+1 { // "+-" is a plus
			out.WriteByte('+')
			if end < len(b) && b[end] == '-' {
				i++
			}
			continue
		}
		raw, _ := Base64(b[i+1 : end])
		units := make([]uint16, 0, len(raw)/2)
		for at := 0; at+1 < len(raw); at += 2 {
			units = append(units, uint16(raw[at])<<8|uint16(raw[at+1]))
		}
		out.WriteString(string(utf16.Decode(units)))
		if end < len(b) && b[end] == '-' {
			end++
		}
		i = end - 1
	}
	text, _ := utf8Text([]byte(out.String()), "")
	return text
}

// shiftedKorean turns ISO-2022-KR (RFC 1557) into EUC-KR.
func shiftedKorean(b []byte) []byte {
	b = bytes.ReplaceAll(b, []byte("\x1b$)C"), nil)
	out, shifted := make([]byte, 0, len(b)), false
	for _, c := range b {
		switch {
		case c == 0x0e:
			shifted = true
		case c == 0x0f:
			shifted = false
		case c == '\n':
			shifted = false
			out = append(out, c)
		case shifted && c > ' ' && c < 0x7f:
			out = append(out, c|0x80)
		default:
			out = append(out, c)
		}
	}
	return out
}

// Head is at most n bytes, without half a character of UTF-8 at its end.
func Head(b []byte, n int) []byte {
	if len(b) <= n {
		return b
	}
	for back := 0; back < utf8.UTFMax && back <= n; back++ {
		if utf8.RuneStart(b[n-back]) {
			return b[:n-back]
		}
	}
	return b[:n]
}
