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

// pieceBytes is about how much is decoded at once.
const pieceBytes = 32 << 10

// pieces hands decoded bytes on, so that a large part is never decoded as a whole; where to
// is nil it keeps them.
type pieces struct {
	to  func([]byte)
	buf []byte
}

func newPieces(from []byte, to func([]byte)) *pieces {
	return &pieces{to: to, buf: make([]byte, 0, min(len(from)+3, pieceBytes))}
}

func (p *pieces) add(bs ...byte) {
	if p.to != nil && len(p.buf)+len(bs) > cap(p.buf) {
		p.flush()
	}
	p.buf = append(p.buf, bs...)
}

func (p *pieces) flush() {
	if p.to == nil || len(p.buf) == 0 {
		return
	}
	p.to(p.buf)
	p.buf = p.buf[:0]
}

// Base64 decodes base64 (RFC 2045 §6.8) and base64url. It skips characters that
// are neither, needs no padding, and goes on behind padding with lines that are
// wholly base64, as concatenated pieces have it. clean is false where characters
// were left out.
func Base64(b []byte) (out []byte, clean bool) {
	kept := pieces{buf: make([]byte, 0, len(b)/4*3+3)}
	clean = base64To(b, &kept)
	return kept.buf, clean
}

func base64To(b []byte, out *pieces) (clean bool) {
	defer out.flush()
	clean = true
	var bits uint32
	count, padded := 0, false
	flush := func() {
		if count == 2 {
			out.add(byte(bits >> 4))
		} else if count == 3 {
			out.add(byte(bits>>10), byte(bits>>2))
		}
		bits, count = 0, 0
	}
	for at := 0; at < len(b); {
		next := lineEnd(b, at)
		line := bytes.TrimSpace(b[at:next])
		at = next
		if padded && len(line) > 0 && (len(line)%4 != 0 || !isBase64(line)) {
			return false // a mailing list's footer
		}
		for _, c := range line {
			switch v := base64Values[c]; {
			case v != 0xff:
				bits = bits<<6 | uint32(v)
				if count++; count == 4 {
					out.add(byte(bits>>16), byte(bits>>8), byte(bits))
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
	return clean
}

func isBase64(line []byte) bool {
	for _, c := range bytes.TrimRight(line, "=") {
		if base64Values[c] == 0xff {
			return false
		}
	}
	return true
}

// quotedPrintableTo decodes quoted-printable (RFC 2045 §6.7). An "=" that begins no
// valid sequence stays as it is, and clean is false then. A soft line break may have
// white space behind it. White space at the end of a line is dropped. cr is that of Lines.
func quotedPrintableTo(b []byte, cr bool, to func([]byte)) (clean bool) {
	out := newPieces(b, to)
	clean = true
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
				out.add(c)
			case i+2 < len(content) && isHex(content[i+1]) && isHex(content[i+2]):
				out.add(unhex(content[i+1])<<4 | unhex(content[i+2]))
				i += 2
			case i == len(content)-1:
				end = nil // a soft line break
			default:
				out.add(c)
				clean = false
			}
		}
		if cr && string(end) == "\n" {
			out.add('\r')
		}
		for _, c := range end { // a line may end in any number of CR
			out.add(c)
		}
	}
	out.flush()
	return clean
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

// uuTo decodes the first file of uuencoded text. ok is false where there is none, and
// nothing was handed on.
func uuTo(b []byte, to func([]byte)) (ok bool) {
	out := newPieces(b, to)
	defer out.flush()
	for at := 0; at < len(b); {
		next := lineEnd(b, at)
		line := bytes.TrimRight(b[at:next], "\r\n")
		at = next
		switch {
		case !ok:
			ok = bytes.HasPrefix(line, []byte("begin "))
		case string(line) == "end":
			return true
		case len(line) > 0:
			uuLine(line, out)
		}
	}
	return ok
}

// uuLine decodes a line, which stands for at most 63 bytes.
func uuLine(line []byte, out *pieces) {
	left := int(line[0]-' ') & 0x3f
	value := func(i int) byte {
		if i < len(line) {
			return (line[i] - ' ') & 0x3f
		}
		return 0
	}
	for i := 1; left > 0 && i < len(line); i += 4 {
		a, b, c, d := value(i), value(i+1), value(i+2), value(i+3)
		three := [...]byte{a<<2 | b>>4, b<<4 | c>>2, c<<6 | d}
		n := min(left, len(three))
		out.add(three[:n]...)
		left -= n
	}
}

// transfer is how the content of a part is written.
type transfer struct {
	encoding string
	isText   bool
	cr       bool // see Lines
}

// decode undoes the Content-Transfer-Encoding, piece by piece. An encoding that is not
// known leaves the bytes as they are, which are handed on as one piece. problem says what
// could not be read.
func (t transfer) decode(b []byte, to func([]byte)) (problem string) {
	switch t.encoding {
	case "", "7bit", "8bit", "binary", "7bits", "8bits", "none":
		t.asItIs(b, to)
		return ""
	case "base64", "b64":
		if t.isText && isProse(b) {
			t.asItIs(b, to)
			return "base64: the text is not encoded"
		}
		if !base64To(b, newPieces(b, to)) {
			return "base64: some characters were left out"
		}
	case "quotedprintable", "qp":
		if !quotedPrintableTo(b, t.cr, to) {
			return "quoted-printable: an = that begins nothing"
		}
	case "uuencode", "xuuencode", "xuue", "uue":
		if !uuTo(b, to) {
			t.asItIs(b, to)
			return "uuencode: no begin line"
		}
	default:
		t.asItIs(b, to)
		return "transfer encoding: not known, the bytes are shown as they are"
	}
	return ""
}

// asItIs hands on what is not encoded.
func (t transfer) asItIs(b []byte, to func([]byte)) {
	if !t.cr {
		to(b)
		return
	}
	out := newPieces(b, to)
	for i, c := range b {
		if c == '\n' && (i == 0 || b[i-1] != '\r') {
			out.add('\r')
		}
		out.add(c)
	}
	out.flush()
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
