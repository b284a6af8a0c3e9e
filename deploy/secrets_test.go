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

// Each of our services refuses the passwords and keys that the compose file has as
// defaults, by name, unless the setting for a trial is there.
func TestComposeDefaultsAreRefusedAsPublished(t *testing.T) {
	t.Parallel()
	var file composeFile
	require.NoError(t, yaml.Unmarshal([]byte(composeText(t)), &file))
	ours := 0
	for name, s := range file.Services {
		if s.Build == nil {
			continue
		}
		ours++
		use := commands[strings.Join(s.Command, " ")]
		load := func(set map[string]string) error {
			var env []string
			for _, v := range slices.Sorted(maps.Keys(s.Environment)) {
				value := variable.ReplaceAllStringFunc(s.Environment[v], func(found string) string {
					m := variable.FindStringSubmatch(found)
					if chosen, ok := set[m[1]]; ok {
						return chosen
					}
					return m[2]
				})
				env = append(env, v+"="+value)
			}
			_, err := config.Load(env, use, config.Checks{})
			return err
		}
		key := strings.Repeat("ab", 32)
		require.NoError(t, load(map[string]string{"POSTGRES_PASSWORD": "another", "SECRET_KEY": key}), name)
		require.NoError(t, load(map[string]string{"ALLOW_PUBLISHED_SECRETS": "true"}), name)
		err := load(map[string]string{"SECRET_KEY": key})
		require.ErrorContains(t, err, "DATABASE_URL has a password that everybody can read", name)
		require.NotContains(t, err.Error(), "POSTRIDER_SECRET_KEY is a key")
		require.ErrorContains(t, load(map[string]string{"POSTGRES_PASSWORD": "another"}), "POSTRIDER_SECRET_KEY is a key that everybody can read", name)
	}
	require.Equal(t, 3, ours)
}
