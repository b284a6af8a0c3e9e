package pg

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/email"
)

// SecretKeyStatus says with which keys this database's secrets are sealed.
type SecretKeyStatus struct {
	// Sealing is the key that seals: 0 is Options.SecretKey, 1 Options.OldSecretKey,
	// another number one that this process has not got.
	Sealing int
	// Planted: a process has decided on that key. Before, the first secret will.
	Planted bool
	// Replacing: an old key has been replaced, but may still be needed.
	Replacing bool
	Sealed
}

// SecretKeyStatus opens every secret and changes nothing.
func (s *Keys) SecretKeyStatus(ctx context.Context) (st SecretKeyStatus, err error) {
	err = s.db.InTx(ctx, func(tx bun.Tx) error {
		k, err := s.keyState(ctx, tx)
		if err != nil {
			return err
		}
		st.Planted, st.Sealing, st.Replacing = k.planted, k.sealing, len(k.retiring) > 0
		st.Sealed, err = s.countSealed(ctx, tx)
		return err
	})
	return st, err
}

// RotateSecretKey makes Options.SecretKey the key that seals, and seals with it
// what is sealed with Options.OldSecretKey, 500 secrets a transaction; progress is
// called after each that changed some. Afterwards the old key is not needed any more.
// Killed in between it goes on where it was when it is called again; with nothing to
// do it does nothing. Every process must have both keys before. Unreadable ones in
// the answer open with neither key and are left as they are.
func (s *Keys) RotateSecretKey(ctx context.Context, progress func(resealed int)) (n Sealed, err error) {
	if err := s.db.InTx(ctx, func(tx bun.Tx) error { return s.replaceKey(ctx, tx) }); err != nil {
		return Sealed{}, fmt.Errorf("replace the secret key: %w", err)
	}
	for resealed := 1; resealed > 0; { // a version without the lock may have sealed meanwhile
		if resealed, err = s.resealAll(ctx, progress); err != nil {
			return Sealed{}, fmt.Errorf("seal secrets with the new key: %w", err)
		}
	}
	err = s.db.InTx(ctx, func(tx bun.Tx) error {
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(?)", int64(sealLock)); err != nil {
			return err
		}
		k, err := s.keyState(ctx, tx)
		if err != nil {
			return err
		}
		if n, err = s.countSealed(ctx, tx); err != nil {
			return err
		}
		if k.sealing != 0 || n.Old > 0 {
			return email.Fail(email.CodeConflict, "the secret key was replaced again meanwhile: run it again")
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM secret_keys WHERE retiring_since IS NOT NULL")
		return err
	})
	return n, err
}

// replaceKey makes the first key the one that seals, and keeps a note of the one
// before as long as secrets are sealed with it.
func (s *Keys) replaceKey(ctx context.Context, tx bun.Tx) error {
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(?)", int64(sealLock)); err != nil {
		return err
	}
	k, err := s.keyState(ctx, tx)
	if err == nil && !k.planted {
		k, err = s.plant(ctx, tx)
	}
	if err == nil {
		err = k.err()
	}
	if err != nil || k.sealing == 0 {
		return err
	}
	for id, index := range k.retiring {
		if index == 0 { // back to the key before
			if _, err := tx.ExecContext(ctx, "DELETE FROM secret_keys WHERE id = ?", id); err != nil {
				return err
			}
		}
	}
	if _, err := tx.ExecContext(ctx, "UPDATE secret_keys SET retiring_since = now() WHERE id = ?", k.sealingID); err != nil {
		return err
	}
	return s.insertCanary(ctx, tx, 0, false)
}

// resealAll goes once through all secrets.
func (s *Keys) resealAll(ctx context.Context, progress func(int)) (total int, err error) {
	for _, c := range sealedColumns {
		after, more := "", true
		for more {
			resealed := 0
			err := s.db.InTx(ctx, func(tx bun.Tx) error {
				rows, err := sealedAfter(ctx, tx, c.table, c.id, c.column, after, "FOR NO KEY UPDATE")
				if err != nil {
					return err
				}
				more = len(rows) == SealedBatch
				for _, row := range rows {
					after = row.ID
					plain, index := s.ring.by(row.ID, row.Sealed)
					if index <= 0 {
						continue // sealed with the new key, or with none that we have
					}
					if _, err := tx.ExecContext(ctx, "UPDATE "+c.table+" SET "+c.column+" = ? WHERE "+c.id+" = ?", s.ring[0].sealFor(row.ID, plain), row.ID); err != nil {
						return err
					}
					resealed++
				}
				return nil
			})
			if err != nil {
				return total, err
			}
			if total += resealed; resealed > 0 {
				progress(resealed)
			}
		}
	}
	return total, nil
}

// Reset is for a key that is lost: the first key seals from now on. renew is called for each secret
// of a column that opens with no key of this process. It stores another secret, which it seals with
// seal. Lost secrets of RegisterSealedUntilLost are given up.
func (s *Keys) Reset(ctx context.Context, c SealedColumn, renew func(tx bun.Tx, id string, seal func(plain []byte) []byte) error) error {
	return s.db.InTx(ctx, func(tx bun.Tx) error {
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(?)", int64(sealLock)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM secret_keys"); err != nil {
			return err
		}
		lost, err := s.lost(ctx, tx, c)
		if err != nil {
			return err
		}
		for _, id := range lost {
			if err := renew(tx, id, func(plain []byte) []byte { return s.ring[0].sealFor(id, plain) }); err != nil {
				return err
			}
		}
		for _, c := range sealedColumns {
			if c.whenLost == "" {
				continue
			}
			if lost, err = s.lost(ctx, tx, c); err != nil {
				return err
			}
			for _, id := range lost {
				if _, err := tx.ExecContext(ctx, c.whenLost, id); err != nil {
					return err
				}
			}
		}
		_, err = s.plant(ctx, tx)
		return err
	})
}

// lost are the rows of a column whose secrets open with no key of this process.
func (s *Keys) lost(ctx context.Context, tx bun.Tx, c SealedColumn) (ids []string, err error) {
	err = s.eachSealed(ctx, tx, c.table, c.id, c.column, "FOR NO KEY UPDATE", func(id string, sealed []byte) error {
		if _, index := s.ring.by(id, sealed); index == noKey {
			ids = append(ids, id)
		}
		return nil
	})
	return ids, err
}
