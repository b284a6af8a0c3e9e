package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/config"
)

// TestLimitsOfAMessage: the settings bound a message over REST and in a direct start.
func TestLimitsOfAMessage(t *testing.T) {
	t.Parallel()
	limits := (&app{cfg: config.Config{MaxRecipients: 3, MaxMessageBytes: 1000}}).limits()
	require.Equal(t, 3, limits.MaxRecipients)
	require.EqualValues(t, 1000, limits.MaxMessageBytes)
}
