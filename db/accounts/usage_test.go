package accounts

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
)

func TestCreditsAreCounted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		recipients int
		left       int64
		says       string
	}{
		{1, 0, "there is 1 recipient, which takes 1 credit, and 0 are left; ask the operator for more"},
		{2, 1, "there are 2 recipients, which take 2 credits, and 1 is left; ask the operator for more"},
		{5, 3, "there are 5 recipients, which take 5 credits, and 3 are left; ask the operator for more"},
	} {
		f, ok := errors.AsType[*email.Failure](affordable(c.recipients, c.left))
		require.True(t, ok)
		require.Equal(t, c.says, f.Detail)
	}
	require.NoError(t, affordable(1, 1))
}
