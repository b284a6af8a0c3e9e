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
	"github.com/postrider/postrider/internal/senderdomain"
)

type domainRow struct {
	bun.BaseModel `bun:"table:domains,alias:d"`

	ID         string    `bun:"id,pk,type:uuid"`
	CustomerID string    `bun:"customer_id,type:uuid"`
	Name       string    `bun:"name"`
	VerifiedAt time.Time `bun:"verified_at,nullzero"`
	// VerifiedBy is empty if a version before migration 0029 has set VerifiedAt.
	VerifiedBy senderdomain.Verifier `bun:"verified_by,nullzero"`
	CreatedAt  time.Time             `bun:"created_at,nullzero,default:now()"`
}

func (r *domainRow) cursor() (time.Time, string) { return r.CreatedAt, r.ID }

// vouchedFor reports whether an operator says that the domain is the customer's.
func (r *domainRow) vouchedFor() bool {
	return !r.VerifiedAt.IsZero() && r.VerifiedBy != senderdomain.VerifiedByDNS
}

func (r *domainRow) domain() account.Domain {
	return account.Domain{ID: r.ID, CustomerID: r.CustomerID, Name: r.Name, VerifiedAt: pg.UTC(r.VerifiedAt), CreatedAt: pg.UTC(r.CreatedAt)}
}

// AddDomain gives a customer a sender domain (lower-case A-labels) without DKIM keys, verified if the
// operator vouches for it. Adding it again keeps it, and vouches for it if asked to; it withdraws no
// verification. A customer that does not exist is a CodeNotFound; a domain that another customer
// has verified is a CodeConflict.
func (s *Store) AddDomain(ctx context.Context, customerID, name string, verified bool) (account.Domain, error) {
	if _, err := s.Customer(ctx, customerID); err != nil {
		return account.Domain{}, err
	}
	var row domainRow
	err := s.db.InTx(ctx, func(tx bun.Tx) error {
		err := tx.NewRaw("SELECT id, customer_id, name, verified_at, verified_by, created_at FROM domains WHERE customer_id = ? AND name = ? FOR UPDATE", customerID, name).Scan(ctx, &row)
		if err == nil && (!verified || row.vouchedFor()) {
			return nil
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		err = tx.NewRaw(`INSERT INTO domains (id, customer_id, name, verified_at, verified_by) VALUES (?0, ?1, ?2, CASE WHEN ?3 THEN now() END, CASE WHEN ?3 THEN 'operator' END)
			ON CONFLICT (customer_id, name) DO UPDATE SET verified_at = coalesce(domains.verified_at, excluded.verified_at), verified_by = excluded.verified_by,
				blocked_by = NULL, revision = domains.revision + 1
			RETURNING id, customer_id, name, verified_at, verified_by, created_at`,
			pg.NewID(), customerID, name, verified).Scan(ctx, &row)
		if err := verifiedElsewhere(err, name); err != nil {
			return err
		}
		if verified {
			if err := unlockDomain(ctx, tx, name); err != nil {
				return err
			}
		}
		return audit.Write(ctx, tx, customerID, "domain.added", name, map[bool]string{true: "verified by the operator", false: "not verified"}[verified])
	})
	return row.domain(), err
}

func verifiedElsewhere(err error, name string) error {
	if pg.UniqueViolation(err) == "domains_verified_once" {
		return email.Fail(email.CodeConflict, "another customer has verified the domain %s; take it from that customer first", name)
	}
	return err
}

// VerifyDomain sets whether the operator vouches for a customer's domain. A domain whose verification
// is withdrawn is locked: no customer sends from it until an operator verifies it again. Calling it
// again changes nothing. A domain that the customer does not have is a CodeNotFound; one that another
// customer has verified is a CodeConflict.
func (s *Store) VerifyDomain(ctx context.Context, customerID, name string, verified bool) (account.Domain, error) {
	err := s.db.InTx(ctx, func(tx bun.Tx) error {
		var row domainRow
		err := tx.NewRaw("SELECT verified_at, verified_by FROM domains WHERE customer_id = ? AND name = ? FOR UPDATE", customerID, name).Scan(ctx, &row)
		if errors.Is(err, sql.ErrNoRows) {
			return pg.NotFound("domain")
		}
		if err != nil || verified && row.vouchedFor() || !verified && row.VerifiedAt.IsZero() {
			return err
		}
		if verified {
			_, err = tx.NewRaw(`UPDATE domains SET verified_at = coalesce(verified_at, now()), verified_by = 'operator', blocked_by = NULL, revision = revision + 1
				WHERE customer_id = ? AND name = ?`, customerID, name).Exec(ctx)
		} else {
			_, err = tx.NewRaw(`UPDATE domains SET verified_at = NULL, verified_by = NULL, status = 'pending', status_since = now(), started_at = now(), checks = 0,
				misses = 0, first_miss_at = NULL, blocked_by = 'operator', revision = revision + 1 WHERE customer_id = ? AND name = ?`, customerID, name).Exec(ctx)
		}
		if err := verifiedElsewhere(err, name); err != nil {
			return err
		}
		action, detail := "domain.unverified", ""
		if verified {
			action, detail, err = "domain.verified", "by the operator", unlockDomain(ctx, tx, name)
		} else {
			err = lockDomain(ctx, tx, customerID, name, true)
		}
		if err != nil {
			return err
		}
		return audit.Write(ctx, tx, customerID, action, name, detail)
	})
	if err != nil {
		return account.Domain{}, err
	}
	return s.Domain(ctx, customerID, name)
}

// lockDomain keeps everybody from sending from a domain that was taken from a customer: until it is
// verified again, by an operator if an operator has taken it.
func lockDomain(ctx context.Context, tx bun.Tx, customerID, name string, byOperator bool) error {
	_, err := tx.NewRaw(`INSERT INTO domain_locks (name, customer_id, by_operator) VALUES (?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET customer_id = excluded.customer_id, locked_at = excluded.locked_at, by_operator = domain_locks.by_operator OR excluded.by_operator`,
		name, customerID, byOperator).Exec(ctx)
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

// DeleteDomain removes a sender domain from a customer, for an operator. A verified one is locked from
// then on: no customer sends from it until an operator verifies it again. Accepted mail goes on.
// E-mails that wait for a day of the domain's warm-up are made due again within ten minutes. A domain
// that the customer does not have is a CodeNotFound.
func (s *Store) DeleteDomain(ctx context.Context, customerID, name string) (account.Domain, error) {
	row, err := s.deleteDomain(ctx, customerID, "name", name, true)
	if err != nil {
		return account.Domain{}, err
	}
	return row.domain(), s.opts.WarmupChanged(ctx, customerID, row.Name)
}

// DeleteOwnDomain is DeleteDomain for the customer, by the domain's id: a check of the DNS verifies
// the domain again, for this customer or another. Its private keys are destroyed.
func (s *Store) DeleteOwnDomain(ctx context.Context, customerID, id string) (senderdomain.Domain, error) {
	return s.deleteByID(ctx, customerID, id, false)
}

// TakeDomain is DeleteDomain by the domain's id.
func (s *Store) TakeDomain(ctx context.Context, customerID, id string) (senderdomain.Domain, error) {
	return s.deleteByID(ctx, customerID, id, true)
}

func (s *Store) deleteByID(ctx context.Context, customerID, id string, byOperator bool) (senderdomain.Domain, error) {
	d, err := s.DomainByID(ctx, customerID, id)
	if err != nil {
		return d, err
	}
	if _, err := s.deleteDomain(ctx, customerID, "id", id, byOperator); err != nil {
		return d, err
	}
	return d, s.opts.WarmupChanged(ctx, customerID, d.Name)
}

func (s *Store) deleteDomain(ctx context.Context, customerID, column, value string, byOperator bool) (row domainRow, err error) {
	err = s.db.InTx(ctx, func(tx bun.Tx) error {
		err := tx.NewRaw("DELETE FROM domains WHERE customer_id = ? AND ? = ? RETURNING id, customer_id, name, verified_at, verified_by, created_at",
			customerID, bun.Ident(column), value).Scan(ctx, &row)
		if errors.Is(err, sql.ErrNoRows) {
			return pg.NotFound("domain")
		}
		if err == nil && !row.VerifiedAt.IsZero() {
			err = errors.Join(lockDomain(ctx, tx, customerID, row.Name, byOperator), wakeClaimants(ctx, tx, row.Name))
		}
		if err != nil {
			return err
		}
		return audit.Write(ctx, tx, customerID, "domain.deleted", row.Name, "")
	})
	return row, err
}
