package inbound

import (
	"bufio"
	"errors"
	"io"
)

// copyData reads the message that follows DATA up to and including its end, and
// writes it to dst as the client meant it (RFC 5321 §4.1.1.4, §4.5.2):
//
//   - A line ends in CRLF and in nothing else. A CR or LF alone is a byte like any
//     other, also a CR before CRLF, and is kept.
//   - The line that is a dot alone ends the message, and only that line. It is not
//     part of the message.
//   - Of any other line that begins with a dot, that dot is taken away.
//
// Lines have no limit in length: BDAT has none, and the same message has to be stored
// either way.
//
// src stands behind the end of the message afterwards, also where dst failed: what
// the client sends next is a command. The error of dst is stored, that of src read; a
// message with either is not whole. The end of src before the end of the message is
// io.ErrUnexpectedEOF.
func copyData(dst io.Writer, src *bufio.Reader) (stored, read error) {
	lineStart := true
	afterCR := false // the last byte before this fragment is a CR of the same line
	for {
		// A fragment ends in LF or fills the buffer, so that the end of the message,
		// three bytes, is never in two fragments.
		fragment, err := src.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return stored, err
		}
		if lineStart && string(fragment) == ".\r\n" {
			return stored, nil
		}
		kept := fragment
		if lineStart && fragment[0] == '.' {
			kept = fragment[1:]
		}
		n := len(fragment)
		lineStart = fragment[n-1] == '\n' && (n > 1 && fragment[n-2] == '\r' || n == 1 && afterCR)
		afterCR = fragment[n-1] == '\r'
		if stored == nil {
			_, stored = dst.Write(kept)
		}
	}
}
