package accounts_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/accounts"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

const (
	addKeys = `INSERT INTO access_keys (id, customer_id, token_prefix, token_hash, deleted_at, expires_at)
		SELECT gen_random_uuid(), ?, 'p', sha256(gen_random_uuid()::text::bytea), ?, ? FROM generate_series(1, ?)`
	addUsers = `INSERT INTO users (id, customer_id, username, password_hash)
		SELECT gen_random_uuid(), ?, 'user' || n, '$argon2id$' FROM generate_series(1, ?) AS n`
)

// TestAccessKeyLimit: deleted and expired keys do not count, and a rotation without overlap adds
// none.
func TestAccessKeyLimit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	past := time.Now().Add(-time.Hour)
	b.Exec(addKeys, b.Customer, past, nil, 10)
	b.Exec(addKeys, b.Customer, nil, past, 10)
	b.Exec(addKeys, b.Customer, nil, nil, accounts.MaxAccessKeys-1)
	wanted := account.AccessKey{CustomerID: b.Customer, Name: "one"}
	last, _, err := b.Accounts.CreateAccessKey(b.Ctx, wanted)
	require.NoError(t, err)
	_, _, err = b.Accounts.CreateAccessKey(b.Ctx, wanted)
	require.Equal(t, email.CodeConflict, email.FailureCode(err))
	require.ErrorContains(t, err, "there are 1000 access keys, the limit is 1000; delete one that is not used")
	_, _, err = b.Accounts.RotateAccessKey(b.Ctx, b.Customer, last.ID, time.Hour)
	require.Equal(t, email.CodeConflict, email.FailureCode(err), "both keys would be valid")
	_, _, err = b.Accounts.RotateAccessKey(b.Ctx, b.Customer, last.ID, 0)
	require.NoError(t, err)
}

// TestConcurrentCallsKeepTheLimits: of two calls that make the last one, one is refused.
func TestConcurrentCallsKeepTheLimits(t *testing.T) {
	t.Parallel()
	for table, tt := range map[string]struct {
		fill   func(b *bench)
		create func(b *bench, name string) error
	}{
		"access_keys": {
			func(b *bench) { b.Exec(addKeys, b.Customer, nil, nil, accounts.MaxAccessKeys-1) },
			func(b *bench, name string) error {
				_, _, err := b.Accounts.CreateAccessKey(b.Ctx, account.AccessKey{CustomerID: b.Customer, Name: name})
				return err
			},
		},
		"domains": {
			func(b *bench) {
				b.Exec("INSERT INTO domains (id, customer_id, name) SELECT gen_random_uuid(), ?, 'd' || n || '.test' FROM generate_series(1, ?) AS n", b.Customer, accounts.MaxDomains-1)
			},
			func(b *bench, name string) error {
				_, _, err := b.Accounts.CreateDomain(b.Ctx, b.Customer, name+".test")
				return err
			},
		},
		"users": {
			func(b *bench) { b.Exec(addUsers, b.Customer, accounts.MaxUsers-1) },
			func(b *bench, name string) error {
				_, err := b.Accounts.CreateUser(b.Ctx, b.Customer, name, "correct horse", false)
				return err
			},
		},
	} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			tt.fill(b)
			errs := b.WhileInsertsWait(table, func(i int) error { return tt.create(b, []string{"ann", "bob"}[i]) })
			require.Len(t, errs, 1)
			require.Equal(t, email.CodeConflict, email.FailureCode(errs[0]))
		})
	}
}
