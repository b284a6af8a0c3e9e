package dkim

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
)

// ErrMessage says that a message cannot be signed. Another try yields the same.
var ErrMessage = errors.New("the message cannot be signed")

// field is a header field. Both parts are slices of the message.
type field struct {
	// name is without white space before the colon.
	name []byte
	// value is what follows the colon, without the last CRLF. It may be folded.
	value []byte
}

// split divides a message at its first empty line. A message without one has no body.
func split(message []byte) (fields []field, body []byte, err error) {
	for rest := message; len(rest) > 0; {
		at := len(message) - len(rest)
		line, after, ok := cutLine(rest)
		if !ok {
			return nil, nil, fmt.Errorf("%w: "+bareLineEnd, ErrMessage, "header", at)
		}
		name, value, found := bytes.Cut(line, []byte(":"))
		switch name = bytes.TrimRight(name, wsp); {
		case len(line) == 0:
			return fields, after, nil
		case isWSP(line[0]) && len(fields) > 0:
			last := &fields[len(fields)-1]
			last.value = last.value[:len(last.value)+len("\r\n")+len(line)] // the message goes on there
		case !found || !fieldName(name):
			return nil, nil, fmt.Errorf("%w: the line at byte %d of its header is no field (name: value)", ErrMessage, at)
		default:
			fields = append(fields, field{name, value})
		}
		rest = after
	}
	return fields, nil, nil
}

// fieldName reports whether a field may have this name (RFC 5322 section 3.6.8).
func fieldName(name []byte) bool {
	for _, c := range name {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(name) > 0
}

// bareLineEnd takes the part of the message, and the first byte of the line.
const bareLineEnd = "the line at byte %[3]d of its %[2]s has a CR or LF that is not part of a CRLF: end lines with CRLF"

// cutLine divides b behind its first line. The last line may lack its CRLF. It is not ok if the line
// has another CR or LF (RFC 5321 section 2.3.8).
func cutLine(b []byte) (line, rest []byte, ok bool) {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		line = b
	} else {
		line, rest = bytes.TrimSuffix(b[:end], crlf[:1]), b[end+1:]
	}
	return line, rest, len(line) != end && bytes.IndexByte(line, '\r') < 0
}

const wsp = " \t"

func isWSP(c byte) bool { return c == ' ' || c == '\t' }

// appendField appends a field in the form relaxed (RFC 6376 section 3.4.2), without its CRLF.
func appendField(to, name, value []byte) []byte {
	to = append(append(to, bytes.ToLower(name)...), ':')
	begin, gap := len(to), false
	for _, c := range value {
		switch {
		case c == '\r' || c == '\n': // of a folded line
		case isWSP(c):
			gap = true
		default:
			if gap && len(to) > begin {
				to = append(to, ' ')
			}
			to, gap = append(to, c), false
		}
	}
	return to
}

// hashBody is the SHA-256 sum of a body in the form relaxed (RFC 6376 section 3.4.4). An empty
// body, and one of empty lines, is no bytes. A last line without an end gets one.
func hashBody(body []byte) ([]byte, error) {
	w := blocks{hash: sha256.New(), buffer: make([]byte, 0, blockBytes)}
	empty := 0 // lines that count only if another follows
	for rest := body; len(rest) > 0; {
		line, after, ok := cutLine(rest)
		if !ok {
			return nil, fmt.Errorf("%w: "+bareLineEnd, ErrMessage, "body", len(body)-len(rest))
		}
		rest = after
		end := len(line)
		for end > 0 && isWSP(line[end-1]) {
			end--
		}
		if end == 0 {
			empty++
			continue
		}
		for ; empty > 0; empty-- {
			w.write(crlf)
		}
		w.relaxed(line[:end])
		w.write(crlf)
	}
	w.hash.Write(w.buffer)
	return w.hash.Sum(nil), nil
}

// blocks hashes many short pieces as a few long ones.
type blocks struct {
	hash   hash.Hash
	buffer []byte
}

const blockBytes = 4 << 10

// They are variables: a conversion at each write would take memory.
var crlf, space = []byte("\r\n"), []byte(" ")

func (w *blocks) write(p []byte) {
	if len(w.buffer)+len(p) > cap(w.buffer) {
		w.hash.Write(w.buffer)
		w.buffer = w.buffer[:0]
	}
	if len(p) > cap(w.buffer) {
		w.hash.Write(p)
		return
	}
	w.buffer = append(w.buffer, p...)
}

// relaxed writes a line with one space for each run of white space.
func (w *blocks) relaxed(line []byte) {
	from := 0
	for i := 0; i < len(line); i++ {
		if !isWSP(line[i]) {
			continue
		}
		run := i
		for i++; i < len(line) && isWSP(line[i]); i++ {
		}
		if i-run > 1 || line[run] == '\t' {
			w.write(line[from:run])
			w.write(space)
			from = i
		}
	}
	w.write(line[from:])
}
