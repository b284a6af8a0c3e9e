package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/dbtest"
)

// TestMakeDemoFindsTheCustomerByID: dev starts again with the same customer after the demo's
// access key has changed the customer.
func TestMakeDemoFindsTheCustomerByID(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store, err := db.Open(dbtest.URL(t), db.Options{SecretKey: make([]byte, 32)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	cfg := config.Config{DevDir: t.TempDir()}
	start := func(t *testing.T, cfg config.Config) (demo, string) {
		t.Helper()
		var said bytes.Buffer
		d, err := makeDemo(ctx, store, cfg, &said)
		require.NoError(t, err)
		require.NoError(t, d.write(cfg, nil))
		return d, said.String()
	}
	rename := func(id, name string) {
		c, err := store.Accounts.Customer(ctx, id)
		require.NoError(t, err)
		c.Name = name
		_, _, err = store.Accounts.UpdateCustomer(ctx, c)
		require.NoError(t, err)
	}
	first, said := start(t, cfg)
	require.Empty(t, said)

	rename(first.customerID, "Renamed")
	again, said := start(t, cfg)
	require.Equal(t, first, again)
	require.Empty(t, said)

	// Another customer takes the name: it gets nothing.
	namesake, _, err := store.Accounts.CreateCustomer(ctx, demoCustomer, "", "")
	require.NoError(t, err)
	again, _ = start(t, cfg)
	require.Equal(t, first, again)
	keys, _, err := store.Accounts.AccessKeys(ctx, namesake.ID, email.Cursor{}, 10)
	require.NoError(t, err)
	require.Empty(t, keys)

	// Without dev.env the customer is the same one, with a new key.
	lost, said := start(t, config.Config{DevDir: t.TempDir()})
	require.Equal(t, first.customerID, lost.customerID)
	require.NotEqual(t, first.accessKey, lost.accessKey)
	require.Empty(t, said)

	// A customer of an installation that did not choose the id.
	older := config.Config{DevDir: t.TempDir()}
	require.NoError(t, demo{customerID: namesake.ID}.write(older, nil))
	rename(namesake.ID, "Old")
	other, said := start(t, older)
	require.Equal(t, namesake.ID, other.customerID)
	require.Contains(t, said, "the username demo is another customer's: the demo customer logs in as demo-"+namesake.ID+"\n")
	require.Contains(t, said, "another customer has verified the domain example.com: mail of the demo customer from it is refused\n")
	g, err := store.Accounts.GrantByToken(ctx, other.accessKey)
	require.NoError(t, err)
	require.Equal(t, namesake.ID, g.Customer.ID)
	require.Equal(t, []account.Scope{account.ScopeAdmin}, g.Scopes)
}

// TestMakeDemoReplacesADeletedCustomer: an operator may delete dev's customer; the next start
// makes another.
func TestMakeDemoReplacesADeletedCustomer(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store, err := db.Open(dbtest.URL(t), db.Options{SecretKey: make([]byte, 32)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	cfg := config.Config{DevDir: t.TempDir()}
	var said bytes.Buffer
	first, err := makeDemo(ctx, store, cfg, &said)
	require.NoError(t, err)
	require.NoError(t, first.write(cfg, nil))
	require.NoError(t, store.Accounts.DeleteCustomer(ctx, first.customerID))
	second, err := makeDemo(ctx, store, cfg, &said)
	require.NoError(t, err)
	require.NotEqual(t, first.customerID, second.customerID)
	require.NoError(t, second.write(cfg, nil))
	third, err := makeDemo(ctx, store, cfg, &said)
	require.NoError(t, err)
	require.Equal(t, second, third)
	require.Empty(t, said.String())
}
