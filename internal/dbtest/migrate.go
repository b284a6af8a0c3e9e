package dbtest

import (
	"context"

	"github.com/postrider/postrider/db"
)

// migrate brings the template database to the current schema.
func migrate(ctx context.Context, databaseURL string) error {
	_, err := db.MigrateUp(ctx, databaseURL)
	return err
}
