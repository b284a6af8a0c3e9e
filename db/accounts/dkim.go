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

// SigningKey is an active DKIM key of a domain.
type SigningKey struct {
	ID string
	dkim.Key
}

// SigningKeys are the active DKIM keys of a customer's domain with their private keys, RSA first.
// There are none while no check has found their records, and for domains that a relay signs for.
func (s *Store) SigningKeys(ctx context.Context, customerID, domain string) ([]SigningKey, error) {
	var rows []*dkimKeyRow
	err := s.db.NewSelect().Model(&rows).Join("JOIN domains AS d ON d.id = k.domain_id").
		Where("d.customer_id = ?", customerID).Where("d.name = ?", domain).Where("k.state = ?", senderdomain.ActiveKey).
		Order("k.algorithm DESC").Scan(ctx)
	if err != nil {
		return nil, pg.Translate(err)
	}
	var out []SigningKey
	for _, r := range rows {
		der, err := s.keys.Open(r.ID, r.PrivateKeySealed)
		if err != nil {
			return nil, err
		}
		private, err := dkim.ParsePrivateKey(der)
		if err != nil {
			return nil, err
		}
		out = append(out, SigningKey{r.ID, dkim.Key{Domain: r.Domain, Selector: r.Selector, Private: private}})
	}
	return out, nil
}
