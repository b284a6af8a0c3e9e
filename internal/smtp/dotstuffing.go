package smtp

import (
	"bytes"
	"io"
	"net"
	"time"
)

// writeStuffed writes a message with CRLF line ends, without the final dot. It doubles a dot that
// begins a line (RFC 5321 section 4.5.2). A last line without an end gets one: the final dot
// needs a line of its own.
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

// blockWriter gives every block of a message a time limit of its own (RFC 5321 section 4.5.3.2.5).
// So a large message may go over a slow line.
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
