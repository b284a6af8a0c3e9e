package pg

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAPatchWithoutItsRowsFieldIsRefused when the program starts.
func TestAPatchWithoutItsRowsFieldIsRefused(t *testing.T) {
	t.Parallel()
	type row struct{ ID string }
	type lacking struct {
		ID    string `json:"id"`
		Other string `json:"other"`
	}
	type another struct {
		ID int `json:"id"`
	}
	type untagged struct{ ID string }
	require.PanicsWithValue(t, "pg.lacking.Other: pg.row has no such field of this type", func() { Copier[row, lacking]() })
	require.NotPanics(t, func() { Copier[row, lacking]("Other") })
	require.Panics(t, func() { Copier[row, another]() })
	require.Panics(t, func() { UpdateOf[untagged]("t", "t", "id") })
	type odd struct {
		ID complex128 `json:"id"`
	}
	require.Panics(t, func() { Recordset[odd]() })
}
