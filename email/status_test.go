package email_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
)

func TestParseStatus(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]email.Status{"initiated": email.StatusQueued, "processed": email.StatusSending, "delivered": email.StatusDelivered} {
		got, ok := email.ParseStatus(in)
		require.True(t, ok, in)
		require.Equal(t, want, got)
	}
	_, ok := email.ParseStatus("deferred")
	require.False(t, ok, "a recipient's state is not an e-mail's")
}
