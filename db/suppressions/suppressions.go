// Package suppressions keeps the suppression lists of customers.
package suppressions

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/internal/suppression"
)

// Store has the suppression lists. It is safe for concurrent use.
type Store struct {
	db     *pg.DB
	sealed *pg.Keys
}

// New returns the suppression lists of a database. sealed are the keys that secrets are sealed with.
func New(db *pg.DB, sealed *pg.Keys) *Store { return &Store{db: db, sealed: sealed} }

type entryRow struct {
	bun.BaseModel `bun:"table:suppressions,alias:su"`

	ID         string             `bun:"id,pk,type:uuid"`
	CustomerID string             `bun:"customer_id,type:uuid"`
	AddressKey string             `bun:"address_key"`
	Address    string             `bun:"address"`
	Scope      suppression.Scope  `bun:"scope"`
	Target     string             `bun:"target"`
	Reason     suppression.Reason `bun:"reason"`
	Source     suppression.Source `bun:"source"`
	EmailID    string             `bun:"email_id,type:uuid,nullzero"`
	Note       string             `bun:"note"`
	ExpiresAt  time.Time          `bun:"expires_at,nullzero"`
	CreatedAt  time.Time          `bun:"created_at,nullzero,default:now()"`
}

func (r *entryRow) entry() suppression.Entry {
	return suppression.Entry{
		ID: r.ID, CustomerID: r.CustomerID, Key: r.AddressKey, Address: r.Address, Scope: r.Scope, Target: r.Target, Reason: r.Reason,
		Source: r.Source, EmailID: r.EmailID, Note: r.Note, ExpiresAt: pg.UTC(r.ExpiresAt), CreatedAt: pg.UTC(r.CreatedAt),
	}
}

// addressKeys is the name of the installation's key that Keys uses.
const addressKeys = "addresses"

// Keys makes the keys of addresses. If the installation's key was lost, entries with an address get
// new keys. Those whose address is erased cover no address from then on.
func (s *Store) Keys(ctx context.Context) (suppression.Keys, error) {
	secret, err := s.sealed.Installation(ctx, addressKeys, func(tx bun.Tx, key []byte) error { return rekey(ctx, tx, suppression.NewKeys(key)) })
	return suppression.NewKeys(secret), err
}

// rekeyed is how many rows get new keys at once.
const rekeyed = 1000

// rekey gives entries and open recipients keys of a new secret. A new installation has neither.
func rekey(ctx context.Context, tx bun.Tx, keys suppression.Keys) error {
	if _, err := tx.NewRaw("UPDATE recipients SET address_key = '' WHERE address_key <> '' AND status IN ('queued', 'sending', 'deferred')").Exec(ctx); err != nil {
		return fmt.Errorf("forget the keys of recipients: %w", err)
	}
	for last := uuid.Nil.String(); ; {
		var rows []entryRow
		if err := tx.NewSelect().Model(&rows).Column("id", "address").Where("id > ?", last).Where("address <> ''").Order("id").Limit(rekeyed).Scan(ctx); err != nil {
			return fmt.Errorf("read suppressions: %w", err)
		}
		if len(rows) == 0 {
			return nil
		}
		ids, fresh := make([]string, len(rows)), make([]string, len(rows))
		for i, r := range rows {
			ids[i], fresh[i], last = r.ID, keys.Key(r.Address), r.ID
		}
		_, err := tx.NewRaw("UPDATE suppressions AS su SET address_key = v.key FROM unnest(?::uuid[], ?::text[]) AS v (id, key) WHERE su.id = v.id",
			pgdialect.Array(ids), pgdialect.Array(fresh)).Exec(ctx)
		if err != nil {
			return fmt.Errorf("write keys of suppressions: %w", err)
		}
	}
}

// putRow is an entry as put has it.
type putRow struct {
	ID         string             `json:"id" sql:"uuid"`
	CustomerID string             `json:"customer_id" sql:"uuid"`
	AddressKey string             `json:"address_key"`
	Address    string             `json:"address"`
	Scope      suppression.Scope  `json:"scope"`
	Target     string             `json:"target"`
	Reason     suppression.Reason `json:"reason"`
	Source     suppression.Source `json:"source"`
	EmailID    *string            `json:"email_id" sql:"uuid"`
	Note       string             `json:"note"`
	ExpiresAt  *time.Time         `json:"expires_at"`
}

// put inserts entries. One that is there stays, unless it ends sooner than the new one. The new one keeps
// it then, if another source has made it: see takeBack. Where a circuit is open, outcomes of attempts make
// no entries.
var put = pg.Prepare("put_suppressions(jsonb)", `INSERT INTO suppressions AS su (id, customer_id, address_key, address, scope, target, reason, source, email_id, note, expires_at)
	SELECT v.id, v.customer_id, v.address_key, v.address, v.scope, v.target, v.reason, v.source, v.email_id, v.note, v.expires_at FROM `+pg.Recordset[putRow]()+`
	WHERE v.source <> 'delivery' OR NOT EXISTS (SELECT 1 FROM suppression_circuits AS ci
		WHERE ci.customer_id = v.customer_id AND ci.domain = lower(split_part(v.address, '@', -1)) AND ci.until > now())
	ON CONFLICT (customer_id, address_key, scope, target) DO UPDATE SET reason = excluded.reason, source = excluded.source, email_id = excluded.email_id,
		note = excluded.note, expires_at = excluded.expires_at, created_at = now(),
		replaced = CASE WHEN su.source = excluded.source THEN su.replaced ELSE coalesce(su.replaced, to_jsonb(su)) END
	WHERE su.expires_at IS NOT NULL AND (excluded.expires_at IS NULL OR excluded.expires_at > su.expires_at)`)

// Put adds entries in a transaction, see put. Each needs a Key.
func Put(ctx context.Context, tx bun.IDB, entries []suppression.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	rows := map[string]putRow{}
	for _, e := range entries { // a statement may not insert one twice
		row := putRow{ID: cmp.Or(e.ID, pg.NewID()), CustomerID: e.CustomerID, AddressKey: e.Key, Address: e.Address, Scope: e.Scope, Target: e.Target,
			Reason: e.Reason, Source: e.Source, Note: e.Note, ExpiresAt: pg.OrNull(e.ExpiresAt)}
		if e.EmailID != "" {
			row.EmailID = &e.EmailID
		}
		rows[e.CustomerID+placeOf(e.Key, e.Scope, e.Target)] = row
	}
	ordered := make([]putRow, 0, len(rows))
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		ordered = append(ordered, rows[key])
	}
	text, err := json.Marshal(ordered)
	if err != nil {
		return fmt.Errorf("encode suppressions: %w", err)
	}
	if _, err := put.Query(tx, string(text)).Exec(ctx); err != nil {
		return fmt.Errorf("write suppressions: %w", err)
	}
	return nil
}

// placeOf orders the entries of a customer that a statement writes, because others write the same ones at the
// same time. It is unique.
func placeOf(key string, scope suppression.Scope, target string) string {
	return strings.Join([]string{key, string(scope), target}, "\x00")
}

// Lookup asks for the entries of an address.
type Lookup struct {
	CustomerID, Key, Address string
}

// About is a query for the entries that are about an address now: its own, and those for all of its domain. The
// arguments are SQL: the customer's id, the address and its key.
func About(customerID, address, key string) string {
	entries := "SELECT " + pg.Columns[entryRow]("s") + " FROM suppressions AS s WHERE s.customer_id = " + customerID + " AND (s.expires_at IS NULL OR s.expires_at > now()) AND "
	return entries + "s.address_key = " + key + " UNION ALL " + entries + "s.address = '*@' || lower(split_part(" + address + ", '@', -1)) AND s.address LIKE '*@%'"
}

// find are the entries about addresses, with the index of the address.
var find = pg.Prepare("find_suppressions(uuid[], text[], text[])", `SELECT v.at, su.* FROM unnest($1, $2, $3) WITH ORDINALITY AS v (customer_id, address, key, at)
	CROSS JOIN LATERAL (`+About("v.customer_id", "v.address", "v.key")+`) AS su`)

// Of finds the entries that are about addresses now, of all scopes, by the index of the lookup.
func Of(ctx context.Context, tx bun.IDB, lookups []Lookup) ([][]suppression.Entry, error) {
	customers, addresses, keys := make([]string, len(lookups)), make([]string, len(lookups)), make([]string, len(lookups))
	for i, l := range lookups {
		customers[i], addresses[i], keys[i] = l.CustomerID, l.Address, l.Key
	}
	var rows []struct {
		entryRow
		At int `bun:"at"`
	}
	err := find.Query(tx, pgdialect.Array(customers), pgdialect.Array(addresses), pgdialect.Array(keys)).Scan(ctx, &rows)
	if err != nil {
		return nil, fmt.Errorf("find suppressions: %w", err)
	}
	out := make([][]suppression.Entry, len(lookups))
	for _, r := range rows {
		out[r.At-1] = append(out[r.At-1], r.entry())
	}
	return out, nil
}

// Suspend opens the circuit of a recipients' domain for a customer, and takes back what outcomes of
// attempts there have suppressed within suppression.CircuitWithin. It returns how many entries those were.
func (s *Store) Suspend(ctx context.Context, customerID, domain string) (takenBack int, err error) {
	err = s.db.InTx(ctx, func(tx bun.Tx) error {
		_, err := tx.NewRaw(`INSERT INTO suppression_circuits (customer_id, domain, until) VALUES (?, ?, now() + ? * interval '1 second')
			ON CONFLICT (customer_id, domain) DO UPDATE SET until = excluded.until`, customerID, domain, suppression.CircuitOpen.Seconds()).Exec(ctx)
		if err != nil {
			return err
		}
		takenBack, err = takeBack(ctx, tx, `customer_id = ? AND source = 'delivery' AND reason = 'hard_bounce'
			AND created_at > now() - ? * interval '1 second' AND lower(split_part(address, '@', -1)) = ?`, customerID, suppression.CircuitWithin.Seconds(), domain)
		if err != nil {
			return err
		}
		return audit.Write(ctx, tx, customerID, "suppressions.suspended", domain, fmt.Sprintf("for %s: more than a fifth of the last %d results were hard bounces; %d entries were taken back",
			suppression.CircuitOpen, suppression.CircuitResults, takenBack))
	})
	return takenBack, err
}
