package deploy_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/postrider/postrider/internal/config"
)

// Each of our services starts with the env file for a trial. Without the setting for a
// trial it refuses that file's passwords and keys by name. No secret has a default.
func TestComposeSecretsOfATrialAreRefusedAsPublished(t *testing.T) {
	t.Parallel()
	var file composeFile
	require.NoError(t, yaml.Unmarshal([]byte(composeText(t)), &file))
	dev, err := devEnv()
	require.NoError(t, err)
	ours := 0
	for name, s := range file.Services {
		if s.Build == nil {
			continue
		}
		ours++
		load := func(change map[string]string) error {
			set := maps.Clone(dev)
			maps.Copy(set, change)
			var env []string
			for _, v := range slices.Sorted(maps.Keys(s.Environment)) {
				value, missing := interpolate(s.Environment[v], set)
				require.Empty(t, missing, "%s: %s", name, v)
				env = append(env, v+"="+value)
			}
			_, err := config.Load(env, commands[strings.Join(s.Command, " ")], config.Checks{})
			return err
		}
		key := strings.Repeat("ab", 32)
		require.NoError(t, load(nil), name)
		require.NoError(t, load(map[string]string{"POSTGRES_PASSWORD": "another", "SECRET_KEY": key, "ALLOW_PUBLISHED_SECRETS": ""}), name)
		err := load(map[string]string{"SECRET_KEY": key, "ALLOW_PUBLISHED_SECRETS": ""})
		require.ErrorContains(t, err, "DATABASE_URL has a password that everybody can read", name)
		require.NotContains(t, err.Error(), "POSTRIDER_SECRET_KEY is a key")
		require.ErrorContains(t, load(map[string]string{"POSTGRES_PASSWORD": "another", "ALLOW_PUBLISHED_SECRETS": ""}), "POSTRIDER_SECRET_KEY is a key that everybody can read", name)
	}
	require.Equal(t, 3, ours)
	for name, value := range dev {
		if strings.HasSuffix(name, "PASSWORD") {
			require.Contains(t, value, "dev-only-", name)
		}
	}
}
