package suppression

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"
	"time"
)

// ExportLot is how many entries are read at once for a file.
const ExportLot = 5000

// Export writes entries in our own format. An import of the file makes the same entries.
type Export struct{ csv *csv.Writer }

// NewExport begins a file, with its header if it is the first part.
func NewExport(out io.Writer, first bool) (*Export, error) {
	e := &Export{csv.NewWriter(out)}
	if !first {
		return e, nil
	}
	return e, e.csv.Write(Columns())
}

// Write writes entries. An entry whose address was erased is left out, because it cannot be imported.
func (e *Export) Write(entries []Entry) error {
	for _, entry := range entries {
		if entry.Address == "" {
			continue
		}
		err := e.csv.Write([]string{
			entry.Address, string(entry.Scope), entry.Stream(), entry.Topic(), string(entry.Reason), quoteFormula(entry.Note), timestamp(entry.ExpiresAt), timestamp(entry.CreatedAt),
		})
		if err != nil {
			return fmt.Errorf("write an entry: %w", err)
		}
	}
	e.csv.Flush()
	return e.csv.Error()
}

func timestamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// formula are the characters that a spreadsheet takes for the beginning of a formula.
const formula = "=+-@\t"

// quoteFormula puts a ' before a note that a spreadsheet would take for a formula, behind any number of
// ' that are there. unquoteFormula takes one away. Addresses have none added: ' may begin an address, so
// another mailbox would be meant.
func quoteFormula(note string) string {
	if isFormula(note) {
		return "'" + note
	}
	return note
}

func unquoteFormula(note string) string {
	if strings.HasPrefix(note, "'") && isFormula(note) {
		return note[1:]
	}
	return note
}

func isFormula(note string) bool {
	rest := strings.TrimLeft(note, "'")
	return rest != "" && strings.ContainsRune(formula, rune(rest[0]))
}
