package account_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/account"
)

func TestAWarmUpsFirstDay(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 23, 59, 0, 0, time.UTC)
	w := account.Warmup{Plan: []int{50, 100, 200}}
	for text, want := range map[string]string{"": "2026-11-27", "2026-11-27": "2026-11-27", "2026-11-25": "2026-11-25", "9999-12-31": "9999-12-31"} {
		day, err := w.Beginning(text, now)
		require.NoError(t, err)
		require.Equal(t, want+"T00:00:00Z", day.Format(time.RFC3339))
	}
	for _, none := range []string{"today", "2026-11-31", "0000-12-31", "10000-01-01"} {
		_, err := w.Beginning(none, now)
		require.EqualError(t, err, "give a day, as 2026-11-27", none)
	}
	_, err := w.Beginning("2026-11-24", now)
	require.EqualError(t, err, "the plan's last day would be 2026-11-26, which is over: there would be no limit")
}
