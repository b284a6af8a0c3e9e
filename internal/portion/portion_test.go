package portion_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/portion"
)

func TestPage(t *testing.T) {
	t.Parallel()
	for entries, want := range map[int]int64{1: 256 << 10, 16: 256 << 10, 20: 320 << 10, 64: 1 << 20, 100: 1 << 20, math.MaxInt: 1 << 20} {
		require.Equal(t, want, portion.Page(entries), entries)
	}
}
