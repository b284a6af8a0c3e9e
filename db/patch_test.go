package db

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun/dialect/pgdialect"
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
	copied := copier[notedRow, notedPatch]()
	patches := []notedPatch{
		copied(&notedRow{emailRow: emailRow{ID: ids[0], Subject: "not written", Sequence: 7, DateAt: at}, NotedAt: at}),
		copied(&notedRow{emailRow: emailRow{ID: ids[1]}}),
	}
	text, err := json.Marshal(patches)
	return updateOf[notedPatch]("noted", "n", "id"), string(text), err
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
	_, err = executed(s.db, sized("write_recipients", len(ids)), string(text), len(ids), pgdialect.Array(ids)).Exec(ctx)
	return err
}

// TestAPatchWithoutItsRowsFieldIsRefused when the program starts.
func TestAPatchWithoutItsRowsFieldIsRefused(t *testing.T) {
	t.Parallel()
	type row struct{ ID string }
	type lacking struct {
		ID    string `json:"id"`
		Other string `json:"other"`
	}
	type another struct {
		ID int `json:"id"`
	}
	type untagged struct{ ID string }
	require.PanicsWithValue(t, "db.lacking.Other: db.row has no such field of this type", func() { copier[row, lacking]() })
	require.NotPanics(t, func() { copier[row, lacking]("Other") })
	require.Panics(t, func() { copier[row, another]() })
	require.Panics(t, func() { updateOf[untagged]("t", "t", "id") })
	type odd struct {
		ID complex128 `json:"id"`
	}
	require.Panics(t, func() { recordset[odd]() })
}
