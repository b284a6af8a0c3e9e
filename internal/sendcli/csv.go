package sendcli

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/internal/mailmerge"
	"github.com/postrider/postrider/internal/plaintext"
)

// csvRow is a recipient with its line number.
type csvRow struct {
	client.BatchRecipient
	line int
}

// maxCSVProblems bounds the problems that are listed of one file.
const maxCSVProblems = 20

// csvFile has the recipients of a batch, and the problems of the lines without one.
type csvFile struct {
	rows []csvRow
	bad  []string
	// notes name the columns that are left out.
	notes []string
}

// err lists the bad lines; nil if there are none.
func (f csvFile) err() error {
	if len(f.bad) == 0 {
		return nil
	}
	return errors.New(strings.Join(f.bad[:min(len(f.bad), maxCSVProblems)], "\n"))
}

// readCSV reads a batch's recipients from a file, or from standard input for -.
func readCSV(file string, stdin io.Reader, used uses) (csvFile, error) {
	data, err := []byte(nil), error(nil)
	if file == "-" {
		data, err = io.ReadAll(stdin)
	} else {
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return csvFile{}, fmt.Errorf("--batch: %w", err)
	}
	place := "--batch " + file + ": "
	f, err := parseCSV(data, used)
	if err != nil {
		return f, errors.New(place + strings.ReplaceAll(err.Error(), "\n", "\n"+place))
	}
	for i := range f.bad {
		f.bad[i] = place + f.bad[i]
	}
	for i := range f.notes {
		f.notes[i] = place + f.notes[i]
	}
	return f, nil
}

// parseCSV reads comma-separated values (RFC 4180). If the first line has no comma, semicolons
// or tabs may separate them. The first line names the columns, in any case: email, name if there
// are names, and variables. It leaves out a column that the message does not use and whose name
// no variable can have, with a note. Its error is why the file as a whole cannot be read.
func parseCSV(data []byte, used uses) (f csvFile, _ error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return f, errors.New("it is UTF-16; save it as CSV in UTF-8")
	}
	if !utf8.Valid(data) {
		return f, fmt.Errorf("line %d: the text is not UTF-8; save it as CSV in UTF-8", 1+bytes.Count(data[:firstInvalid(data)], []byte("\n")))
	}
	if bytes.ContainsRune(data, '\r') && !bytes.ContainsRune(data, '\n') {
		return f, errors.New("its lines end with CR alone; save it with LF or CRLF")
	}
	r := csv.NewReader(bytes.NewReader(data))
	r.FieldsPerRecord = -1 // checked below, with an error that has the line and both numbers
	first, _, _ := bytes.Cut(data, []byte("\n"))
	for _, comma := range ";\t" {
		if !bytes.ContainsRune(first, ',') && bytes.ContainsRune(first, comma) {
			r.Comma = comma
		}
	}
	columns, err := r.Read()
	if errors.Is(err, io.EOF) {
		return f, errors.New("it is empty; its first line names the columns, as email,name,order")
	}
	if err != nil {
		return f, csvError(err)
	}
	if f.notes, err = used.columns(columns); err != nil {
		return f, err
	}
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return f, errors.Join(f.err(), csvError(err)) // the reader has lost the line ends
		}
		line, _ := r.FieldPos(0)
		if len(fields) != len(columns) {
			f.bad = append(f.bad, fmt.Sprintf("line %d: it has %s, the first line names %s", line, plaintext.Count(len(fields), "field", "fields"), plaintext.Count(len(columns), "column", "columns")))
			continue
		}
		row := csvRow{line: line}
		for i, value := range fields {
			switch columns[i] {
			case "": // left out
			case "email":
				row.Email = strings.TrimSpace(value)
			case "name":
				row.Name = strings.TrimSpace(value)
			default:
				if row.Variables == nil {
					row.Variables = make(map[string]string, len(columns))
				}
				row.Variables[columns[i]] = value
			}
		}
		if row.Email == "" {
			f.bad = append(f.bad, fmt.Sprintf("line %d: the column email is empty", line))
			continue
		}
		if row.Name == "" && slices.Contains(columns, "name") {
			if row.Variables == nil {
				row.Variables = map[string]string{}
			}
			row.Variables["name"] = "" // the column exists, so the variable is empty, not missing
		}
		f.rows = append(f.rows, row)
	}
	if len(f.bad) == 0 && len(f.rows) == 0 {
		return f, errors.New("it names columns, but no recipient")
	}
	return f, nil
}

var usedName = regexp.MustCompile(`\{\{([^{}]*)\}\}`)

// uses are the variables that a message uses.
type uses []string

// usesOf finds the variables in all parts of a message that may use them.
func usesOf(m client.Message) (used uses) {
	texts := []string{m.Subject, m.Content.Text, m.Content.HTML}
	for _, h := range m.Headers {
		texts = append(texts, h.Value)
	}
	for _, v := range m.Metadata {
		texts = append(texts, v)
	}
	for _, text := range texts {
		for _, match := range usedName.FindAllStringSubmatch(text, -1) {
			used = append(used, strings.TrimSpace(match[1]))
		}
	}
	return used
}

// name is the name of a column's variable: the column's name, in the case in which the message
// uses it. It is email or name for those columns in any case.
func (u uses) name(column string) string {
	if slices.Contains(u, column) {
		return column
	}
	for _, name := range append([]string{"email", "name"}, u...) {
		if strings.EqualFold(name, column) {
			return name
		}
	}
	return column
}

// columns replaces the columns by the names of their variables. A column that is left out
// becomes "", with a note. It refuses columns that the message uses and that cannot be
// variables.
func (u uses) columns(columns []string) (notes []string, _ error) {
	var wrong []error
	seen := map[string]bool{}
	given := make([]string, len(columns))
	for i, column := range columns {
		given[i] = strings.TrimSpace(column)
		name := u.name(given[i])
		columns[i] = name
		switch {
		case seen[name] && name != "":
			wrong = append(wrong, fmt.Errorf("line 1: column %d, %q: it is there twice; rename one of them", i+1, given[i]))
		case mailmerge.VariableName.MatchString(name):
		case slices.Contains(u, name):
			wrong = append(wrong, fmt.Errorf("line 1: column %d, %q: its name is a variable's, 1 to 64 of the characters A-Z a-z 0-9 _ . -, no digit first; rename it", i+1, given[i]))
		default:
			columns[i] = ""
			notes = append(notes, fmt.Sprintf("line 1: column %d, %q: it is left out: the message does not use it, and no variable can have its name", i+1, given[i]))
		}
		seen[name] = true
	}
	if !seen["email"] {
		wrong = append(wrong, fmt.Errorf("line 1: no column is named email; there are %s", strings.Join(given, ", ")))
	}
	return notes, errors.Join(wrong...)
}

// csvError replaces the parser's errors about quotes by ones that say how to correct them.
func csvError(err error) error {
	p, ok := errors.AsType[*csv.ParseError](err)
	switch {
	case !ok:
		return err
	case errors.Is(err, csv.ErrQuote) && p.StartLine != p.Line:
		return fmt.Errorf("line %d: the quote that opens there is not closed, or a quote inside of it is not doubled", p.StartLine)
	case errors.Is(err, csv.ErrQuote), errors.Is(err, csv.ErrBareQuote):
		return fmt.Errorf(`line %d: a quote is not closed, or stands inside of a field; put the field into quotes and double those in it: "say ""hi"""`, p.Line)
	}
	return fmt.Errorf("line %d: %w", p.Line, p.Err)
}

// firstInvalid is the offset of the first byte that is not UTF-8.
func firstInvalid(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size <= 1 {
			return i
		}
		i += size
	}
	return len(data)
}
