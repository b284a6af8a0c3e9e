package suppression

import (
	"bufio"
	"errors"
	"io"
	"strings"
)

const (
	// maxRecordBytes limits a record, which may have several lines.
	maxRecordBytes = 64 << 10
	// maxRecordFields limits the fields of a record; further ones make it unreadable.
	maxRecordFields = 64
)

// records reads the records of a CSV file (RFC 4180), and the lines of any other, in bounded memory. A
// record that cannot be read ends with its first line: the next one begins in the next line, so that a
// quote that is never closed takes no other record with it.
type records struct {
	in *bufio.Reader
	// separator is between two fields.
	separator byte
	// ahead[taken:] are lines that have been read and not taken. line is the number of the last one taken.
	ahead []textLine
	taken int
	line  int
	ended error
}

// errEnd is the error behind the last line. Readers may wrap io.EOF where a file has broken off.
var errEnd = errors.New("the file has ended")

// textLine is a line without its end. tooLong: it has more than maxRecordBytes, and text is empty.
type textLine struct {
	text    string
	tooLong bool
}

// record is one record of a file.
type record struct {
	// line is the number of its first line, from 1.
	line   int
	fields []string
	// unreadable says why there are no fields.
	unreadable string
}

func newRecords(in io.Reader) *records {
	return &records{in: bufio.NewReaderSize(in, maxRecordBytes), separator: ','}
}

// peek returns the n-th line that has not been taken; errEnd behind the last one.
func (r *records) peek(n int) (textLine, error) {
	for len(r.ahead)-r.taken <= n {
		if r.ended != nil {
			return textLine{}, r.ended
		}
		line, err := r.read()
		if err != nil {
			r.ended = err
			return textLine{}, err
		}
		r.ahead = append(r.ahead, line)
	}
	return r.ahead[r.taken+n], nil
}

// take passes over n lines.
func (r *records) take(n int) {
	r.line += n
	if r.taken += n; r.taken == len(r.ahead) {
		r.ahead, r.taken = r.ahead[:0], 0
	}
}

func (r *records) read() (textLine, error) {
	part, err := r.in.ReadSlice('\n')
	tooLong := false
	for errors.Is(err, bufio.ErrBufferFull) {
		tooLong = true
		part, err = r.in.ReadSlice('\n')
	}
	switch {
	case err == io.EOF && len(part) == 0 && !tooLong:
		return textLine{}, errEnd
	case err != nil && err != io.EOF:
		return textLine{}, err
	case tooLong:
		return textLine{tooLong: true}, nil
	}
	return textLine{text: strings.TrimSuffix(strings.TrimSuffix(string(part), "\n"), "\r")}, nil
}

// next returns the next record; errEnd behind the last one. Empty lines are passed over.
func (r *records) next() (record, error) {
	for {
		first, err := r.peek(0)
		if err != nil {
			return record{}, err
		}
		if first.tooLong {
			r.take(1)
			return record{line: r.line, unreadable: "the line has more than 65536 bytes"}, nil
		}
		if strings.TrimSpace(first.text) == "" {
			r.take(1)
			continue
		}
		rec, lines, err := r.parse()
		if err != nil {
			return record{}, err
		}
		rec.line = r.line + 1
		r.take(lines)
		return rec, nil
	}
}

// parse reads the record that begins in the first line that has not been taken, and how many lines it has.
// It takes none of them.
func (r *records) parse() (rec record, of int, err error) {
	p := fieldParser{separator: r.separator}
	bytes, lines := 0, 0
	for {
		line, err := r.peek(lines)
		if err != nil && !errors.Is(err, errEnd) {
			return record{}, 0, err
		}
		if lines++; err != nil || line.tooLong || bytes+len(line.text) > maxRecordBytes {
			return record{unreadable: "a quoted field that begins here does not end; write a quote inside of a quoted field twice"}, 1, nil
		}
		bytes += len(line.text) + 1
		switch p.line(line.text); {
		case p.problem != "":
			return record{unreadable: p.problem}, 1, nil
		case !p.quoted:
			return record{fields: p.fields}, lines, nil
		}
	}
}

// fieldParser takes a record apart, line by line.
type fieldParser struct {
	separator byte
	fields    []string
	field     strings.Builder
	// quoted: the record goes on in the next line, inside of a quoted field.
	quoted  bool
	problem string
}

// line reads one more line of the record.
func (p *fieldParser) line(text string) {
	if p.quoted {
		p.field.WriteByte('\n')
	}
	begins := !p.quoted // of a field
	for p.problem == "" {
		if begins && strings.HasPrefix(text, `"`) {
			p.quoted, text = true, text[1:]
		}
		if p.quoted {
			var ended bool
			if text, ended = p.untilQuote(text); !ended {
				return
			}
		} else {
			plain, _, _ := strings.Cut(text, string(p.separator))
			p.field.WriteString(plain)
			text = text[len(plain):]
		}
		p.endField()
		if text == "" {
			return
		}
		text, begins = text[1:], true // behind the separator
	}
}

// untilQuote reads a quoted field up to its closing quote. It returns the rest of the line, which begins
// with a separator or is empty. ended is false if the field goes on in the next line.
func (p *fieldParser) untilQuote(text string) (rest string, ended bool) {
	for {
		inside, after, found := strings.Cut(text, `"`)
		p.field.WriteString(inside)
		switch {
		case !found:
			return "", false
		case strings.HasPrefix(after, `"`): // a quote that is written twice
			p.field.WriteByte('"')
			text = after[1:]
			continue
		case after != "" && after[0] != p.separator:
			p.problem = "there is text behind the closing quote of a field; write a quote inside of a quoted field twice"
		}
		p.quoted = false
		return after, true
	}
}

func (p *fieldParser) endField() {
	if len(p.fields) == maxRecordFields {
		p.problem = "there are more than 64 fields"
		return
	}
	p.fields = append(p.fields, p.field.String())
	p.field.Reset()
}

// separatorOf guesses what separates the fields of a file by its first line.
func separatorOf(header string) byte {
	best, most := byte(','), 0
	for _, candidate := range []byte{',', ';', '\t'} {
		if n := strings.Count(header, string(candidate)); n > most {
			best, most = candidate, n
		}
	}
	return best
}
