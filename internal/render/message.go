package render

import (
	"bytes"
	netmail "net/mail"

	"github.com/postrider/postrider/internal/header"
)

// messageType is a message as a part of another one.
const messageType = "message/rfc822"

// carriedAsMessage reports whether content can be a part of the type message/rfc822. Such a
// part has no other encoding than 7bit, 8bit or binary (RFC 2046 section 5.2.1). Only 7bit is
// used: a relay without 8BITMIME would refuse 8bit, or convert it, which breaks signatures.
// Other content goes as a file of no known type, in base64, and loses nothing.
func carriedAsMessage(content []byte, c Composition) bool {
	line := 0
	for i, b := range content {
		switch {
		case b == '\n':
			line = 0
			continue
		case b == '\r' && i+1 < len(content) && content[i+1] == '\n':
			continue
		case b == 0 || b == '\r' || b >= 0x80:
			return false
		}
		if line++; line > header.MaxLine {
			return false
		}
	}
	for _, kind := range []string{"mixed", "related"} {
		if bytes.Contains(content, []byte("--"+boundary(c.EmailID, kind))) {
			return false // it would end the part that it stands in
		}
	}
	m, err := netmail.ReadMessage(bytes.NewReader(content))
	return err == nil && len(m.Header) > 0
}

// writeCRLF writes content whose lines end in CRLF or LF.
func writeCRLF(out *bytes.Buffer, content []byte) {
	for len(content) > 0 {
		line, rest, found := bytes.Cut(content, []byte("\n"))
		content = rest
		if !found {
			out.Write(line)
			return
		}
		out.Write(bytes.TrimSuffix(line, []byte("\r")))
		out.WriteString("\r\n")
	}
}

// crlfLen is what writeCRLF writes.
func crlfLen(content []byte) int64 {
	return int64(len(content) + bytes.Count(content, []byte("\n")) - bytes.Count(content, []byte("\r\n")))
}
