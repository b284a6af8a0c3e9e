package accounts

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

type domainRow struct {
	bun.BaseModel `bun:"table:domains,alias:d"`

	ID         string    `bun:"id,pk,type:uuid"`
	CustomerID string    `bun:"customer_id,type:uuid"`
	Name       string    `bun:"name"`
	VerifiedAt time.Time `bun:"verified_at,nullzero"`
	CreatedAt  time.Time `bun:"created_at,nullzero,default:now()"`
}

func (r *domainRow) cursor() (time.Time, string) { return r.CreatedAt, r.ID }

func (r *domainRow) domain() account.Domain {
	return account.Domain{ID: r.ID, CustomerID: r.CustomerID, Name: r.Name, VerifiedAt: pg.UTC(r.VerifiedAt), CreatedAt: pg.UTC(r.CreatedAt)}
}

// AddDomain gives a customer a sender domain (lower-case A-labels), verified if the operator
// vouches for it. Adding it again keeps it, and verifies it if asked to; it withdraws no
// verification. A customer that does not exist is a CodeNotFound; a domain that another customer
// has verified is a CodeConflict.
func (s *Store) AddDomain(ctx context.Context, customerID, name string, verified bool) (account.Domain, error) {
	if _, err := s.Customer(ctx, customerID); err != nil {
		return account.Domain{}, err
	}
	var row domainRow
	err := s.db.InTx(ctx, func(tx bun.Tx) error {
		err := tx.NewRaw("SELECT id, customer_id, name, verified_at, created_at FROM domains WHERE customer_id = ? AND name = ? FOR UPDATE", customerID, name).Scan(ctx, &row)
		if err == nil && (!verified || !row.VerifiedAt.IsZero()) {
			return nil
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		err = tx.NewRaw(`INSERT INTO domains (id, customer_id, name, verified_at) VALUES (?, ?, ?, CASE WHEN ? THEN now() END)
			ON CONFLICT (customer_id, name) DO UPDATE SET verified_at = coalesce(domains.verified_at, excluded.verified_at)
			RETURNING id, customer_id, name, verified_at, created_at`,
			pg.NewID(), customerID, name, verified).Scan(ctx, &row)
		if err := verifiedElsewhere(err, name); err != nil {
			return err
		}
		if verified {
			if err := unlockDomain(ctx, tx, name); err != nil {
				return err
			}
		}
		return audit.Write(ctx, tx, customerID, "domain.added", name, map[bool]string{true: "verified", false: "not verified"}[verified])
	})
	return row.domain(), err
}

func verifiedElsewhere(err error, name string) error {
	if pg.UniqueViolation(err) == "domains_verified_once" {
		return email.Fail(email.CodeConflict, "another customer has verified the domain %s; take it from that customer first", name)
	}
	return err
}

// VerifyDomain sets whether a customer's domain is verified. A domain whose verification is
// withdrawn is locked: no customer sends from it until it is verified again. Calling it again
// changes nothing. A domain that the customer does not have is a CodeNotFound; one that another
// customer has verified is a CodeConflict.
func (s *Store) VerifyDomain(ctx context.Context, customerID, name string, verified bool) (account.Domain, error) {
	err := s.db.InTx(ctx, func(tx bun.Tx) error {
		var was bool
		err := tx.NewRaw("SELECT verified_at IS NOT NULL FROM domains WHERE customer_id = ? AND name = ? FOR UPDATE", customerID, name).Scan(ctx, &was)
		if errors.Is(err, sql.ErrNoRows) {
			return pg.NotFound("domain")
		}
		if err != nil || was == verified {
			return err
		}
		_, err = tx.NewRaw("UPDATE domains SET verified_at = CASE WHEN ? THEN now() END WHERE customer_id = ? AND name = ?", verified, customerID, name).Exec(ctx)
		if err := verifiedElsewhere(err, name); err != nil {
			return err
		}
		action := "domain.unverified"
		if verified {
			action, err = "domain.verified", unlockDomain(ctx, tx, name)
		} else {
			err = lockDomain(ctx, tx, customerID, name)
		}
		if err != nil {
			return err
		}
		return audit.Write(ctx, tx, customerID, action, name, "")
	})
	if err != nil {
		return account.Domain{}, err
	}
	return s.Domain(ctx, customerID, name)
}

// lockDomain keeps everybody from sending from a domain that was taken from a customer.
func lockDomain(ctx context.Context, tx bun.Tx, customerID, name string) error {
	_, err := tx.NewRaw(`INSERT INTO domain_locks (name, customer_id) VALUES (?, ?)
		ON CONFLICT (name) DO UPDATE SET customer_id = excluded.customer_id, locked_at = excluded.locked_at`, name, customerID).Exec(ctx)
	return err
}

func unlockDomain(ctx context.Context, tx bun.Tx, name string) error {
	_, err := tx.NewRaw("DELETE FROM domain_locks WHERE name = ?", name).Exec(ctx)
	return err
}

// Domains lists a customer's sender domains, newest first, without their warm-ups.
func (s *Store) Domains(ctx context.Context, customerID string, after email.Cursor, limit int) (out []account.Domain, next *email.Cursor, err error) {
	q := s.db.NewSelect().Column("id", "customer_id", "name", "verified_at", "created_at").Where("d.customer_id = ?", customerID)
	return pg.List(ctx, q, "d", "created_at", after, limit, (*domainRow).cursor, (*domainRow).domain)
}

// DeleteDomain removes a sender domain from a customer. A verified one is locked from then on: no
// customer sends from it until it is verified again. Accepted mail goes on. E-mails that wait for a
// day of the domain's warm-up are made due again within ten minutes. A domain that the customer
// does not have is a CodeNotFound.
func (s *Store) DeleteDomain(ctx context.Context, customerID, name string) (account.Domain, error) {
	var row domainRow
	err := s.db.InTx(ctx, func(tx bun.Tx) error {
		err := tx.NewRaw("DELETE FROM domains WHERE customer_id = ? AND name = ? RETURNING id, customer_id, name, verified_at, created_at", customerID, name).Scan(ctx, &row)
		if errors.Is(err, sql.ErrNoRows) {
			return pg.NotFound("domain")
		}
		if err == nil && !row.VerifiedAt.IsZero() {
			err = lockDomain(ctx, tx, customerID, name)
		}
		if err != nil {
			return err
		}
		return audit.Write(ctx, tx, customerID, "domain.deleted", name, "")
	})
	if err != nil {
		return account.Domain{}, err
	}
	return row.domain(), s.opts.WarmupChanged(ctx, customerID, name)
}
