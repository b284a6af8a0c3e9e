package pg

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/email"
)

// LockCustomer locks a customer's row until tx ends, so that its things are counted and made by one
// transaction at a time. E-mails are accepted meanwhile: their foreign keys do not wait for this
// lock. Lock the customer before other rows, as its deletion does. A customer that does not exist is
// a CodeNotFound.
func LockCustomer(ctx context.Context, tx bun.IDB, id string) error {
	var one int
	err := tx.NewRaw("SELECT 1 FROM customers WHERE id = ? AND deleted_at IS NULL FOR NO KEY UPDATE", id).Scan(ctx, &one)
	if errors.Is(err, sql.ErrNoRows) {
		return NotFound("customer")
	}
	return err
}

// CheckRoom fails with a CodeConflict if count, a query with its arguments, finds limit things of a
// customer or more. what is their name, todo what the customer can do. The transaction must hold
// the customer's lock, see LockCustomer: without it, concurrent transactions pass the limit.
func CheckRoom(ctx context.Context, tx bun.IDB, what string, limit int, todo, count string, args ...any) error {
	var n int
	if err := tx.NewRaw(count, args...).Scan(ctx, &n); err != nil {
		return err
	}
	if n >= limit {
		return email.Fail(email.CodeConflict, "there are %d %s, the limit is %d; %s", n, what, limit, todo)
	}
	return nil
}
