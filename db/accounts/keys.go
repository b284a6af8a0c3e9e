package accounts

import (
	"context"
	"database/sql"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

type accessKeyRow struct {
	bun.BaseModel `bun:"table:access_keys,alias:k"`

	ID            string          `bun:"id,pk,type:uuid"`
	CustomerID    string          `bun:"customer_id,type:uuid"`
	Name          string          `bun:"name"`
	Detail        string          `bun:"detail"`
	TokenPrefix   string          `bun:"token_prefix"`
	TokenHash     []byte          `bun:"token_hash"`
	Scopes        []account.Scope `bun:"scopes,array"`
	SenderDomains []string        `bun:"sender_domains,array"`
	Networks      []string        `bun:"networks,array,type:cidr[]"`
	ExpiresAt     time.Time       `bun:"expires_at,nullzero"`
	LastUsedAt    time.Time       `bun:"last_used_at,nullzero"`
	CreatedAt     time.Time       `bun:"created_at,nullzero,default:now()"`
	UpdatedAt     time.Time       `bun:"updated_at,nullzero,default:now()"`
	DeletedAt     time.Time       `bun:"deleted_at,nullzero"`
}

func (r *accessKeyRow) cursor() (time.Time, string) { return r.CreatedAt, r.ID }

func (r *accessKeyRow) key() account.AccessKey {
	return account.AccessKey{
		ID: r.ID, CustomerID: r.CustomerID, Name: r.Name, Detail: r.Detail, TokenPrefix: r.TokenPrefix, Scopes: r.Scopes,
		SenderDomains: r.SenderDomains, Networks: prefixes(r.Networks),
		ExpiresAt: pg.UTC(r.ExpiresAt), LastUsedAt: pg.UTC(r.LastUsedAt), CreatedAt: pg.UTC(r.CreatedAt), UpdatedAt: pg.UTC(r.UpdatedAt), DeletedAt: pg.UTC(r.DeletedAt),
	}
}

// prefixes reads what Postgres keeps as cidr, which nothing else can be.
func prefixes(cidrs []string) []netip.Prefix {
	var out []netip.Prefix
	for _, c := range cidrs {
		if p, err := netip.ParsePrefix(c); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// newKeyRow makes a key's row and its token.
func newKeyRow(wanted account.AccessKey) (accessKeyRow, string) {
	token := account.NewToken()
	row := accessKeyRow{
		ID: pg.NewID(), CustomerID: wanted.CustomerID, Name: wanted.Name, Detail: wanted.Detail, TokenPrefix: account.TokenPrefix(token),
		TokenHash: account.HashToken(token), Scopes: append([]account.Scope{}, wanted.Scopes...),
		SenderDomains: lower(wanted.SenderDomains), Networks: []string{}, ExpiresAt: wanted.ExpiresAt,
	}
	for _, p := range wanted.Networks {
		row.Networks = append(row.Networks, p.String())
	}
	return row, token
}

// MaxAccessKeys is how many access keys a customer may have that are neither deleted nor expired.
const MaxAccessKeys = 1000

// roomForKey fails with a CodeConflict if a customer, whose row is locked, has MaxAccessKeys keys.
func roomForKey(ctx context.Context, tx bun.Tx, customerID string) error {
	return pg.CheckRoom(ctx, tx, "access keys", MaxAccessKeys, "delete one that is not used",
		"SELECT count(*) FROM access_keys WHERE customer_id = ? AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > now())", customerID)
}

// CreateAccessKey makes a key of the given customer, name, detail, scopes, restrictions and end.
// The token is returned this once and stored as a hash. More than MaxAccessKeys are a CodeConflict.
// A customer that does not exist is a CodeNotFound.
func (s *Store) CreateAccessKey(ctx context.Context, wanted account.AccessKey) (key account.AccessKey, token string, err error) {
	row, token := newKeyRow(wanted)
	err = s.db.InTx(ctx, func(tx bun.Tx) error {
		if err := pg.LockCustomer(ctx, tx, wanted.CustomerID); err != nil {
			return err
		}
		if err := roomForKey(ctx, tx, wanted.CustomerID); err != nil {
			return err
		}
		if _, err := tx.NewInsert().Model(&row).Returning("created_at, updated_at").Exec(ctx); err != nil {
			return err
		}
		return audit.Write(ctx, tx, row.CustomerID, "accesskey.created", row.ID, row.Name)
	})
	if err != nil {
		return account.AccessKey{}, "", err
	}
	return row.key(), token, nil
}

// RotateAccessKey makes a key like another one, which ends after overlap unless it ends sooner. The
// new token is returned this once. Both keys count while both are valid, so with MaxAccessKeys keys
// only an overlap of 0 is possible; another one is a CodeConflict. A key that the customer does not
// have, or that has ended, is a CodeNotFound.
func (s *Store) RotateAccessKey(ctx context.Context, customerID, id string, overlap time.Duration) (key account.AccessKey, token string, err error) {
	var row accessKeyRow
	err = s.db.InTx(ctx, func(tx bun.Tx) error {
		if err := pg.LockCustomer(ctx, tx, customerID); err != nil {
			return err
		}
		var old accessKeyRow
		err := tx.NewSelect().Model(&old).Where("k.id = ?", id).Where("k.customer_id = ?", customerID).Where("k.deleted_at IS NULL").
			Where("k.expires_at IS NULL OR k.expires_at > now()").For("UPDATE").Scan(ctx)
		if errors.Is(err, sql.ErrNoRows) {
			return pg.NotFound("access key")
		}
		if err != nil {
			return err
		}
		_, err = tx.NewRaw("UPDATE access_keys SET updated_at = now(), expires_at = least(expires_at, now() + ? * interval '1 second') WHERE id = ?",
			overlap.Seconds(), id).Exec(ctx)
		if err != nil {
			return err
		}
		// After the update: with an overlap of 0 the new key takes the place of the old one.
		if err := roomForKey(ctx, tx, customerID); err != nil {
			return err
		}
		row, token = newKeyRow(old.key())
		if _, err := tx.NewInsert().Model(&row).Returning("created_at, updated_at").Exec(ctx); err != nil {
			return err
		}
		return audit.Write(ctx, tx, customerID, "accesskey.rotated", id, "replaced by "+row.ID)
	})
	if err != nil {
		return account.AccessKey{}, "", err
	}
	return row.key(), token, nil
}

// AccessKeys lists a customer's keys, newest first, without the deleted ones.
func (s *Store) AccessKeys(ctx context.Context, customerID string, after email.Cursor, limit int) (out []account.AccessKey, next *email.Cursor, err error) {
	q := s.db.NewSelect().Where("k.customer_id = ?", customerID).Where("k.deleted_at IS NULL")
	return pg.List(ctx, q, "k", "created_at", after, limit, (*accessKeyRow).cursor, (*accessKeyRow).key)
}

// AccessKey reads one key of a customer. A key that it does not have is a CodeNotFound.
func (s *Store) AccessKey(ctx context.Context, customerID, id string) (account.AccessKey, error) {
	var row accessKeyRow
	err := s.db.NewSelect().Model(&row).Where("k.id = ?", id).Where("k.customer_id = ?", customerID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return account.AccessKey{}, pg.NotFound("access key")
	}
	return row.key(), pg.Translate(err)
}

// DeleteAccessKey ends a key at once. Deleting it again changes nothing. A key that the customer
// does not have is a CodeNotFound.
func (s *Store) DeleteAccessKey(ctx context.Context, customerID, id string) (account.AccessKey, error) {
	err := s.db.InTx(ctx, func(tx bun.Tx) error {
		res, err := tx.NewUpdate().Model((*accessKeyRow)(nil)).Set("deleted_at = now(), updated_at = now()").
			Where("id = ?", id).Where("customer_id = ?", customerID).Where("deleted_at IS NULL").Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return audit.Write(ctx, tx, customerID, "accesskey.deleted", id, "")
	})
	if err != nil {
		return account.AccessKey{}, err
	}
	return s.AccessKey(ctx, customerID, id)
}

// usedEvery is how exact a key's last use is: writing it with every request would
// cost as much as the request.
const usedEvery = time.Minute

// findGrant finds a customer by a key's hash. $2 is usedEvery, in seconds.
var findGrant = pg.Prepare("find_grant(bytea, float8)", "SELECT "+pg.Columns[customerRow]("cu")+`, coalesce(w.url, '') AS webhook_uri, coalesce(w.method, 'POST') AS webhook_method,
		k.scopes, k.sender_domains, k.networks::text[] AS networks, k.id AS key_id, k.expires_at AS key_expires_at,
		k.last_used_at IS NULL OR k.last_used_at < now() - $2 * interval '1 second' AS key_rested
	FROM access_keys AS k JOIN customers AS cu ON cu.id = k.customer_id
	LEFT JOIN webhook_endpoints AS w ON w.customer_id = cu.id AND w.kind = 'customer'
	WHERE k.token_hash = $1 AND k.deleted_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())`)

// GrantByToken finds what an access key's token stands for. A token that is unknown, deleted or
// expired is a CodeUnauthorized, which does not say which.
func (s *Store) GrantByToken(ctx context.Context, token string) (account.Grant, error) {
	var row customerRow
	err := findGrant.Query(s.db, account.HashToken(token), usedEvery.Seconds()).Scan(ctx, &row)
	if errors.Is(err, sql.ErrNoRows) {
		return account.Grant{}, email.Fail(email.CodeUnauthorized, "the access key is unknown, deleted or expired")
	}
	if err != nil {
		return account.Grant{}, pg.Translate(err)
	}
	if row.KeyRested {
		if _, err := s.db.NewRaw("UPDATE access_keys SET last_used_at = now() WHERE id = ?", row.KeyID).Exec(ctx); err != nil {
			return account.Grant{}, pg.Translate(err)
		}
	}
	return account.Grant{
		Customer: row.customer(), Actor: "key:" + row.KeyID, Scopes: row.Scopes, SenderDomains: row.SenderDomains, Networks: prefixes(row.Networks),
		ExpiresAt: pg.UTC(row.KeyExpiresAt),
	}, nil
}

// lower makes domains comparable.
func lower(domains []string) []string {
	out := make([]string, len(domains))
	for i, d := range domains {
		out[i] = strings.ToLower(d)
	}
	return out
}
