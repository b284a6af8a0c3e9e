package inbound

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// copyData reads the message that follows DATA up to and including its end. It writes the
// message to dst as the client meant it (RFC 5321 §4.1.1.4, §4.5.2):
//
//   - A line ends in CRLF and in nothing else. A CR or LF alone is kept as any other
//     byte, also a CR before CRLF.
//   - The line that is a dot alone ends the message, and only that line. It is not
//     part of the message.
//   - Of any other line that begins with a dot, that dot is taken away.
//
// Lines have no limit in length: BDAT has none, and the same message has to be stored
// either way. copyData looks only for lines that begin with a dot. It writes the buffer
// of src in one piece up to the next of them.
//
// src stands behind the end of the message afterwards, also where dst failed: the next
// line of the client is a command. stored is the error of dst, and read is that of src. A
// message with either is not whole. The end of src before the end of the message is
// io.ErrUnexpectedEOF.
//
// Once dst has failed, what is left of the message is read and thrown away, as many bytes
// as rest says for that error; a longer rest is errRestTooLong.
func copyData(dst io.Writer, src *bufio.Reader, rest func(stored error) int64) (stored, read error) {
	var left int64
	write := func(p []byte) error {
		if stored == nil {
			if _, stored = dst.Write(p); stored != nil {
				left = rest(stored)
			}
		} else if left -= int64(len(p)); left < 0 {
			return errRestTooLong
		}
		_, err := src.Discard(len(p))
		return err
	}
	for lineStart := true; ; {
		if lineStart {
			ended, err := afterDot(src)
			if ended || err != nil {
				return stored, err
			}
			lineStart = false
		}
		buffered, err := atLeast(src, 1)
		if err != nil {
			return stored, err
		}
		n := len(buffered)
		if i := bytes.Index(buffered, lineWithDot); i >= 0 {
			n, lineStart = i+len(lineEnd), true
		} else if bytes.HasSuffix(buffered, lineEnd) {
			lineStart = true
		} else if buffered[n-1] == '\r' { // its LF may be to come
			if n--; n == 0 {
				if buffered, err = atLeast(src, 2); err != nil {
					return stored, err
				}
				n = 1
				if buffered[1] == '\n' {
					n, lineStart = 2, true
				}
			}
		}
		if err := write(buffered[:n]); err != nil {
			return stored, err
		}
	}
}

var (
	lineEnd     = []byte("\r\n")
	lineWithDot = []byte("\r\n.")
	dataEnd     = []byte(".\r\n")
)

// errRestTooLong: a message that is not stored goes on for too long to be read to its end.
var errRestTooLong = errors.New("the rest of a message that is not stored is too long")

// afterDot reads the dot at the beginning of a line, if there is one. ended says that the line
// was the end of the message, which is read, too.
func afterDot(src *bufio.Reader) (ended bool, err error) {
	start, err := atLeast(src, 1)
	if err != nil || start[0] != '.' {
		return false, err
	}
	// No message ends before two more bytes.
	if start, err = atLeast(src, len(dataEnd)); err != nil {
		return false, err
	}
	n := 1
	if bytes.HasPrefix(start, dataEnd) {
		n, ended = len(dataEnd), true
	}
	_, err = src.Discard(n)
	return ended, err
}

// atLeast is what src has buffered, at least n bytes. It waits only until there are as many.
func atLeast(src *bufio.Reader, n int) ([]byte, error) {
	if _, err := src.Peek(n); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return src.Peek(src.Buffered())
}
