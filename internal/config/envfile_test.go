package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/config"
)

func TestParseEnvFile(t *testing.T) {
	t.Parallel()
	require.Equal(t, map[string]string{"A": "x=y z", "B": "", "# note": "P Q", "C": "bare"},
		config.ParseEnvFile("# note='P Q'\nA='x=y z'\n\nno value\r\nB=''\n C=bare\n"))
}
