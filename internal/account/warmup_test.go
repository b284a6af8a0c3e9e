package account_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/account"
)

func TestParseWarmupDay(t *testing.T) {
	t.Parallel()
	day, err := account.ParseWarmupDay("2026-11-27")
	require.NoError(t, err)
	require.Equal(t, "2026-11-27T00:00:00Z", day.Format("2006-01-02T15:04:05Z07:00"))
	for _, none := range []string{"", "today", "2026-11-31", "0000-12-31", "10000-01-01"} {
		_, err := account.ParseWarmupDay(none)
		require.EqualError(t, err, "give a day, as 2026-11-27", none)
	}
}
