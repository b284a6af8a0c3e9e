package pg

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/email"
)

// ErrSecretKey says that the process does not have the key, or one of the keys, of
// this database. Nothing is sealed with another one.
var ErrSecretKey = errors.New("nothing is sealed with another key")

func wrongKey(format string, args ...any) error {
	f := email.Fail(email.CodeUnavailable, format, args...)
	f.Err = ErrSecretKey
	return f
}

var (
	errOtherKey    = wrongKey("POSTRIDER_SECRET_KEY is not the key that this database's secrets are sealed with: set that one; if it is being replaced, set it as POSTRIDER_SECRET_KEY_OLD")
	errOldKeyInUse = wrongKey("some of this database's secrets are sealed with the key before POSTRIDER_SECRET_KEY: set that one as POSTRIDER_SECRET_KEY_OLD and run `postrider secret rotate` to its end")
)

// Keys are the keys of this process, and what the table secret_keys says of them.
type Keys struct {
	db   *DB
	ring Keyring
	// installation has the keys that Installation has read, by name.
	installation sync.Map
}

// NewKeys are keys for what a database holds.
func NewKeys(db *DB, ring Keyring) *Keys { return &Keys{db: db, ring: ring} }

// Seal seals plain for the row named by owner, with the key that seals now, which stays so until
// the end of tx. ErrSecretKey if this process does not have that key.
func (s *Keys) Seal(ctx context.Context, tx bun.Tx, owner string, plain []byte) ([]byte, error) {
	index, err := s.sealingKey(ctx, tx)
	if err != nil {
		return nil, err
	}
	return s.ring[index].sealFor(owner, plain), nil
}

// Open reads what was sealed for the row named by owner. It fails if no key of this process opens
// it.
func (s *Keys) Open(owner string, sealed []byte) ([]byte, error) {
	return s.ring.openFor(owner, sealed)
}

// Ready reports whether the process has the keys that this database needs: ErrSecretKey if not.
func (s *Keys) Ready(ctx context.Context) error {
	k, err := s.keyState(ctx, s.db)
	if err != nil {
		return Translate(err)
	}
	return k.err()
}

// sealLock is the key of the advisory lock of secret_keys. A transaction that seals holds it shared
// until its commit; one that changes the key holds it alone. So a rotation sees all secrets that
// were sealed with the old key before it.
const sealLock = 0x706f73747365616c // "postseal"

// canaryText is what is sealed in secret_keys.
const canaryText = "postrider"

func canaryOwner(id string) string { return "secret_keys/" + id }

// keyState is what secret_keys says, seen with the keys of this process.
type keyState struct {
	// planted: there is a row. Without one, no process has sealed anything yet, or only
	// versions that had no canary.
	planted bool
	// sealing is the index of the key that seals, or noKey.
	sealing   int
	sealingID string
	// retiring are the keys that are being replaced: id and index.
	retiring map[string]int
}

// err says what the process lacks, nil if nothing.
func (k keyState) err() error {
	if !k.planted {
		return nil
	}
	if k.sealing == noKey {
		return errOtherKey
	}
	for _, index := range k.retiring {
		if index == noKey {
			return errOldKeyInUse
		}
	}
	return nil
}

// keyState reads secret_keys.
func (s *Keys) keyState(ctx context.Context, conn bun.IDB) (keyState, error) {
	var rows []struct {
		ID       string
		Canary   []byte
		Retiring bool
	}
	k := keyState{sealing: noKey, retiring: map[string]int{}}
	if err := conn.NewRaw("SELECT id, canary, retiring_since IS NOT NULL AS retiring FROM secret_keys").Scan(ctx, &rows); err != nil {
		return k, fmt.Errorf("read secret_keys: %w", err)
	}
	for _, row := range rows {
		k.planted = true
		_, index := s.ring.by(canaryOwner(row.ID), row.Canary)
		if row.Retiring {
			k.retiring[row.ID] = index
		} else {
			k.sealing, k.sealingID = index, row.ID
		}
	}
	return k, nil
}

// CheckSecretKey reports whether this process has the keys that the database's
// secrets are sealed with: ErrSecretKey if not. The first process that asks plants
// the canary, if its keys open every secret that is there. CodeUnavailable, without
// ErrSecretKey, if Postgres does not answer or has no schema.
func (s *Keys) CheckSecretKey(ctx context.Context) error {
	return s.db.InTx(ctx, func(tx bun.Tx) error {
		_, err := s.sealingKey(ctx, tx)
		return err
	})
}

// SealingKey is which key seals: 0 is Options.SecretKey, 1 Options.OldSecretKey,
// which goes on sealing until RotateSecretKey: processes that have only that one must
// be able to open what is sealed. ErrSecretKey if this process has not got it.
func (s *Keys) SealingKey(ctx context.Context) (index int, err error) {
	err = s.db.InTx(ctx, func(tx bun.Tx) error {
		index, err = s.sealingKey(ctx, tx)
		return err
	})
	return index, err
}

// sealingKey is SealingKey within a transaction, to whose end the key stays.
func (s *Keys) sealingKey(ctx context.Context, tx bun.Tx) (int, error) {
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock_shared(?)", int64(sealLock)); err != nil {
		return noKey, err
	}
	k, err := s.keyState(ctx, tx)
	if err == nil && !k.planted {
		k, err = s.plant(ctx, tx)
	}
	if err != nil {
		return noKey, err
	}
	return k.sealing, k.err()
}

// plant writes the first canary. Secrets of versions that had none decide whose it is.
func (s *Keys) plant(ctx context.Context, tx bun.Tx) (keyState, error) {
	n, err := s.countSealed(ctx, tx)
	if err != nil {
		return keyState{}, err
	}
	if n.Unreadable > 0 {
		return keyState{}, wrongKey("%d of %d secrets in this database do not open with POSTRIDER_SECRET_KEY, nor with POSTRIDER_SECRET_KEY_OLD if that is set: set the key that they were sealed with as one of them; if it is lost, see `postrider secret reset --help`",
			n.Unreadable, n.Unreadable+n.Current+n.Old)
	}
	switch {
	case n.Old > 0 && n.Current == 0:
		err = s.insertCanary(ctx, tx, 1, false)
	case n.Old > 0: // an earlier version was started with two keys, one after the other
		err = errors.Join(s.insertCanary(ctx, tx, 0, false), s.insertCanary(ctx, tx, 1, true))
	default:
		err = s.insertCanary(ctx, tx, 0, false)
	}
	if err != nil {
		return keyState{}, err
	}
	return s.keyState(ctx, tx) // another process may have been first
}

func (s *Keys) insertCanary(ctx context.Context, tx bun.Tx, key int, retiring bool) error {
	id := NewID()
	_, err := tx.ExecContext(ctx, "INSERT INTO secret_keys (id, canary, retiring_since) VALUES (?, ?, CASE WHEN ? THEN now() END) ON CONFLICT DO NOTHING",
		id, s.ring[key].sealFor(canaryOwner(id), []byte(canaryText)), retiring)
	return err
}

// SealedColumn is a column that holds sealed secrets; the row's id owns its secret.
type SealedColumn struct {
	table, id, column string
	// whenLost is a statement for a row, given its id, whose secret no key opens; see RegisterSealedUntilLost.
	whenLost string
}

// sealedColumns are all of them. A test finds those that are missing here.
var sealedColumns []SealedColumn

// SealedColumns are all columns that were registered, as table.column.
func SealedColumns() (out []string) {
	for _, c := range sealedColumns {
		out = append(out, c.table+"."+c.column)
	}
	return out
}

// RegisterSealed notes a column, before a database is opened.
func RegisterSealed(table, id, column string) SealedColumn {
	c := SealedColumn{table: table, id: id, column: column}
	sealedColumns = append(sealedColumns, c)
	return c
}

// RegisterSealedUntilLost is RegisterSealed for secrets that Reset does not renew: it runs the
// statement for each row whose secret is lost, with the row's id as its argument.
func RegisterSealedUntilLost(table, id, column, statement string) SealedColumn {
	c := SealedColumn{table, id, column, statement}
	sealedColumns = append(sealedColumns, c)
	return c
}

// Sealed counts stored secrets by the key that they are sealed with.
type Sealed struct {
	// Current are sealed with Options.SecretKey, Old with Options.OldSecretKey.
	Current, Old int
	// Unreadable open with neither.
	Unreadable int
}

func (n *Sealed) add(index int) {
	switch index {
	case 0:
		n.Current++
	case 1:
		n.Old++
	default:
		n.Unreadable++
	}
}

// countSealed opens every secret.
func (s *Keys) countSealed(ctx context.Context, tx bun.Tx) (n Sealed, err error) {
	for _, c := range sealedColumns {
		err = s.eachSealed(ctx, tx, c.table, c.id, c.column, "", func(id string, sealed []byte) error {
			_, index := s.ring.by(id, sealed)
			n.add(index)
			return nil
		})
		if err != nil {
			return Sealed{}, err
		}
	}
	return n, nil
}

// SealedBatch is how many secrets are read, or sealed anew, at once.
const SealedBatch = 500

// sealedRow is one stored secret.
type sealedRow struct {
	ID     string
	Sealed []byte
}

// sealedAfter reads the next secrets of a column, in the order of their ids. The
// first batch comes after the empty id. lock is a locking clause.
func sealedAfter(ctx context.Context, tx bun.Tx, table, id, column, after, lock string) (rows []sealedRow, err error) {
	query := strings.NewReplacer("{table}", table, "{id}", id, "{column}", column).Replace(
		"SELECT {id} AS id, {column} AS sealed FROM {table} WHERE {column} IS NOT NULL AND (? = '' OR {id} > nullif(?, '')::uuid) ORDER BY {id} LIMIT ? ") + lock
	if err := tx.NewRaw(query, after, after, SealedBatch).Scan(ctx, &rows); err != nil {
		return nil, fmt.Errorf("read secrets of %s: %w", table, err)
	}
	return rows, nil
}

func (s *Keys) eachSealed(ctx context.Context, tx bun.Tx, table, id, column, lock string, do func(id string, sealed []byte) error) error {
	after := ""
	for {
		rows, err := sealedAfter(ctx, tx, table, id, column, after, lock)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := do(row.ID, row.Sealed); err != nil {
				return err
			}
			after = row.ID
		}
		if len(rows) < SealedBatch {
			return nil
		}
	}
}
