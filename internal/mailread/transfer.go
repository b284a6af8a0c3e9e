package mailread

import (
	"bytes"
	"strings"
)

var base64Values = func() (values [256]byte) {
	for i := range values {
		values[i] = 0xff
	}
	for i := range len(base64Alphabet) {
		values[base64Alphabet[i]] = byte(i)
	}
	values['-'], values['_'] = 62, 63 // base64url
	return values
}()

// Base64 decodes base64 (RFC 2045 §6.8) and base64url. It skips characters that
// are neither, needs no padding, and goes on behind padding with lines that are
// wholly base64, as concatenated pieces have it. clean is false where characters
// were left out.
func Base64(b []byte) (out []byte, clean bool) {
	out, clean = make([]byte, 0, len(b)/4*3+3), true
	var bits uint32
	count, padded := 0, false
	flush := func() {
		if count == 2 {
			out = append(out, byte(bits>>4))
		} else if count == 3 {
			out = append(out, byte(bits>>10), byte(bits>>2))
		}
		bits, count = 0, 0
	}
	for at := 0; at < len(b); {
		next := lineEnd(b, at)
		line := bytes.TrimSpace(b[at:next])
		at = next
		if padded && len(line) > 0 && (len(line)%4 != 0 || !isBase64(line)) {
			return out, false // a mailing list's footer
		}
		for _, c := range line {
			switch v := base64Values[c]; {
			case v != 0xff:
				bits = bits<<6 | uint32(v)
				if count++; count == 4 {
					out = append(out, byte(bits>>16), byte(bits>>8), byte(bits))
					bits, count = 0, 0
				}
				padded = false
			case c == '=':
				flush()
				padded = true
			case c != ' ' && c != '\t' && c != '\r':
				clean = false
			}
		}
	}
	if count == 1 {
		clean = false
	}
	flush()
	return out, clean
}

func isBase64(line []byte) bool {
	for _, c := range bytes.TrimRight(line, "=") {
		if base64Values[c] == 0xff {
			return false
		}
	}
	return true
}

// QuotedPrintable decodes quoted-printable (RFC 2045 §6.7). An "=" that begins
// nothing stays as it is, a soft line break may have white space behind it, and
// white space at the end of a line is dropped. clean is false where an "=" stayed.
func QuotedPrintable(b []byte) (out []byte, clean bool) {
	out, clean = make([]byte, 0, len(b)), true
	for at := 0; at < len(b); {
		next := lineEnd(b, at)
		line := b[at:next]
		content := bytes.TrimRight(line, "\r\n")
		end := line[len(content):]
		content = bytes.TrimRight(content, " \t")
		at = next
		for i := 0; i < len(content); i++ {
			c := content[i]
			switch {
			case c != '=':
				out = append(out, c)
			case i+2 < len(content) && isHex(content[i+1]) && isHex(content[i+2]):
				out = append(out, unhex(content[i+1])<<4|unhex(content[i+2]))
				i += 2
			case i == len(content)-1:
				end = nil // a soft line break
			default:
				out, clean = append(out, c), false
			}
		}
		out = append(out, end...)
	}
	return out, clean
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'F' || c >= 'a' && c <= 'f'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	default:
		return c - 'a' + 10
	}
}

// uuDecode decodes the first file of uuencoded text. ok is false where there is
// none.
func uuDecode(b []byte) (out []byte, ok bool) {
	begun := false
	for at := 0; at < len(b); {
		next := lineEnd(b, at)
		line := bytes.TrimRight(b[at:next], "\r\n")
		at = next
		switch {
		case !begun:
			begun = bytes.HasPrefix(line, []byte("begin "))
		case string(line) == "end":
			return out, true
		case len(line) > 0:
			out = append(out, uuLine(line)...)
		}
	}
	return out, begun
}

func uuLine(line []byte) []byte {
	n, out := int(line[0]-' ')&0x3f, make([]byte, 0, len(line))
	value := func(i int) byte {
		if i < len(line) {
			return (line[i] - ' ') & 0x3f
		}
		return 0
	}
	for i := 1; len(out) < n && i < len(line); i += 4 {
		a, b, c, d := value(i), value(i+1), value(i+2), value(i+3)
		out = append(out, a<<2|b>>4, b<<4|c>>2, c<<6|d)
	}
	return out[:min(n, len(out))]
}

// decodeTransfer undoes a Content-Transfer-Encoding. An encoding that is not
// known leaves the bytes as they are. problem says what could not be read.
func decodeTransfer(b []byte, encoding string, isText bool) (out []byte, problem string) {
	var clean bool
	switch encoding {
	case "", "7bit", "8bit", "binary", "7bits", "8bits", "none":
		return b, ""
	case "base64", "b64":
		if isText && isProse(b) {
			return b, "base64: the text is not encoded"
		}
		if out, clean = Base64(b); !clean {
			problem = "base64: some characters were left out"
		}
	case "quotedprintable", "qp":
		if out, clean = QuotedPrintable(b); !clean {
			problem = "quoted-printable: an = that begins nothing"
		}
	case "uuencode", "xuuencode", "xuue", "uue":
		if out, clean = uuDecode(b); !clean {
			return b, "uuencode: no begin line"
		}
	default:
		return b, "transfer encoding: not known, the bytes are shown as they are"
	}
	return out, problem
}

// isProse: text that calls itself base64 and has several words on its first line.
func isProse(b []byte) bool {
	line := bytes.TrimSpace(bytes.TrimLeft(b, "\r\n"))
	line = bytes.TrimSpace(line[:lineEnd(line, 0)])
	spaces := bytes.Count(line, []byte(" "))
	return spaces >= 2 && len(line)/(spaces+1) < 20
}

// encodingName is a transfer encoding without comment, case and punctuation.
func encodingName(value string) string {
	value, _, _ = strings.Cut(value, "(")
	value, _, _ = strings.Cut(value, ";")
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(value))
}
