package mail_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/postrider/postrider/db/mail"
)

// TestANewColumnIsAFieldOfTheRowAndOneOfThePatch: no statement names it.
func TestANewColumnIsAFieldOfTheRowAndOneOfThePatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Exec(`CREATE TABLE noted (id uuid PRIMARY KEY, noted_at timestamptz)`)
	b.Exec(`DO $$ DECLARE c record; BEGIN
		FOR c IN SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute WHERE attrelid = 'emails'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'id' LOOP
			EXECUTE format('ALTER TABLE noted ADD COLUMN %I %s', c.attname, c.type);
		END LOOP; END $$`)
	ids := []string{uuid.NewString(), uuid.NewString()}
	b.Exec("INSERT INTO noted (id, subject) VALUES (?, 'as it was'), (?, 'as it was')", ids[0], ids[1])
	at := time.Date(2040, 1, 2, 3, 4, 5, 0, time.UTC)
	update, rows, err := mail.UpdateNoted(ids, at)
	require.NoError(t, err)
	b.Exec("PREPARE write_noted(jsonb, bigint, uuid[]) AS " + update)
	b.Exec("EXECUTE write_noted(?, ?, ?)", rows, len(ids), pgdialect.Array(ids))

	var got struct {
		Subject  string
		Sequence int64
		DateAt   time.Time
		NotedAt  time.Time
	}
	require.NoError(t, b.Raw.NewRaw("SELECT subject, sequence, date_at, noted_at FROM noted WHERE id = ?", ids[0]).Scan(t.Context(), &got))
	require.Equal(t, "as it was", got.Subject, "it is no field of the patch")
	require.Equal(t, int64(7), got.Sequence)
	require.True(t, at.Equal(got.DateAt) && at.Equal(got.NotedAt), "%+v", got)
	var nulls bool
	require.NoError(t, b.Raw.NewRaw("SELECT noted_at IS NULL AND date_at IS NULL AND sequence = 0 FROM noted WHERE id = ?", ids[1]).Scan(t.Context(), &nulls))
	require.True(t, nulls)
}

// TestRowsThatAreNotAsTheyWereReadAreNamed.
func TestRowsThatAreNotAsTheyWereReadAreNamed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	missing := []string{uuid.NewString(), uuid.NewString()}
	for _, ids := range [][]string{missing[:1], missing} {
		err := b.Mail.WriteRecipients(t.Context(), ids)
		require.ErrorContains(t, err, "rows of recipients")
		for _, id := range ids {
			require.ErrorContains(t, err, id)
		}
	}
}
