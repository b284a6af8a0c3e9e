package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/config"
)

// TestTheSettingsBoundAMessage by whichever door it comes in.
func TestTheSettingsBoundAMessage(t *testing.T) {
	t.Parallel()
	limits := (&app{cfg: config.Config{MaxRecipients: 3, MaxMessageBytes: 1000}}).limits()
	require.Equal(t, 3, limits.MaxRecipients)
	require.EqualValues(t, 1000, limits.MaxMessageBytes)
}
