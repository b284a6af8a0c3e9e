package email

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// addressLike matches what looks like a mail address in a server's text. The local part is
// matched greedily, so that no half of a quoted one is left.
var addressLike = regexp.MustCompile(`[^\s<>()\[\],;:]+@([\p{L}\p{N}.\-]+)`)

// MaskAddress masks an address for histories and logs: of the local part only the first
// character is left. bob@x.com becomes b***@x.com.
func MaskAddress(addr string) string {
	i := strings.LastIndexByte(addr, '@')
	if i <= 0 {
		return "***"
	}
	_, n := utf8.DecodeRuneInString(addr)
	return addr[:n] + "***" + addr[i:]
}

// MaskText masks the local part of everything in a server's text that looks like a mail
// address. It also masks the local parts of addrs, which a server may name without their
// domain.
func MaskText(text string, addrs ...string) string {
	text = addressLike.ReplaceAllString(text, "***@$1")
	for _, a := range addrs {
		i := strings.LastIndexByte(a, '@')
		if i < 3 { // a shorter local part would blank out ordinary words
			continue
		}
		text = replaceFold(text, a[:i], "***")
	}
	return text
}

// MaskDomains masks whole addresses in a text, and the given domains. It is for texts that are
// shown with e-mails of other customers.
func MaskDomains(text string, domains ...string) string {
	text = addressLike.ReplaceAllString(text, "***")
	for _, d := range domains {
		if d != "" {
			text = replaceFold(text, d, "***")
		}
	}
	return text
}

// replaceFold replaces whole words of s equal to old under ASCII case folding.
func replaceFold(s, old, with string) string {
	// Most replies contain no such word, and compiling a pattern is expensive.
	if isASCII(s) && isASCII(old) && !strings.Contains(strings.ToLower(s), strings.ToLower(old)) {
		return s
	}
	re, err := regexp.Compile(`(?i)(^|[^\p{L}\p{N}])` + regexp.QuoteMeta(old) + `($|[^\p{L}\p{N}])`)
	if err != nil {
		return with // a pattern that cannot be built hides everything rather than nothing
	}
	return re.ReplaceAllString(s, "${1}"+with+"${2}")
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
