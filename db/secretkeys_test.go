package db_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/endpoint"
)

var (
	keyA = bytes.Repeat([]byte{0xa}, 32)
	keyB = bytes.Repeat([]byte{0xb}, 32)
)

// keyed opens a store with a key, and the key before it if there is one.
func keyed(t *testing.T, url string, key, old []byte) *db.DB {
	t.Helper()
	s, err := db.Open(url, db.Options{SecretKey: key, OldSecretKey: old, MaxConns: 5})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func createCustomer(t *testing.T, s *db.DB, name string) (id, secret string) {
	t.Helper()
	c, secret, err := s.Accounts.CreateCustomer(t.Context(), name, "", "")
	require.NoError(t, err)
	return c.ID, secret
}

func TestAnotherSecretKeyIsRefused(t *testing.T) {
	t.Parallel()
	url, ctx := dbtest.URL(t), t.Context()
	a, b := keyed(t, url, keyA, nil), keyed(t, url, keyB, nil)
	require.NoError(t, b.Ready(ctx), "no key has been decided on")
	require.NoError(t, a.Keys.CheckSecretKey(ctx))
	for name, err := range map[string]error{"check": b.Keys.CheckSecretKey(ctx), "ready": b.Ready(ctx)} {
		require.ErrorIs(t, err, db.ErrSecretKey, name)
		require.Equal(t, email.CodeUnavailable, email.FailureCode(err), name)
		require.ErrorContains(t, err, "POSTRIDER_SECRET_KEY is not the key", name)
	}
	_, err := b.Keys.SealingKey(ctx)
	require.ErrorIs(t, err, db.ErrSecretKey)
	require.NoError(t, a.Ready(ctx))

	// An operation that would seal does not, also in a process that was started without Postgres.
	customer, secret := createCustomer(t, a, "ACME")
	_, _, err = b.Accounts.CreateCustomer(ctx, "Other", "", "")
	require.ErrorIs(t, err, db.ErrSecretKey)
	_, err = a.Accounts.CustomerByName(ctx, "Other")
	require.Equal(t, email.CodeNotFound, email.FailureCode(err), "nothing of it was stored")
	_, _, err = b.Webhooks.CreateEndpoint(ctx, endpoint.Endpoint{CustomerID: customer, URL: "https://x.test", Method: "POST", Format: endpoint.FormatStandard})
	require.ErrorIs(t, err, db.ErrSecretKey)
	got, err := a.Webhooks.WebhookSecret(ctx, customer)
	require.NoError(t, err)
	require.Equal(t, secret, got)
}

// Versions before the canary sealed with the key that they were started with, even a wrong one.
func TestStoredSecretsDecideTheFirstKey(t *testing.T) {
	t.Parallel()
	url, ctx := dbtest.URL(t), t.Context()
	bench := dbsetup.With(t, url, func(o *db.Options) { o.SecretKey = keyA })
	forget := func() { bench.Exec("DELETE FROM secret_keys") }
	a, b := keyed(t, url, keyA, nil), keyed(t, url, keyB, nil)
	forget()
	require.ErrorContains(t, b.Keys.CheckSecretKey(ctx), "1 of 1 secrets in this database do not open")
	require.ErrorIs(t, b.Keys.CheckSecretKey(ctx), db.ErrSecretKey)
	require.Zero(t, bench.Count("SELECT count(*) FROM secret_keys"), "a wrong key plants nothing")
	require.NoError(t, a.Keys.CheckSecretKey(ctx))

	// Upgraded and replaced at once: the old key goes on sealing.
	forget()
	both := keyed(t, url, keyB, keyA)
	index, err := both.Keys.SealingKey(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, index)
	require.NoError(t, a.Ready(ctx), "processes that have only the old key go on")

	// Started with one key and then with another: both are needed, until all is sealed anew.
	bench.Exec("DELETE FROM secret_keys")
	_, err = bench.Raw.ExecContext(ctx, "CREATE TABLE kept AS SELECT * FROM webhook_endpoints")
	require.NoError(t, err)
	bench.Exec("UPDATE webhook_endpoints SET secret_sealed = '\\x00', kind = 'customer'")
	require.ErrorContains(t, b.Keys.CheckSecretKey(ctx), "1 of 1")
	bench.Exec("DELETE FROM webhook_endpoints")
	second, _ := createCustomer(t, b, "Second")
	bench.Exec("INSERT INTO webhook_endpoints SELECT * FROM kept")
	forget()
	require.ErrorContains(t, b.Keys.CheckSecretKey(ctx), "1 of 2")
	require.NoError(t, both.Keys.CheckSecretKey(ctx))
	err = b.Keys.CheckSecretKey(ctx)
	require.ErrorIs(t, err, db.ErrSecretKey)
	require.ErrorContains(t, err, "POSTRIDER_SECRET_KEY_OLD")
	st, err := both.Keys.SecretKeyStatus(ctx)
	require.NoError(t, err)
	require.Equal(t, db.SecretKeyStatus{Planted: true, Sealing: 0, Replacing: true, Sealed: db.Sealed{Current: 1, Old: 1}}, st)
	n, err := both.Keys.RotateSecretKey(ctx, func(int) {})
	require.NoError(t, err)
	require.Equal(t, db.Sealed{Current: 2}, n)
	require.NoError(t, b.Keys.CheckSecretKey(ctx))
	for _, id := range []string{bench.Customer, second} {
		_, err = b.Webhooks.WebhookSecret(ctx, id)
		require.NoError(t, err)
	}
}

// TestTheSecretKeyIsRotatedWhileOthersSeal: killed in the middle and run again, with
// processes at work that have both keys. Nothing is lost at any moment.
func TestTheSecretKeyIsRotatedWhileOthersSeal(t *testing.T) {
	t.Parallel()
	url, ctx := dbtest.URL(t), t.Context()
	oldOnly := keyed(t, url, keyA, nil)
	require.NoError(t, oldOnly.Keys.CheckSecretKey(ctx))
	secrets := map[string]string{}
	var mu sync.Mutex
	create := func(s *db.DB, name string, n int) {
		var wg sync.WaitGroup
		for part := range 4 {
			wg.Go(func() {
				for i := range n / 4 {
					c, secret, err := s.Accounts.CreateCustomer(ctx, fmt.Sprintf("%s %d %d", name, part, i), "", "")
					if err != nil {
						t.Errorf("create a customer: %v", err)
						return
					}
					mu.Lock()
					secrets[c.ID] = secret
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	create(oldOnly, "before", pg.SealedBatch+100)

	// Step 1 of the procedure: everybody has both keys; the old one seals.
	both := keyed(t, url, keyB, keyA)
	require.NoError(t, both.Keys.CheckSecretKey(ctx))
	create(both, "between", 40)
	for id, secret := range secrets {
		got, err := oldOnly.Webhooks.WebhookSecret(ctx, id)
		require.NoError(t, err, "a process that has not been restarted opens all")
		require.Equal(t, secret, got)
	}

	// Step 2, killed after its first batch.
	killed, kill := context.WithCancel(ctx)
	_, err := both.Keys.RotateSecretKey(killed, func(n int) { require.Equal(t, pg.SealedBatch, n); kill() })
	require.ErrorIs(t, err, context.Canceled)
	st, err := both.Keys.SecretKeyStatus(ctx)
	require.NoError(t, err)
	require.Equal(t, db.SecretKeyStatus{Planted: true, Sealing: 0, Replacing: true, Sealed: db.Sealed{Current: pg.SealedBatch, Old: len(secrets) - pg.SealedBatch}}, st)
	newOnly := keyed(t, url, keyB, nil)
	require.ErrorContains(t, newOnly.Keys.CheckSecretKey(ctx), "POSTRIDER_SECRET_KEY_OLD", "too early")
	require.ErrorIs(t, oldOnly.Ready(ctx), db.ErrSecretKey)
	for id, secret := range secrets {
		got, err := both.Webhooks.WebhookSecret(ctx, id)
		require.NoError(t, err)
		require.Equal(t, secret, got)
	}

	// Again, to the end, while others create customers and rotate secrets.
	var wg sync.WaitGroup
	wg.Go(func() { create(both, "during", 100) })
	var n db.Sealed
	wg.Go(func() {
		var err error
		if n, err = both.Keys.RotateSecretKey(ctx, func(int) {}); err != nil {
			t.Errorf("rotate: %v", err)
		}
	})
	wg.Wait()
	require.Zero(t, n.Old+n.Unreadable)
	n, err = both.Keys.RotateSecretKey(ctx, func(int) { t.Error("there is nothing left to seal") })
	require.NoError(t, err, "again is harmless")
	require.Equal(t, db.Sealed{Current: len(secrets)}, n)

	// Step 3: the new key alone.
	require.NoError(t, newOnly.Keys.CheckSecretKey(ctx))
	require.NoError(t, newOnly.Ready(ctx))
	for id, secret := range secrets {
		got, err := newOnly.Webhooks.WebhookSecret(ctx, id)
		require.NoError(t, err)
		require.Equal(t, secret, got)
	}
	require.ErrorIs(t, oldOnly.Keys.CheckSecretKey(ctx), db.ErrSecretKey)

	// And back, as a rotation like any other.
	back := keyed(t, url, keyA, keyB)
	_, err = back.Keys.RotateSecretKey(ctx, func(int) {})
	require.NoError(t, err)
	require.NoError(t, oldOnly.Keys.CheckSecretKey(ctx))
}

// A rotation that was begun can be taken back before it has ended.
func TestARotationIsTakenBack(t *testing.T) {
	t.Parallel()
	url, ctx := dbtest.URL(t), t.Context()
	a := keyed(t, url, keyA, nil)
	id, secret := createCustomer(t, a, "ACME")
	killed, kill := context.WithCancel(ctx)
	both := keyed(t, url, keyB, keyA)
	_, err := both.Keys.RotateSecretKey(killed, func(int) { kill() })
	require.ErrorIs(t, err, context.Canceled)
	_, err = keyed(t, url, keyA, keyB).Keys.RotateSecretKey(ctx, func(int) {})
	require.NoError(t, err)
	require.NoError(t, a.Keys.CheckSecretKey(ctx))
	got, err := a.Webhooks.WebhookSecret(ctx, id)
	require.NoError(t, err)
	require.Equal(t, secret, got)
	// Without the key that seals there is no rotation.
	_, err = keyed(t, url, keyB, nil).Keys.RotateSecretKey(ctx, func(int) {})
	require.ErrorIs(t, err, db.ErrSecretKey)
}

func TestALostKeyIsReset(t *testing.T) {
	t.Parallel()
	url, ctx := dbtest.URL(t), t.Context()
	id, secret := createCustomer(t, keyed(t, url, keyA, nil), "ACME")
	domain, _, err := keyed(t, url, keyA, nil).Accounts.CreateDomain(ctx, id, "acme.test")
	require.NoError(t, err)
	b := keyed(t, url, keyB, nil)
	require.ErrorIs(t, b.Keys.CheckSecretKey(ctx), db.ErrSecretKey)
	changed, err := b.Webhooks.ResetSecretKey(ctx)
	require.NoError(t, err)
	require.Len(t, changed, 1)
	require.Equal(t, id, changed[0].CustomerID)
	require.NoError(t, b.Keys.CheckSecretKey(ctx))
	got, err := b.Webhooks.WebhookSecret(ctx, id)
	require.NoError(t, err)
	require.NotEqual(t, secret, got)
	domain, err = b.Accounts.RotateDKIM(ctx, id, domain.ID)
	require.NoError(t, err)
	require.Equal(t, []string{"pending", "pending", "revoked", "revoked"}, []string{string(domain.Keys[0].State), string(domain.Keys[1].State), string(domain.Keys[2].State), string(domain.Keys[3].State)},
		"DKIM keys that do not open are given up")
	changed, err = b.Webhooks.ResetSecretKey(ctx)
	require.NoError(t, err)
	require.Empty(t, changed)
}

// A column that holds sealed secrets and that a rotation forgets would be lost with
// the old key.
func TestEverySealedColumnIsRotated(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var columns []string
	require.NoError(t, b.Raw.NewRaw(`SELECT table_name || '.' || column_name FROM information_schema.columns
		WHERE table_schema = 'public' AND column_name LIKE '%sealed%' ORDER BY 1`).Scan(b.Ctx, &columns))
	require.ElementsMatch(t, columns, pg.SealedColumns())
}
