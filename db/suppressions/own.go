package suppressions

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/internal/suppression"
)

// TakeBack deletes the entry by which the recipient of an e-mail has unsubscribed, in a transaction. It reports
// whether there was one. Entries with another cause stay.
func TakeBack(ctx context.Context, tx bun.IDB, entryID, emailID string) (bool, error) {
	res, err := tx.NewDelete().Model((*entryRow)(nil)).Where("id = ?", entryID).Where("email_id = ?", emailID).
		Where("reason = ?", suppression.Unsubscribe).Where("source = ?", suppression.FromRecipient).Exec(ctx)
	if err != nil {
		return false, fmt.Errorf("take back an unsubscription: %w", err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}
