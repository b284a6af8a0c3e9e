package mail

import (
	"context"
	"encoding/json"
	"time"

	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/postrider/postrider/db/internal/pg"
)

// notedRow and notedPatch are those of a table that is as emails, and has one more column: what
// a change that adds one writes.
type notedRow struct {
	emailRow
	NotedAt time.Time
}

type notedPatch struct {
	emailPatch
	NotedAt *time.Time `json:"noted_at"`
}

// UpdateNoted is the update of the table noted, and the rows that it writes.
func UpdateNoted(ids []string, at time.Time) (update, rows string, err error) {
	copied := pg.Copier[notedRow, notedPatch]()
	patches := []notedPatch{
		copied(&notedRow{emailRow: emailRow{ID: ids[0], Subject: "not written", Sequence: 7, DateAt: at}, NotedAt: at}),
		copied(&notedRow{emailRow: emailRow{ID: ids[1]}}),
	}
	text, err := json.Marshal(patches)
	return pg.UpdateOf[notedPatch]("noted", "n", "id"), string(text), err
}

// WriteRecipients writes recipients' rows that have these ids.
func (s *Store) WriteRecipients(ctx context.Context, ids []string) error {
	patches := make([]recipientPatch, len(ids))
	for i, id := range ids {
		patches[i].ID = id
	}
	text, err := json.Marshal(patches)
	if err != nil {
		return err
	}
	_, err = writeRecipients.Query(s.db, len(ids), string(text), len(ids), pgdialect.Array(ids)).Exec(ctx)
	return err
}
