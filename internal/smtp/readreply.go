package smtp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxReply bounds a reply, all of its lines together. RFC 5321 section 4.5.3.1.5
// allows 512 bytes a line.
const maxReply = 64 << 10

// maxReplyLine is what RFC 5321 section 4.5.3.1.5 allows a line of a reply.
const maxReplyLine = 512

var (
	errReplyTooLong = fmt.Errorf("the reply has more than %d bytes", maxReply)
	errReplyEndless = fmt.Errorf("the reply has more than %d bytes and no end", maxReplyLine)
)

// readReply reads a reply of one or more lines (RFC 5321 section 4.2.1). One that
// breaks off before its line's end is none: a 250 that may go on is not an answer.
//
// errReplyTooLong is for more than maxReply bytes. errReplyEndless is for a reply that breaks off
// after more bytes than a line may have. With both, code is that of the first line, or 0, and text
// is what was read. The rest of the reply is still to come.
func readReply(r *bufio.Reader) (code int, text string, err error) {
	var lines []string
	for left := maxReply; ; {
		line, err := readLine(r, &left)
		if err != nil {
			if !errors.Is(err, errReplyTooLong) && maxReply-left <= maxReplyLine {
				return 0, "", err
			}
			if c, err := strconv.Atoi(line[:min(3, len(line))]); code == 0 && err == nil && c >= 100 && len(line) > 3 && (line[3] == ' ' || line[3] == '-') {
				code = c
			}
			if !errors.Is(err, errReplyTooLong) {
				err = fmt.Errorf("%w: %w", errReplyEndless, err)
			}
			return code, strings.Join(append(lines, line[min(4, len(line)):]), "\n"), err
		}
		c, err := strconv.Atoi(line[:min(3, len(line))])
		if err != nil || c < 100 || len(line) < 3 || len(line) > 3 && line[3] != ' ' && line[3] != '-' || code != 0 && c != code {
			return 0, line, fmt.Errorf("not a reply: %q", line[:min(len(line), 100)])
		}
		code = c
		lines = append(lines, line[min(4, len(line)):])
		if len(line) == 3 || line[3] == ' ' {
			return code, strings.Join(lines, "\n"), nil
		}
	}
}

// readLine reads up to a line's end, without it, and counts it off from left. With an
// error it gives what was read.
func readLine(r *bufio.Reader, left *int) (string, error) {
	var b strings.Builder
	for {
		part, err := r.ReadSlice('\n')
		if *left -= len(part); *left < 0 {
			return b.String(), errReplyTooLong
		}
		b.Write(part)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return b.String(), io.ErrUnexpectedEOF
		case err != nil:
			return b.String(), err
		default:
			return strings.TrimRight(b.String(), "\r\n"), nil
		}
	}
}
