package pg

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"
)

// A key that is lost is made anew when it is next asked for.
var _ = RegisterSealedUntilLost("installation_keys", "id", "key_sealed", "DELETE FROM installation_keys WHERE id = ?")

// installationKeyBytes is the length of an installation's own keys.
const installationKeyBytes = 32

// Installation is a key of 32 bytes that the installation has made for itself: the same for all its
// processes, and kept when POSTRIDER_SECRET_KEY is replaced. The first call of all makes it. made runs then,
// in the same transaction. The first call of a process keeps the key in memory; the others need no database.
func (s *Keys) Installation(ctx context.Context, name string, made func(tx bun.Tx, key []byte) error) (key []byte, err error) {
	if known, ok := s.installation.Load(name); ok {
		return known.([]byte), nil
	}
	err = s.db.InTx(ctx, func(tx bun.Tx) error {
		if key, err = s.installationKey(ctx, tx, name); !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		fresh := make([]byte, installationKeyBytes)
		if _, err := rand.Read(fresh); err != nil {
			return err
		}
		id := NewID()
		sealed, err := s.Seal(ctx, tx, id, fresh)
		if err != nil {
			return err
		}
		// Another process may make it at the same time. This waits for that one's commit.
		res, err := tx.NewRaw("INSERT INTO installation_keys (id, name, key_sealed) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING", id, name, sealed).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			if err == nil {
				key, err = s.installationKey(ctx, tx, name)
			}
			return err
		}
		key = fresh
		return made(tx, key)
	})
	if err == nil {
		s.installation.Store(name, key)
	}
	return key, err
}

func (s *Keys) installationKey(ctx context.Context, tx bun.Tx, name string) ([]byte, error) {
	var id string
	var sealed []byte
	if err := tx.NewRaw("SELECT id, key_sealed FROM installation_keys WHERE name = ?", name).Scan(ctx, &id, &sealed); err != nil {
		return nil, err
	}
	return s.Open(id, sealed)
}
