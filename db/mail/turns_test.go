package mail_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
)

// other makes a second customer.
func (b *bench) other() string {
	b.T.Helper()
	c, _, err := b.Accounts.CreateCustomer(b.Ctx, "Other", "", "")
	require.NoError(b.T, err)
	return c.ID
}

// A customer's mail that comes behind another's flood goes with the next transaction.
func TestCustomersTakeTurnsWithAcceptances(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := b.other()
	accepted := make(chan error)
	accept := func(customerID string) {
		_, _, err := b.Mail.Accept(b.Ctx, customerID, dbsetup.Message("bob@x.test"), uuid.NewString(), email.Idempotency{})
		accepted <- err
	}
	waiting := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool { return b.Mail.Waiting()["accept"] == n }, time.Minute, time.Millisecond)
	}
	tx, err := b.Raw.BeginTx(b.Ctx, nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(b.Ctx, "LOCK TABLE emails IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	go accept(b.Customer)
	require.Eventually(t, b.waits, time.Minute, time.Millisecond, "the first transaction is held")
	const flood = 500
	for range flood {
		go accept(b.Customer)
	}
	waiting(flood)
	go accept(other)
	waiting(flood + 1)
	require.NoError(t, tx.Commit())
	for range flood + 2 {
		require.NoError(t, <-accepted)
	}
	require.Equal(t, 1, b.Count("SELECT count(*) FROM emails WHERE created_at < (SELECT created_at FROM emails WHERE customer_id = ?)", other),
		"of the flood, the first mail alone was stored before")
	require.Greater(t, b.Count("SELECT count(DISTINCT created_at) FROM emails"), flood/64)
	require.Zero(t, b.Mail.Waiting()["accept"])
	require.Zero(t, b.Mail.Refused()["accept"])
}

// Acceptances that do not share a transaction, each with a connection, leave connections to others.
// Mail that waits for its customer's other requests keeps out no other customer's mail.
func TestAcceptancesThatWaitForARowLeaveConnectionsToOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := b.other()
	const url = "https://hooks.example.com/one"
	tx, err := b.Raw.BeginTx(b.Ctx, nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(b.Ctx, `INSERT INTO webhook_endpoints (id, customer_id, kind, url, method, format, events, tags, streams)
		VALUES (?, ?, 'callback', ?, 'POST', 'standard', '{}', '{}', '{}')`, uuid.NewString(), b.Customer, url)
	require.NoError(t, err)
	const flood = 100
	accepted := make(chan error, flood)
	for range flood {
		go func() {
			m := dbsetup.Message("bob@x.test")
			m.CallbackURL = url
			_, _, err := b.Mail.Accept(b.Ctx, b.Customer, m, uuid.NewString(), email.Idempotency{})
			accepted <- err
		}()
	}
	waiting := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool { return b.Mail.Waiting()["accept_alone"] == n }, time.Minute, time.Millisecond)
	}
	waiting(flood - 2) // of four slots, half
	for i := range 3 {
		_, _, err := b.Mail.Accept(b.Ctx, other, dbsetup.Message("bob@x.test"), uuid.NewString(), email.Idempotency{})
		require.NoError(t, err)
		_, _, err = b.Mail.Accept(b.Ctx, other, dbsetup.Message("bob@x.test"), uuid.NewString(), email.Idempotency{Key: strconv.Itoa(i), Fingerprint: "f"})
		require.NoError(t, err)
	}
	require.Empty(t, accepted, "the flood waits still")
	waiting(flood - 2)
	require.NoError(t, tx.Commit())
	for range flood {
		require.NoError(t, <-accepted)
	}
}
