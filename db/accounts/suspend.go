package accounts

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// SuspendCustomer refuses the customer's requests and logins from now on, or takes that back. Its
// accepted mail goes on; Pause stops that. Doing it again changes nothing. A customer that does not
// exist is a CodeNotFound.
func (s *Store) SuspendCustomer(ctx context.Context, id string, suspend bool) (account.Customer, error) {
	status := account.StatusActive
	if suspend {
		status = account.StatusSuspended
	}
	err := s.db.InTx(ctx, func(tx bun.Tx) error {
		res, err := tx.NewRaw("UPDATE customers SET status = ?0, updated_at = now() WHERE id = ?1 AND deleted_at IS NULL AND status <> ?0", status, id).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return audit.Write(ctx, tx, id, "customer.governed", id, "status "+string(status))
	})
	if err != nil {
		return account.Customer{}, err
	}
	return s.Customer(ctx, id)
}

// DeleteCustomer ends a customer with its users, keys, domains and webhooks. A deleted customer's
// name and usernames are free again. A customer that does not exist is a CodeNotFound. One that has
// had mail, sent or received, is a CodeConflict: its e-mails stay on record, so it can only be
// suspended.
func (s *Store) DeleteCustomer(ctx context.Context, id string) error {
	return s.db.InTx(ctx, func(tx bun.Tx) error {
		var name string
		// An e-mail that is being accepted holds the row: it is there when this looks.
		err := tx.NewRaw("SELECT name FROM customers WHERE id = ? AND deleted_at IS NULL FOR UPDATE", id).Scan(ctx, &name)
		if errors.Is(err, sql.ErrNoRows) {
			return pg.NotFound("customer")
		}
		if err != nil {
			return err
		}
		var has []string
		for _, table := range []string{"emails", "batches", "messages"} {
			var found bool
			if err := tx.NewRaw("SELECT EXISTS (SELECT 1 FROM ? WHERE customer_id = ?)", bun.Ident(table), id).Scan(ctx, &found); err != nil {
				return err
			}
			if found {
				has = append(has, map[string]string{"emails": "e-mails", "batches": "batches", "messages": "received messages"}[table])
			}
		}
		if len(has) > 0 {
			return email.Fail(email.CodeConflict, "the customer has %s, which stay on record: suspend it with `postrider customer disable`", strings.Join(has, ", "))
		}
		for _, statement := range []string{
			"DELETE FROM users WHERE customer_id = ?",
			"DELETE FROM domains WHERE customer_id = ?",
			"UPDATE access_keys SET deleted_at = now(), updated_at = now() WHERE customer_id = ? AND deleted_at IS NULL",
			"DELETE FROM webhook_endpoints WHERE customer_id = ?",
			"UPDATE customers SET status = 'suspended', deleted_at = now(), updated_at = now() WHERE id = ?",
		} {
			if _, err := tx.NewRaw(statement, id).Exec(ctx); err != nil {
				return err
			}
		}
		return audit.Write(ctx, tx, id, "customer.deleted", id, name)
	})
}
