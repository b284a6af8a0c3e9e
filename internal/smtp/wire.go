package smtp

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
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

// writeStuffed writes a message with CRLF line ends, doubling the dot that
// begins a line (RFC 5321 section 4.5.2), up to but without the final dot. A
// last line without an end gets one: the dot needs a line of its own.
func writeStuffed(w io.Writer, message []byte) error {
	s := stickyWriter{w: w}
	if bytes.HasPrefix(message, []byte(".")) {
		s.write([]byte("."))
	}
	ended := len(message) == 0 || bytes.HasSuffix(message, []byte("\r\n"))
	for {
		i := bytes.Index(message, []byte("\r\n."))
		if i < 0 {
			break
		}
		s.write(message[:i+3])
		s.write([]byte("."))
		message = message[i+3:]
	}
	s.write(message)
	if !ended {
		s.write([]byte("\r\n"))
	}
	return s.err
}

// stickyWriter keeps the first error.
type stickyWriter struct {
	w   io.Writer
	err error
}

func (s *stickyWriter) write(b []byte) {
	if s.err == nil && len(b) > 0 {
		_, s.err = s.w.Write(b)
	}
}

// blockBytes is how much of a message has to get through within one DataBlock.
const blockBytes = 64 << 10

// blockWriter gives every block of a message a time of its own (RFC 5321 section
// 4.5.3.2.5), so that a large one may go over a slow line.
type blockWriter struct {
	w    io.Writer
	conn net.Conn
	each time.Duration
}

func (b blockWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if err := b.conn.SetWriteDeadline(time.Now().Add(b.each)); err != nil {
			return n, err
		}
		m, err := b.w.Write(p[:min(len(p), blockBytes)])
		n += m
		if err != nil {
			return n, err
		}
		p = p[m:]
	}
	return n, nil
}

func ascii[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// breaksOut reports whether an address would end its angle brackets, or its
// line, before its end, and so smuggle in a parameter or a command. Intake has
// checked addresses; this is the last door.
func breaksOut(addr string) bool {
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
