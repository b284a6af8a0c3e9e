package suppressions

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/internal/suppression"
)

// TakeBack takes back the entry by which the recipient of an e-mail has unsubscribed, in a transaction. It
// reports whether there was one. Entries with another cause stay.
func TakeBack(ctx context.Context, tx bun.IDB, entryID, emailID string) (bool, error) {
	n, err := takeBack(ctx, tx, "id = ? AND email_id = ? AND reason = ? AND source = ?", entryID, emailID, suppression.Unsubscribe, suppression.FromRecipient)
	return n > 0, err
}

// takeBack takes back the entries that a condition selects, and returns how many they were. The entry that one
// of them has replaced comes back, unless it has ended.
func takeBack(ctx context.Context, tx bun.IDB, where string, args ...any) (int, error) {
	var n int
	err := tx.NewRaw(`WITH back AS (
			UPDATE suppressions AS su SET reason = was.reason, source = was.source, email_id = was.email_id, note = was.note,
				expires_at = was.expires_at, created_at = was.created_at, replaced = NULL
			FROM (SELECT id AS of, (jsonb_populate_record(NULL::suppressions, replaced)).* FROM suppressions WHERE `+where+` FOR UPDATE) AS was
			WHERE su.id = was.of AND su.replaced IS NOT NULL AND (was.expires_at IS NULL OR was.expires_at > now()) RETURNING su.id),
		gone AS (DELETE FROM suppressions WHERE `+where+` AND id NOT IN (SELECT id FROM back) RETURNING id)
		SELECT (SELECT count(*) FROM back) + (SELECT count(*) FROM gone)`, append(args, args...)...).Scan(ctx, &n)
	if err != nil {
		return 0, fmt.Errorf("take back suppressions: %w", err)
	}
	return n, nil
}
