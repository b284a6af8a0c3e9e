package pg

import (
	"context"
	"io"
	"strings"

	"github.com/uptrace/bun/driver/pgdriver"
)

// CopyIn runs a COPY of what r has. Deferred statements are sent before it.
func (p *Tx) CopyIn(ctx context.Context, r io.Reader, query string) error {
	if len(p.waiting) > 0 {
		if _, err := p.exec(ctx, "SELECT"); err != nil {
			return err
		}
	}
	_, err := pgdriver.CopyFrom(ctx, p.Conn, r, query)
	return err
}

// copyEscapes are those of COPY's text format.
var copyEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`)

// CopyRow reads as one line of COPY's text format.
type CopyRow struct {
	fields []string // what is left of them
	begun  bool     // the first of them has been read in part
	first  bool     // it is not the row's first one
	out    []byte   // what has been escaped and not read
	ended  bool
}

// NewCopyRow is a row of these fields.
func NewCopyRow(fields ...string) *CopyRow { return &CopyRow{fields: fields} }

// copyPiece is how much is escaped at once.
const copyPiece = 8 << 10

func (r *CopyRow) Read(p []byte) (int, error) {
	for len(r.out) == 0 {
		if r.ended {
			return 0, io.EOF
		}
		r.next()
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}

func (r *CopyRow) next() {
	if len(r.fields) == 0 {
		r.out, r.ended = []byte("\n"), true
		return
	}
	var piece strings.Builder
	if r.first && !r.begun {
		piece.WriteByte('\t')
	}
	field := r.fields[0]
	n := min(copyPiece, len(field))
	_, _ = copyEscapes.WriteString(&piece, field[:n]) // a Builder takes all
	if r.begun = n < len(field); r.begun {
		r.fields[0] = field[n:]
	} else {
		r.fields = r.fields[1:]
	}
	r.first = true
	r.out = []byte(piece.String())
}
