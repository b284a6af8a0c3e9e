package db

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// SuspendCustomer refuses the customer's requests and logins from now on, or takes that
// back. Its accepted mail goes on; Pause stops that. Doing it again changes nothing.
func (s *Store) SuspendCustomer(ctx context.Context, id string, suspend bool) (account.Customer, error) {
	status := account.StatusActive
	if suspend {
		status = account.StatusSuspended
	}
	err := s.inTx(ctx, func(tx bun.Tx) error {
		res, err := tx.NewRaw("UPDATE customers SET status = ?0, updated_at = now() WHERE id = ?1 AND deleted_at IS NULL AND status <> ?0", status, id).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return audit(ctx, tx, id, "customer.governed", id, "status "+string(status))
	})
	if err != nil {
		return account.Customer{}, err
	}
	return s.Customer(ctx, id)
}

// DeleteCustomer ends a customer with its users, keys, domains and webhooks. One that has
// had mail, sent or received, is a conflict: its e-mails stay on record, so it is
// suspended instead. A deleted customer's name and usernames are free again.
func (s *Store) DeleteCustomer(ctx context.Context, id string) error {
	return s.inTx(ctx, func(tx bun.Tx) error {
		var name string
		// An e-mail that is being accepted holds the row: it is there when this looks.
		err := tx.NewRaw("SELECT name FROM customers WHERE id = ? AND deleted_at IS NULL FOR UPDATE", id).Scan(ctx, &name)
		if errors.Is(err, sql.ErrNoRows) {
			return notFound("customer")
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
		return audit(ctx, tx, id, "customer.deleted", id, name)
	})
}

// Users lists a customer's users, newest first.
func (s *Store) Users(ctx context.Context, customerID string, after email.Cursor, limit int) (out []account.User, next *email.Cursor, err error) {
	var rows []*userRow
	q := s.db.NewSelect().Model(&rows).Where("u.customer_id = ?", customerID).Order("u.created_at DESC", "u.id DESC").Limit(int64(limit) + 1)
	if err := q.Apply(behind(after, "u", "created_at")).Scan(ctx); err != nil {
		return nil, nil, translate(err)
	}
	rows, next = page(rows, limit, func(r *userRow) (time.Time, string) { return r.CreatedAt, r.ID })
	for _, r := range rows {
		out = append(out, r.user())
	}
	return out, next, nil
}

// User reads one user of a customer by username.
func (s *Store) User(ctx context.Context, customerID, username string) (account.User, error) {
	var row userRow
	err := s.db.NewSelect().Model(&row).Where("u.customer_id = ?", customerID).Where("u.username = ?", username).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return account.User{}, notFound("user")
	}
	return row.user(), translate(err)
}

// DeleteUser ends a user of a customer by username. The tokens of its logins end with
// it, and the username is free again.
func (s *Store) DeleteUser(ctx context.Context, customerID, username string) error {
	return s.inTx(ctx, func(tx bun.Tx) error {
		var id string
		err := tx.NewRaw("DELETE FROM users WHERE customer_id = ? AND username = ? RETURNING id", customerID, username).Scan(ctx, &id)
		if errors.Is(err, sql.ErrNoRows) {
			return notFound("user")
		}
		if err != nil {
			return err
		}
		return audit(ctx, tx, customerID, "user.deleted", id, username)
	})
}

// Domains lists a customer's sender domains, newest first, without their warm-ups.
func (s *Store) Domains(ctx context.Context, customerID string, after email.Cursor, limit int) (out []account.Domain, next *email.Cursor, err error) {
	var rows []*domainRow
	q := s.db.NewSelect().Model(&rows).Column("id", "customer_id", "name", "verified_at", "created_at").Where("d.customer_id = ?", customerID).
		Order("d.created_at DESC", "d.id DESC").Limit(int64(limit) + 1)
	if err := q.Apply(behind(after, "d", "created_at")).Scan(ctx); err != nil {
		return nil, nil, translate(err)
	}
	rows, next = page(rows, limit, func(r *domainRow) (time.Time, string) { return r.CreatedAt, r.ID })
	for _, r := range rows {
		out = append(out, r.domain())
	}
	return out, next, nil
}

// DeleteDomain takes a sender domain from a customer. Mail that is accepted already goes
// on; what waits for a day of the domain's warm-up is looked at anew, within ten minutes.
func (s *Store) DeleteDomain(ctx context.Context, customerID, name string) error {
	err := s.inTx(ctx, func(tx bun.Tx) error {
		res, err := tx.NewRaw("DELETE FROM domains WHERE customer_id = ? AND name = ?", customerID, name).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, notFound("domain"))
		}
		return audit(ctx, tx, customerID, "domain.deleted", name, "")
	})
	if err != nil {
		return err
	}
	return s.releaseWarmup(ctx, customerID, name)
}
