package suppressions

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/suppression"
)

func (r *entryRow) cursor() (time.Time, string) { return r.CreatedAt, r.ID }

// rowOf is a new row of an entry, without its time.
func rowOf(keys suppression.Keys, customerID string, e suppression.Entry) entryRow {
	return entryRow{
		ID: pg.NewID(), CustomerID: customerID, AddressKey: keys.Key(e.Address), Address: e.Address, Scope: e.Scope, Target: e.Target,
		Reason: e.Reason, Source: e.Source, Note: e.Note, ExpiresAt: e.ExpiresAt,
	}
}

// AddSuppression adds an entry to a customer's list. If the list has one for the same address, scope and
// target, that gets the reason, source, note and expiry. It keeps its id and time, and created is false.
// An address that was erased is not stored again.
func (s *Store) AddSuppression(ctx context.Context, customerID string, e suppression.Entry) (out suppression.Entry, created bool, err error) {
	keys, err := s.Keys(ctx)
	if err != nil {
		return out, false, err
	}
	row := rowOf(keys, customerID, e)
	id := row.ID
	err = s.db.InTx(ctx, func(tx bun.Tx) error {
		_, err := tx.NewInsert().Model(&row).On("CONFLICT (customer_id, address_key, scope, target) DO UPDATE").
			Set("reason = excluded.reason").Set("source = excluded.source").Set("note = excluded.note").Set("expires_at = excluded.expires_at").Set("email_id = NULL").Set("replaced = NULL").
			Returning(pg.Columns[entryRow]("su")).Exec(ctx)
		if err != nil {
			return fmt.Errorf("write a suppression: %w", err)
		}
		action := "suppression.changed"
		if created = row.ID == id; created {
			action = "suppression.added"
		}
		return audit.Write(ctx, tx, customerID, action, row.ID, described(&row))
	})
	return row.entry(), created, err
}

// described says in the audit log what an entry is, without the address.
func described(r *entryRow) string {
	words := []string{string(r.Reason), string(r.Scope)}
	if r.Target != "" {
		words = append(words, r.Target)
	}
	if !r.ExpiresAt.IsZero() {
		words = append(words, "until "+r.ExpiresAt.UTC().Format(time.RFC3339))
	}
	return strings.Join(words, " ")
}

// ListSuppressions lists the entries of a customer, newest first, those that have ended, too.
func (s *Store) ListSuppressions(ctx context.Context, customerID string, f suppression.Filter, after email.Cursor, limit int) ([]suppression.Entry, *email.Cursor, error) {
	q := s.db.NewSelect().Where("su.customer_id = ?", customerID)
	if f.Address != "" {
		keys, err := s.Keys(ctx)
		if err != nil {
			return nil, nil, err
		}
		q = q.Where("su.address_key = ?", keys.Key(f.Address))
	}
	for column, value := range map[string]string{"reason": string(f.Reason), "scope": string(f.Scope), "source": string(f.Source)} {
		if value != "" {
			q = q.Where("su.? = ?", bun.Ident(column), value)
		}
	}
	if f.Stream != "" {
		q = q.Where("su.scope = ? AND su.target = ?", suppression.ScopeStream, f.Stream)
	}
	if f.Topic != "" {
		q = q.Where("su.scope = ? AND su.target = ?", suppression.ScopeTopic, f.Topic)
	}
	return pg.List(ctx, q, "su", "created_at", after, limit, (*entryRow).cursor, (*entryRow).entry)
}

// Suppression reads an entry; one that the customer does not have is a CodeNotFound.
func (s *Store) Suppression(ctx context.Context, customerID, id string) (suppression.Entry, error) {
	var rows []entryRow
	if err := s.db.NewSelect().Model(&rows).Where("su.id = ? AND su.customer_id = ?", id, customerID).Scan(ctx); err != nil {
		return suppression.Entry{}, pg.Translate(err)
	}
	if len(rows) == 0 {
		return suppression.Entry{}, pg.NotFound("suppression")
	}
	return rows[0].entry(), nil
}

// endedWithin is the time for which DeleteSuppression counts e-mails.
const endedWithin = 30 * 24 * time.Hour

// DeleteSuppression deletes an entry and returns it as it was. emails is how many e-mails have had a
// recipient ended by it in the last 30 days. One that the customer does not have is a CodeNotFound.
func (s *Store) DeleteSuppression(ctx context.Context, customerID, id string) (out suppression.Entry, emails int, err error) {
	err = s.db.InTx(ctx, func(tx bun.Tx) error {
		var rows []entryRow
		if err := tx.NewRaw("DELETE FROM suppressions AS su WHERE su.id = ? AND su.customer_id = ? RETURNING "+pg.Columns[entryRow]("su"), id, customerID).Scan(ctx, &rows); err != nil {
			return fmt.Errorf("delete a suppression: %w", err)
		}
		if len(rows) == 0 {
			return pg.NotFound("suppression")
		}
		out = rows[0].entry()
		err := tx.NewRaw("SELECT count(DISTINCT email_id) FROM recipients WHERE suppressed_by = ? AND status_at > now() - ? * interval '1 second'",
			id, endedWithin.Seconds()).Scan(ctx, &emails)
		if err != nil {
			return fmt.Errorf("count what a suppression has ended: %w", err)
		}
		return audit.Write(ctx, tx, customerID, "suppression.deleted", id, described(&rows[0]))
	})
	return out, emails, err
}

// CheckSuppressions finds, for each of some normalised addresses, the entries that are about it now, in
// one statement.
func (s *Store) CheckSuppressions(ctx context.Context, customerID string, addresses []string) ([][]suppression.Entry, error) {
	keys, err := s.Keys(ctx)
	if err != nil {
		return nil, err
	}
	lookups := make([]Lookup, len(addresses))
	for i, a := range addresses {
		lookups[i] = Lookup{CustomerID: customerID, Key: keys.Key(a), Address: a}
	}
	found, err := Of(ctx, s.db, lookups)
	return found, pg.Translate(err)
}
