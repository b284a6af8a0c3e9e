package accounts_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
)

// TestEnsureUser: a user who is as wanted keeps its login tokens.
func TestEnsureUser(t *testing.T) {
	t.Parallel()
	b := setup(t)
	version := func() int {
		t.Helper()
		u, err := b.Accounts.UserByName(b.Ctx, b.Customer, "demo")
		require.NoError(t, err)
		return u.TokenVersion
	}
	require.NoError(t, b.Accounts.EnsureUser(b.Ctx, b.Customer, "demo", "correct horse"))
	require.NoError(t, b.Accounts.EnsureUser(b.Ctx, b.Customer, "demo", "correct horse"))
	require.Zero(t, version())
	require.NoError(t, b.Accounts.EnsureUser(b.Ctx, b.Customer, "demo", "battery staple"))
	require.Equal(t, 1, version())
	_, err := b.Accounts.Authenticate(b.Ctx, "demo", "battery staple")
	require.NoError(t, err)
	other, _, err := b.Accounts.CreateCustomer(b.Ctx, "Other", "", "")
	require.NoError(t, err)
	require.Equal(t, email.CodeConflict, email.FailureCode(b.Accounts.EnsureUser(b.Ctx, other.ID, "demo", "correct horse")))
}

// TestOfTwoChangesOfAPasswordOneWins: both had the right present password.
func TestOfTwoChangesOfAPasswordOneWins(t *testing.T) {
	t.Parallel()
	b := setup(t)
	u, err := b.Accounts.CreateUser(b.Ctx, b.Customer, "ann", "correct horse", false)
	require.NoError(t, err)
	errs := make(chan error, 2)
	for _, password := range []string{"battery staple", "third password"} {
		go func() {
			_, err := b.Accounts.ChangePassword(b.Ctx, u.ID, "correct horse", password)
			errs <- err
		}()
	}
	first, second := <-errs, <-errs
	require.True(t, (first == nil) != (second == nil), "%v, %v", first, second)
	u, err = b.Accounts.User(b.Ctx, b.Customer, u.ID)
	require.NoError(t, err)
	require.Equal(t, 1, u.TokenVersion)
}
