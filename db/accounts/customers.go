package accounts

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

type customerRow struct {
	bun.BaseModel `bun:"table:customers,alias:cu"`

	ID            string          `bun:"id,pk,type:uuid"`
	Name          string          `bun:"name"`
	Detail        string          `bun:"detail"`
	Email         string          `bun:"email"`
	Status        account.Status  `bun:"status"`
	DefaultSource *account.Source `bun:"default_source,type:jsonb,nullzero"`
	Profile       account.Profile `bun:"profile"`
	Credits       *int64          `bun:"credits"`
	CreatedAt     time.Time       `bun:"created_at,nullzero,default:now()"`
	UpdatedAt     time.Time       `bun:"updated_at,nullzero,default:now()"`
	DeletedAt     time.Time       `bun:"deleted_at,nullzero"`

	WebhookURI    string `bun:"webhook_uri,scanonly"`
	WebhookMethod string `bun:"webhook_method,scanonly"`
	// The rest is of the key it was found by.
	Scopes        []account.Scope `bun:"scopes,array,scanonly"`
	SenderDomains []string        `bun:"sender_domains,array,scanonly"`
	Networks      []string        `bun:"networks,array,scanonly"`
	KeyID         string          `bun:"key_id,scanonly"`
	KeyRested     bool            `bun:"key_rested,scanonly"`
	KeyExpiresAt  time.Time       `bun:"key_expires_at,scanonly,nullzero"`
}

func (r *customerRow) cursor() (time.Time, string) { return r.CreatedAt, r.ID }

func (r *customerRow) customer() account.Customer {
	return account.Customer{
		ID: r.ID, Name: r.Name, Detail: r.Detail, Email: r.Email, Status: r.Status, DefaultSource: r.DefaultSource,
		Profile: r.Profile, Credits: r.Credits, WebhookURI: r.WebhookURI, WebhookMethod: r.WebhookMethod,
		CreatedAt: pg.UTC(r.CreatedAt), UpdatedAt: pg.UTC(r.UpdatedAt), DeletedAt: pg.UTC(r.DeletedAt),
	}
}

// CreateCustomer makes an active customer, and the secret that will sign its
// webhooks.
func (s *Store) CreateCustomer(ctx context.Context, name, detail, mail string) (out account.Customer, webhookSecret string, err error) {
	return s.CreateCustomerWithID(ctx, pg.NewID(), name, detail, mail)
}

// CreateCustomerWithID is CreateCustomer under an id that the caller chooses. An id in
// use is a conflict.
func (s *Store) CreateCustomerWithID(ctx context.Context, id, name, detail, mail string) (out account.Customer, webhookSecret string, err error) {
	row := customerRow{ID: id, Name: name, Detail: detail, Email: mail, Status: account.StatusActive}
	err = s.db.InTx(ctx, func(tx bun.Tx) error {
		if _, err := tx.NewInsert().Model(&row).Exec(ctx); err != nil {
			if pg.UniqueViolation(err) != "" {
				return email.Fail(email.CodeConflict, "the customer id %s is in use", id)
			}
			return err
		}
		if webhookSecret, err = s.webhooks.CreateCustomerEndpoint(ctx, tx, row.ID); err != nil {
			return err
		}
		if out, err = s.customer(ctx, tx, row.ID); err != nil {
			return err
		}
		return audit.Write(ctx, tx, row.ID, "customer.created", row.ID, name)
	})
	return out, webhookSecret, err
}

// Customer reads one customer. One that does not exist is a CodeNotFound.
func (s *Store) Customer(ctx context.Context, id string) (account.Customer, error) {
	return s.customer(ctx, s.db, id)
}

func (s *Store) customer(ctx context.Context, idb bun.IDB, id string) (account.Customer, error) {
	row, err := customerWhere(ctx, idb, func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where("cu.id = ?", id) })
	return row.customer(), err
}

// withWebhook selects customers with the webhook that their settings name.
func withWebhook(q *bun.SelectQuery) *bun.SelectQuery {
	return q.ColumnExpr("cu.*").ColumnExpr("coalesce(w.url, '') AS webhook_uri, coalesce(w.method, 'POST') AS webhook_method").
		Join("LEFT JOIN webhook_endpoints AS w ON w.customer_id = cu.id AND w.kind = 'customer'")
}

func customerWhere(ctx context.Context, idb bun.IDB, where func(*bun.SelectQuery) *bun.SelectQuery) (customerRow, error) {
	var row customerRow
	err := idb.NewSelect().Model(&row).Apply(withWebhook).Apply(where).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return customerRow{}, pg.NotFound("customer")
	}
	return row, pg.Translate(err)
}

// namesakesShown is how many customers of one name an error lists.
const namesakesShown = 20

// CustomerByName finds the customer of that name that is not deleted. Names need not be
// unique: several customers of one name are a conflict, which lists their ids, oldest first.
func (s *Store) CustomerByName(ctx context.Context, name string) (account.Customer, error) {
	var rows []*customerRow
	err := s.db.NewSelect().Model(&rows).Column("id", "created_at").Where("cu.name = ?", name).Where("cu.deleted_at IS NULL").
		Order("cu.created_at", "cu.id").Limit(namesakesShown + 1).Scan(ctx)
	switch {
	case err != nil:
		return account.Customer{}, pg.Translate(err)
	case len(rows) == 0:
		return account.Customer{}, pg.NotFound("customer")
	case len(rows) == 1:
		return s.Customer(ctx, rows[0].ID)
	}
	var ids strings.Builder
	for _, r := range rows[:min(len(rows), namesakesShown)] {
		fmt.Fprintf(&ids, "\n  %s  made %s", r.ID, pg.UTC(r.CreatedAt).Format(time.RFC3339))
	}
	if len(rows) > namesakesShown {
		ids.WriteString("\n  and more: list them with `postrider customer list`")
	}
	return account.Customer{}, email.Fail(email.CodeConflict, "several customers have the name %q; give the id of one of them:%s", name, ids.String())
}

// Customers lists them all, newest first.
func (s *Store) Customers(ctx context.Context, after email.Cursor, limit int) (out []account.Customer, next *email.Cursor, err error) {
	q := s.db.NewSelect().Apply(withWebhook)
	return pg.List(ctx, q, "cu", "created_at", after, limit, (*customerRow).cursor, (*customerRow).customer)
}

// UpdateCustomerAsOperator writes what only the operator changes: status and credits. A customer that does
// not exist is a CodeNotFound.
func (s *Store) UpdateCustomerAsOperator(ctx context.Context, id string, status account.Status, credits *int64) (account.Customer, error) {
	err := s.db.InTx(ctx, func(tx bun.Tx) error {
		res, err := tx.NewRaw("UPDATE customers SET status = ?, credits = ?, updated_at = now() WHERE id = ? AND deleted_at IS NULL", status, credits, id).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, pg.NotFound("customer"))
		}
		detail := "status " + string(status) + ", credits without limit"
		if credits != nil {
			detail = fmt.Sprintf("status %s, credits %d", status, *credits)
		}
		return audit.Write(ctx, tx, id, "customer.governed", id, detail)
	})
	if err != nil {
		return account.Customer{}, err
	}
	return s.Customer(ctx, id)
}

// maySend refuses a new default source that no mail could be sent from.
func (s *Store) maySend(ctx context.Context, tx bun.Tx, c account.Customer) error {
	if !s.opts.RequireVerifiedDomains || c.DefaultSource == nil {
		return nil
	}
	domain := email.DomainOf(c.DefaultSource.Email)
	var fits bool
	err := tx.NewRaw(`SELECT EXISTS (SELECT 1 FROM customers WHERE id = ?0 AND default_source ->> 'email' = ?1)
		OR EXISTS (SELECT 1 FROM domains WHERE customer_id = ?0 AND name = ?2 AND verified_at IS NOT NULL)`, c.ID, c.DefaultSource.Email, domain).Scan(ctx, &fits)
	if err == nil && !fits {
		return email.Fail(email.CodeDomainUnverified, "mail without a sender could not be sent: the domain %s is not verified for this customer; use an address of a verified domain", domain)
	}
	return err
}

// UpdateCustomer writes what a customer may change of itself: name, detail,
// e-mail, default source, profile and webhook. A default source that is new has to be of a
// verified domain, where senders have to be: CodeDomainUnverified else. The second result is the webhook secret
// where this turned the webhook on, else "".
func (s *Store) UpdateCustomer(ctx context.Context, c account.Customer) (account.Customer, string, error) {
	var out account.Customer
	secret := ""
	err := s.db.InTx(ctx, func(tx bun.Tx) error {
		if err := s.maySend(ctx, tx, c); err != nil {
			return err
		}
		row := customerRow{ID: c.ID, Name: c.Name, Detail: c.Detail, Email: c.Email, DefaultSource: c.DefaultSource, Profile: c.Profile}
		res, err := tx.NewUpdate().Model(&row).WherePK().Column("name", "detail", "email", "default_source", "profile").Set("updated_at = now()").Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, pg.NotFound("customer"))
		}
		if secret, err = s.webhooks.SetCustomerEndpoint(ctx, tx, c); err != nil {
			return err
		}
		if out, err = s.customer(ctx, tx, c.ID); err != nil {
			return err
		}
		return audit.Write(ctx, tx, c.ID, "customer.updated", c.ID, "")
	})
	return out, secret, err
}
