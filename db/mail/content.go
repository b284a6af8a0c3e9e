package mail

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/postrider/postrider/db/internal/pg"
)

// copyBytes is how large texts are that are copied: an INSERT has them in the statement, and
// that in the driver's buffer, each as a buffer that has grown.
const copyBytes = 1 << 20

// large reports whether a content is copied.
func (r *contentRow) large() bool { return len(r.Text)+len(r.HTML)+len(r.Calendar) > copyBytes }

// copyContent inserts a content without making a copy of its texts. It comes behind what was
// to be done before the commit, so that its e-mail is there.
func (c *unitOfWork) copyContent(r *contentRow) error {
	headers, err := json.Marshal(r.Headers)
	if err != nil {
		return fmt.Errorf("encode headers: %w", err)
	}
	row := pg.NewCopyRow(r.EmailID, r.Text, strconv.FormatBool(r.TextFromHTML), r.HTML, r.Method, r.Calendar, string(headers))
	if err := c.tx.CopyIn(c.ctx, row, "COPY contents (email_id, body_text, text_from_html, body_html, calendar_method, calendar, headers) FROM STDIN"); err != nil {
		return fmt.Errorf("insert content: %w", err)
	}
	return nil
}
