package suppression

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/postrider/postrider/email"
)

// Limits of a file.
const (
	// MaxImportBytes limits a file, MaxImportLines its lines besides the header.
	MaxImportBytes = 200 << 20
	MaxImportLines = 1_000_000
	// MaxProblems limits the problems in a report.
	MaxProblems = 1000

	// A lot is stored at once: at most lotEntries, or fewer with lotBytes of text.
	lotEntries = 2500
	lotBytes   = 512 << 10
)

// Lot are entries of a file that are stored at once, each once.
type Lot struct {
	Entries []Entry
	// KeepReason, KeepNote: the file does not say these, so entries that are there keep theirs.
	KeepReason, KeepNote bool
}

// Counts are what became of the entries of a lot.
type Counts struct{ Added, Changed, Unchanged int }

// Report is what became of a file.
type Report struct {
	Format Format
	// Read counts the records, of which Refused were not valid. The others are in Counts.
	Read, Refused int
	Counts
	// Problems are those of the refused records, at most MaxProblems.
	Problems []LineProblem
}

// LineProblem is what is wrong with a record.
type LineProblem struct {
	// Line is the number of the record's first line, from 1. The header counts.
	Line int
	// Column is the name of the column in the file, empty if the whole record is meant.
	Column, Code, Detail string
}

// Import reads entries of a file.
type Import struct {
	Rules Rules
	// Format is that of the file; empty recognises it by the first line.
	Format Format
	// Reason is that of all entries; empty takes what the file says.
	Reason Reason
	// Put stores a lot, which stays stored if a later one fails.
	Put func(context.Context, Lot) (Counts, error)
}

// Read stores the entries of a file, lot by lot. It refuses a file whose format it does not know, with
// CodeInvalidRequest, before it stores anything; a record that is not valid stops nothing. An error of in,
// of Put or of ctx ends it; the report says what was stored before.
func (i Import) Read(ctx context.Context, in io.Reader) (Report, error) {
	r := &reading{Import: i, ctx: ctx, records: newRecords(in), inLot: map[lotKey]int{}}
	if err := r.begin(); err != nil {
		return r.report, err
	}
	for {
		rec, err := r.record()
		if errors.Is(err, errEnd) {
			return r.report, r.flush()
		}
		if err != nil {
			return r.report, err
		}
		r.report.Read++
		if err := r.add(rec); err != nil {
			return r.report, err
		}
		if err := ctx.Err(); err != nil {
			return r.report, err
		}
	}
}

// lotKey is what an entry is found by within its list.
type lotKey struct {
	address string
	scope   Scope
	target  string
}

// reading is the state of an import.
type reading struct {
	Import
	ctx     context.Context //nolint:containedctx // it lives as long as Read
	records *records
	layout  *layout
	report  Report

	lot   []Entry
	bytes int
	inLot map[lotKey]int
}

// unknownFormat refuses a file.
func unknownFormat(detail string) error {
	f := email.Fail(email.CodeInvalidRequest, "the file cannot be imported: %s", detail)
	f.Fields = []email.FieldError{{Pointer: "", Code: codeUnsupported, Detail: detail}}
	return f
}

// begin finds out the format by the first line.
func (r *reading) begin() error {
	first, err := r.firstLine()
	if errors.Is(err, errEnd) {
		return unknownFormat("it is empty")
	}
	if err != nil {
		return err
	}
	if strings.HasPrefix(strings.TrimSpace(first), "{") && (r.Format == "" || r.Format == FormatSES) {
		return r.beginJSON(first)
	}
	if separator, named := strings.CutPrefix(first, "sep="); named && len(separator) == 1 {
		r.records.take(1) // a line for Excel
		if _, err := r.firstLine(); errors.Is(err, errEnd) {
			return unknownFormat("it is empty")
		} else if err != nil {
			return err
		}
		r.records.separator = separator[0]
	} else {
		r.records.separator = separatorOf(first)
	}
	if r.Format == FormatList {
		r.records.separator = ','
	}
	rec, lines, err := r.records.parse()
	if err != nil {
		return err
	}
	if rec.unreadable != "" {
		return unknownFormat("its first line cannot be read: " + rec.unreadable)
	}
	l, header, problem := recognise(rec.fields, r.Format)
	if problem != "" {
		return unknownFormat(problem)
	}
	if r.layout, r.report.Format = l, l.format; header {
		r.records.take(lines)
	}
	return nil
}

// firstLine is the first line that is not empty, without a byte order mark. It is not taken.
func (r *reading) firstLine() (string, error) {
	for {
		line, err := r.records.peek(0)
		if err != nil {
			return "", err
		}
		if line.tooLong {
			return "", unknownFormat("its first line has more than 65536 bytes")
		}
		text := strings.TrimPrefix(line.text, "\ufeff")
		if strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") {
			return "", unknownFormat("it is UTF-16; save it as CSV UTF-8")
		}
		if strings.TrimSpace(text) != "" {
			r.records.ahead[r.records.taken].text = text
			return text, nil
		}
		r.records.take(1)
	}
}

func (r *reading) beginJSON(first string) error {
	object, ok := fieldsOfJSON(first)
	if !ok || object["emailaddress"] == "" {
		return unknownFormat(`it begins with {, and the first line is no object with the member EmailAddress: give one object a line, as jq -c '.SuppressedDestinationSummaries[]' makes them`)
	}
	r.layout, r.report.Format = &layout{format: FormatSES, json: true, reasons: true, columns: map[string]int{}}, FormatSES
	return nil
}

// record reads the next record; of JSON, the line is the only field.
func (r *reading) record() (record, error) {
	if !r.layout.json {
		return r.records.next()
	}
	for {
		line, err := r.records.peek(0)
		if err != nil {
			return record{}, err
		}
		if r.records.take(1); strings.TrimSpace(line.text) != "" || line.tooLong {
			return record{line: r.records.line, fields: []string{line.text}}, nil
		}
	}
}

// add checks a record and puts its entry into the lot.
func (r *reading) add(rec record) error {
	if rec.unreadable != "" {
		r.refuse(rec.line, []Problem{{"", "malformed", rec.unreadable}})
		return nil
	}
	row := row{layout: r.layout, fields: rec.fields}
	for _, f := range rec.fields {
		if !utf8.ValidString(f) {
			r.refuse(rec.line, []Problem{{"", codeUTF8, "the line is not valid UTF-8; save the file as CSV UTF-8"}})
			return nil
		}
	}
	if r.layout.json {
		var ok bool
		if row.object, ok = fieldsOfJSON(rec.fields[0]); !ok {
			r.refuse(rec.line, []Problem{{"", "malformed", "the line is no JSON object"}})
			return nil
		}
	}
	draft, problems := row.draft()
	if r.Reason != "" {
		draft.Reason = string(r.Reason)
		problems = withoutReason(problems)
	}
	entry, more := r.Rules.Entry(draft)
	if problems = append(problems, more...); len(problems) > 0 {
		r.refuse(rec.line, problems)
		return nil
	}
	return r.collect(entry)
}

// withoutReason leaves out the problems of a reason that does not count.
func withoutReason(problems []Problem) (out []Problem) {
	for _, p := range problems {
		if p.Member != "suppressionreason" && p.Member != memberReason {
			out = append(out, p)
		}
	}
	return out
}

func (r *reading) refuse(line int, problems []Problem) {
	r.report.Refused++
	if len(r.report.Problems) < MaxProblems {
		p := problems[0]
		r.report.Problems = append(r.report.Problems, LineProblem{line, r.layout.column(p.Member), p.Code, p.Detail})
	}
}

// collect puts an entry into the lot. An entry that the lot has already is replaced: the last one counts,
// as it would in two lots.
func (r *reading) collect(e Entry) error {
	key := lotKey{e.Address, e.Scope, e.Target}
	if at, twice := r.inLot[key]; twice {
		earlier := r.lot[at]
		e.CreatedAt = earlier.CreatedAt
		if e == earlier {
			r.report.Unchanged++
		} else {
			r.report.Changed++
		}
		r.lot[at] = e
		return nil
	}
	r.inLot[key] = len(r.lot)
	r.lot = append(r.lot, e)
	r.bytes += len(e.Address) + len(e.Note) + len(e.Target)
	if len(r.lot) == lotEntries || r.bytes >= lotBytes {
		return r.flush()
	}
	return nil
}

func (r *reading) flush() error {
	if len(r.lot) == 0 {
		return nil
	}
	l := r.layout
	counts, err := r.Put(r.ctx, Lot{Entries: r.lot, KeepReason: !l.reasons && r.Reason == "", KeepNote: !l.notes})
	if err != nil {
		return fmt.Errorf("store entries: %w", err)
	}
	r.report.Added += counts.Added
	r.report.Changed += counts.Changed
	r.report.Unchanged += counts.Unchanged
	r.lot, r.bytes = r.lot[:0], 0
	clear(r.inLot)
	return nil
}

// ErrTooManyLines is the error of a LineLimit.
var ErrTooManyLines = errors.New("the file has too many lines")

// LineLimit is a reader that returns ErrTooManyLines behind MaxImportLines and a header.
type LineLimit struct {
	From  io.Reader
	lines int
}

func (l *LineLimit) Read(p []byte) (int, error) {
	n, err := l.From.Read(p)
	if l.lines += bytes.Count(p[:n], []byte{'\n'}); l.lines > MaxImportLines+1 {
		return 0, ErrTooManyLines
	}
	return n, err
}
