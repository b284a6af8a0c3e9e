package mailread

import (
	"bytes"
	"strings"
)

// Field is one header field. Value is as it was written, line ends included.
type Field struct {
	Name  string
	Value []byte
}

// Fields reads the fields at the start of block, in their order. It leaves out
// lines that are no fields, such as the "From " line of an mbox; odd says that
// there are such lines.
//
// body is where the text begins: behind the empty line (RFC 5322 §2.1). Where a header
// ends without one, the text begins at the first line behind the last field. A block
// without any field is text from its first byte.
func Fields(block []byte) (list []Field, body int, odd bool) {
	return scanFields(block, func([]byte) bool { return true })
}

// scanFields is Fields, but lists those fields alone whose name is wanted.
func scanFields(block []byte, wanted func(name []byte) bool) (list []Field, body int, odd bool) {
	open, listed, stray, at := false, false, -1, 0
	found := false // a field, listed or not
	for at < len(block) {
		next := lineEnd(block, at)
		line := block[at:next]
		if isBlank(line) {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			if open { // a continuation: it lies directly behind what the field has so far
				if listed {
					last := &list[len(list)-1]
					last.Value = last.Value[:len(last.Value)+len(line)]
				}
				at = next
				continue
			}
			if !found {
				line = bytes.TrimLeft(line, " \t") // a first field that was indented
			}
		}
		if name, value, ok := splitField(line); ok {
			if listed = wanted(name); listed {
				list = append(list, Field{Name: string(name), Value: value})
			}
			open, found, stray = true, true, -1
		} else {
			open, odd = false, true
			if stray < 0 {
				stray = at
			}
			if bytes.HasPrefix(line, []byte("--")) && found {
				break // a delimiter line: the empty line before it is missing
			}
		}
		at = next
	}
	switch {
	case !found && odd:
		return nil, 0, true
	case stray >= 0:
		return list, stray, true
	case at < len(block):
		return list, lineEnd(block, at), odd
	default:
		return list, at, odd
	}
}

// splitField parts a line at its colon. White space before the colon is
// obsolete syntax (RFC 5322 §4.5).
func splitField(line []byte) (name, value []byte, ok bool) {
	n, value, ok := bytes.Cut(line, []byte(":"))
	n = bytes.TrimRight(n, " \t")
	if !ok || len(n) == 0 {
		return nil, nil, false
	}
	for _, c := range n { // RFC 5322 §2.2: printable ASCII but the colon
		if c <= ' ' || c >= 0x7f {
			return nil, nil, false
		}
	}
	return n, value, true
}

// Unfold removes the line ends of a field's value (RFC 5322 §2.2.3). A tab that
// begins a continuation line becomes a space, so that a folded value reads as the
// same value on one line.
func Unfold(value []byte) string {
	if bytes.IndexByte(value, '\n') >= 0 {
		value = bytes.ReplaceAll(value, []byte("\n\t"), []byte("\n "))
		value = bytes.ReplaceAll(value, []byte("\n"), nil)
	}
	return strings.TrimSpace(strings.ReplaceAll(string(value), "\r", ""))
}

// First is the unfolded value of the first field of a name, in any case.
func First(list []Field, name string) string {
	for _, f := range list {
		if strings.EqualFold(f.Name, name) {
			return Unfold(f.Value)
		}
	}
	return ""
}

// Lines replaces the line ends of a message whose lines end in CR alone by LF, and cr
// reports that. It works in place, since a message may have 50 MB. Such lines stand for
// ones that end in CRLF. Lines removes a byte order mark. It returns any other message as
// it is.
func Lines(raw []byte) (lines []byte, cr bool) {
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
	first := raw
	if at := bytes.IndexByte(raw, '\n'); at >= 0 {
		first = bytes.TrimRight(raw[:at], "\r")
	}
	// Behind the first CR there are more lines of a header, as far as one can see.
	_, rest, found := bytes.Cut(first, []byte("\r"))
	for found {
		var line []byte
		line, rest, found = bytes.Cut(rest, []byte("\r"))
		if _, _, ok := splitField(line); ok || len(line) == 0 && found {
			endInLF(raw)
			return raw, true
		}
		if len(line) == 0 || line[0] != ' ' && line[0] != '\t' {
			break
		}
	}
	return raw, false
}

// endInLF makes LF of CR alone.
func endInLF(raw []byte) {
	for i, c := range raw {
		if c == '\r' && (i+1 == len(raw) || raw[i+1] != '\n') {
			raw[i] = '\n'
		}
	}
}

// lineEnd is the offset behind the line that begins at at.
func lineEnd(b []byte, at int) int {
	if end := bytes.IndexByte(b[at:], '\n'); end >= 0 {
		return at + end + 1
	}
	return len(b)
}

// isBlank: nothing but its line end. CR CR LF occurs.
func isBlank(line []byte) bool { return len(bytes.TrimRight(line, "\r\n")) == 0 }
