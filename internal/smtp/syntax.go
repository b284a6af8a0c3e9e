package smtp

import (
	"bytes"
	"fmt"
	"strings"
)

// bareLineEnd finds a CR or LF that is not part of a CRLF, which servers take
// for different things (RFC 5321 section 2.3.8); -1 if there is none.
func bareLineEnd(b []byte) int {
	for at := 0; at < len(b); {
		line := b[at:]
		end := bytes.IndexByte(line, '\n')
		if end >= 0 {
			line = line[:end]
		}
		cr := bytes.IndexByte(line, '\r')
		switch {
		case cr >= 0 && (end < 0 || cr != end-1):
			return at + cr
		case end < 0:
			return -1
		case cr < 0:
			return at + end
		}
		at += end + 1
	}
	return -1
}

// breaksOutOfCommand reports whether an address would end its angle brackets, or its
// line, before its end, and so smuggle in a parameter or a command. Intake has
// checked addresses; this is the last check.
func breaksOutOfCommand(addr string) bool {
	quoted, escaped := false, false
	for i := range len(addr) {
		c := addr[i]
		switch {
		case c < ' ' || c == 0x7f:
			return true
		case escaped:
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ' ' || c == '<' || c == '>'):
			return true
		}
	}
	return quoted
}

// xtext encodes an ESMTP parameter's value (RFC 3461 section 4).
func xtext(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < '!' || c > '~' || c == '+' || c == '=' {
			fmt.Fprintf(&b, "+%02X", c)
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
