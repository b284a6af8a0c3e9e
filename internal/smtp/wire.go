package smtp

import (
	"bufio"
	"bytes"
)

var crlf = []byte("\r\n")

// bareLineEnd finds a CR or LF that is not part of a CRLF, which servers take
// for different things (RFC 5321 section 2.3.8); -1 if there is none.
func bareLineEnd(b []byte) int {
	for i, c := range b {
		switch {
		case c == '\r' && (i+1 == len(b) || b[i+1] != '\n'):
			return i
		case c == '\n' && (i == 0 || b[i-1] != '\r'):
			return i
		}
	}
	return -1
}

// writeStuffed writes a message with CRLF line ends, doubling the dot that
// begins a line (RFC 5321 section 4.5.2), up to but without the final dot.
func writeStuffed(w *bufio.Writer, message []byte) error {
	for len(message) > 0 {
		line, rest, found := bytes.Cut(message, crlf)
		if len(line) > 0 && line[0] == '.' {
			if err := w.WriteByte('.'); err != nil {
				return err
			}
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
		// A last line without an end gets one: the dot needs a line of its own.
		if _, err := w.Write(crlf); err != nil {
			return err
		}
		if !found {
			return nil
		}
		message = rest
	}
	return nil
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}
