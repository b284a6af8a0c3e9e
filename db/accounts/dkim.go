package accounts

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/internal/dkim"
	"github.com/postrider/postrider/internal/senderdomain"
)

type dkimKeyRow struct {
	bun.BaseModel `bun:"table:dkim_keys,alias:k"`

	ID               string                `bun:"id,pk,type:uuid"`
	DomainID         string                `bun:"domain_id,type:uuid"`
	Domain           string                `bun:"domain"`
	Selector         string                `bun:"selector"`
	Generation       int                   `bun:"generation"`
	Algorithm        string                `bun:"algorithm"`
	Record           string                `bun:"record"`
	PrivateKeySealed []byte                `bun:"private_key_sealed,nullzero"`
	State            senderdomain.KeyState `bun:"state"`
	Since            time.Time             `bun:"since"`
	SeenAt           time.Time             `bun:"seen_at,nullzero"`
}

func (r *dkimKeyRow) key() senderdomain.DKIMKey {
	return senderdomain.DKIMKey{
		ID: r.ID, Selector: r.Selector, Generation: r.Generation, Algorithm: r.Algorithm, State: r.State,
		Since: pg.UTC(r.Since), SeenAt: pg.UTC(r.SeenAt), Value: r.Record,
	}
}

// A domain whose keys are lost gets new ones by a rotation.
var _ = pg.RegisterSealedUntilLost("dkim_keys", "id", "private_key_sealed",
	"UPDATE dkim_keys SET state = 'revoked', since = now(), seen_at = NULL, private_key_sealed = NULL WHERE id = ?")

// newKeyPair makes an RSA and an Ed25519 key. It takes up to a second, so it is called outside of
// transactions.
func newKeyPair() (pair []dkim.PrivateKey, err error) {
	for _, algorithm := range []dkim.Algorithm{dkim.RSA, dkim.Ed25519} {
		key, err := dkim.GenerateKey(algorithm)
		if err != nil {
			return nil, err
		}
		pair = append(pair, key)
	}
	return pair, nil
}

// insertKeys stores a pair under the next selectors of the domain's name. No selector is used
// twice, by the same customer or another: the DNS has this key under it, or a wrong one.
func (s *Store) insertKeys(ctx context.Context, tx bun.Tx, domainID, name string, pair []dkim.PrivateKey) error {
	var generation int
	err := tx.NewRaw(`INSERT INTO dkim_selectors AS d (domain, last) VALUES (?, 1)
		ON CONFLICT (domain) DO UPDATE SET last = d.last + 1, used_at = now() RETURNING last`, name).Scan(ctx, &generation)
	if err != nil {
		return err
	}
	for _, key := range pair {
		row := dkimKeyRow{
			ID: pg.NewID(), DomainID: domainID, Domain: name, Selector: senderdomain.Selector(generation, string(key.Algorithm())), Generation: generation,
			Algorithm: string(key.Algorithm()), Record: key.Record(), State: senderdomain.PendingKey,
		}
		if row.PrivateKeySealed, err = s.keys.Seal(ctx, tx, row.ID, key.PKCS8()); err != nil {
			return err
		}
		if _, err := tx.NewInsert().Model(&row).Value("since", "now()").Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// keysOf reads the keys of domains, newest first, by domain.
func keysOf(ctx context.Context, idb bun.IDB, domainIDs ...string) (map[string][]senderdomain.DKIMKey, error) {
	out := map[string][]senderdomain.DKIMKey{}
	if len(domainIDs) == 0 {
		return out, nil
	}
	var rows []*dkimKeyRow
	err := idb.NewSelect().Model(&rows).ExcludeColumn("private_key_sealed").Where("k.domain_id IN (?)", bun.List(domainIDs)).
		Order("k.generation DESC", "k.algorithm DESC").Scan(ctx)
	for _, r := range rows {
		out[r.DomainID] = append(out[r.DomainID], r.key())
	}
	return out, err
}

// saveKeys writes the keys that a check has changed. The private key of a revoked one is destroyed.
func saveKeys(ctx context.Context, tx bun.Tx, before, after []senderdomain.DKIMKey) error {
	for i, k := range after {
		if k == before[i] {
			continue
		}
		_, err := tx.NewRaw(`UPDATE dkim_keys SET state = ?0, since = ?1, seen_at = ?2,
			private_key_sealed = CASE WHEN ?0 <> 'revoked' THEN private_key_sealed END WHERE id = ?3`,
			string(k.State), k.Since, pg.OrNull(k.SeenAt), k.ID).Exec(ctx)
		if err != nil {
			return err
		}
	}
	return nil
}

// PrivateKeys reads DKIM keys with their private parts, by their ids. Revoked keys, and those of deleted
// domains, are missing.
func (s *Store) PrivateKeys(ctx context.Context, ids []string) (map[string]dkim.Key, error) {
	var rows []*dkimKeyRow
	err := s.db.NewSelect().Model(&rows).Where("k.id IN (?)", bun.List(ids)).Where("k.private_key_sealed IS NOT NULL").Scan(ctx)
	if err != nil {
		return nil, pg.Translate(err)
	}
	out := make(map[string]dkim.Key, len(rows))
	for _, r := range rows {
		der, err := s.keys.Open(r.ID, r.PrivateKeySealed)
		if err != nil {
			return nil, err
		}
		private, err := dkim.ParsePrivateKey(der)
		if err != nil {
			return nil, err
		}
		out[r.ID] = dkim.Key{Domain: r.Domain, Selector: r.Selector, Private: private}
	}
	return out, nil
}

// namedKeys are those of some keys that mail on its way is signed with.
func namedKeys(ctx context.Context, tx bun.Tx, customerID string, ids []string) (named map[string]bool, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var found []string
	err = tx.NewRaw(`SELECT k.id FROM dkim_keys AS k WHERE k.id IN (?0) AND EXISTS (
		SELECT 1 FROM emails AS e WHERE e.status IN ('queued', 'sending') AND e.customer_id = ?1 AND k.id = ANY (e.dkim_keys))`,
		bun.List(ids), customerID).Scan(ctx, &found)
	named = map[string]bool{}
	for _, id := range found {
		named[id] = true
	}
	return named, err
}
