package db

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/uptrace/bun/driver/pgdriver"
)

// copyBytes is how large texts are that are copied: an INSERT has them in the statement, and
// that in the driver's buffer, each as a buffer that has grown.
const copyBytes = 1 << 20

// large reports whether a content is copied.
func (r *contentRow) large() bool { return len(r.Text)+len(r.HTML)+len(r.Calendar) > copyBytes }

// copyContent inserts a content without making a copy of its texts. It comes behind what was
// to be done before the commit, so that its e-mail is there.
func (c *change) copyContent(r *contentRow) error {
	headers, err := json.Marshal(r.Headers)
	if err != nil {
		return fmt.Errorf("encode headers: %w", err)
	}
	row := &copyRow{fields: []string{r.EmailID, r.Text, strconv.FormatBool(r.TextFromHTML), r.HTML, r.Method, r.Calendar, string(headers)}}
	if err := c.tx.copyIn(c.ctx, row, "COPY contents (email_id, body_text, text_from_html, body_html, calendar_method, calendar, headers) FROM STDIN"); err != nil {
		return fmt.Errorf("insert content: %w", err)
	}
	return nil
}

// copyIn runs a COPY of what r has. What waits is done before.
func (p *pipeline) copyIn(ctx context.Context, r io.Reader, query string) error {
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

// copyRow reads as one line of COPY's text format.
type copyRow struct {
	fields []string // what is left of them
	begun  bool     // the first of them is a rest
	first  bool     // it is not the row's first one
	out    []byte   // what has been escaped and not read
	ended  bool
}

// copyPiece is how much is escaped at once.
const copyPiece = 8 << 10

func (r *copyRow) Read(p []byte) (int, error) {
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

func (r *copyRow) next() {
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
