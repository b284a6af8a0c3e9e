package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// secretFile writes a file as an editor leaves it.
func secretFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// Every secret of the table can be read from a file, by every command that uses it.
func TestLoadSecretFiles(t *testing.T) {
	t.Parallel()
	values := map[string]string{
		"DATABASE_URL": testDatabase, "POSTRIDER_SMTP_URLS": testRelay, "POSTRIDER_SECRET_KEY": testKey, "POSTRIDER_SECRET_KEY_OLD": strings.Repeat("ab", 32),
		"POSTRIDER_METRICS_TOKEN": "metrics-token", "POSTRIDER_PAYLOAD_KEYS": "a:" + testKey, "POSTRIDER_CODEC_TOKEN": "codec-token-0123456789",
		"POSTRIDER_RECORDING_TOKEN": "recording-token",
	}
	plain, files := []string{"POSTRIDER_RECORDING_URL=https://rec.internal/{id}"}, []string{"POSTRIDER_RECORDING_URL=https://rec.internal/{id}"}
	for _, s := range Settings() {
		if !s.Secret && !s.HasPassword {
			require.Empty(t, s.FileVariable(), s.Name)
			continue
		}
		require.Contains(t, values, s.Name)
		plain = append(plain, s.Name+"="+values[s.Name])
		files = append(files, s.Name+"_FILE="+secretFile(t, "\r\n"+values[s.Name]+"\n"))
	}
	require.Len(t, files, len(values)+1)
	for _, use := range []Use{Serve, Worker, ServeWorker, DevUse, Tool, Migrate} {
		want, err := Load(plain, use, Checks{})
		require.NoError(t, err)
		got, err := Load(files, use, Checks{})
		require.NoError(t, err)
		require.Equal(t, want, got, use)
	}
	require.NoError(t, CheckNames(files))
}

func TestLoadInvalidSecretFiles(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "nothing")
	for name, tt := range map[string]struct{ path, want string }{
		"missing":     {missing, "cannot be read: open " + missing + ": no such file or directory"},
		"a directory": {filepath.Dir(missing), "cannot be read: read " + filepath.Dir(missing) + ": is a directory"},
		"empty":       {secretFile(t, " \n"), "is empty"},
		"large":       {secretFile(t, strings.Repeat("x", maxSecretFile+1)), "has more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Load([]string{"DATABASE_URL=" + testDatabase, "POSTRIDER_SECRET_KEY_FILE=" + tt.path}, Serve, Checks{})
			p := problems(t, err)
			require.Len(t, p, 1, "not also that the key is not set: %v", err)
			require.Equal(t, "POSTRIDER_SECRET_KEY_FILE", p[0].Name)
			require.Contains(t, p[0].Wrong, tt.want)
		})
	}
	_, err := Load(complete("POSTRIDER_SECRET_KEY_FILE="+secretFile(t, testKey)), Serve, Checks{})
	require.Contains(t, problems(t, err)[0].Wrong, "is set, and so is POSTRIDER_SECRET_KEY")
	_, err = Load([]string{"DATABASE_URL=" + testDatabase, "POSTRIDER_SECRET_KEY_FILE=" + secretFile(t, "hunter2!")}, Serve, Checks{})
	require.Equal(t, "POSTRIDER_SECRET_KEY", problems(t, err)[0].Name, "the value is checked as one of the environment is")
	require.NotContains(t, err.Error(), "hunter2")
	// Empty is as good as not set, as everywhere.
	_, err = Load(complete("POSTRIDER_SECRET_KEY_FILE= "), Serve, Checks{})
	require.NoError(t, err)
	for name, want := range map[string]string{
		"POSTRIDER_SECRET_KEY_FLIE": "POSTRIDER_SECRET_KEY_FILE", "POSTRIDER_DATABASE_URL_FILE": "DATABASE_URL_FILE", "POSTRIDER_LOG_LEVEL_FILE": "",
	} {
		_, err := Load(complete(name+"=x"), Serve, Checks{})
		require.Contains(t, problems(t, err)[0].Wrong, "is not a setting")
		require.Contains(t, problems(t, err)[0].Wrong, want)
	}
}

func TestFileVariablesAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/configuration.md")
	require.NoError(t, err)
	var want []string
	for _, s := range Settings() {
		if s.FileVariable() != "" {
			want = append(want, s.FileVariable())
		}
	}
	var got []string
	for _, m := range regexp.MustCompile("`([A-Z_]+_FILE)`").FindAllStringSubmatch(string(text), -1) {
		if m[1] != "NAME_FILE" && m[1] != "TEMPORAL_CONFIG_FILE" {
			got = append(got, m[1])
		}
	}
	require.Equal(t, want, got, "docs/configuration.md")
}

// A secret that is public in the repository is refused.
func TestLoadRefusesPublishedSecrets(t *testing.T) {
	t.Parallel()
	const key = "ZGV2LW9ubHkta2V5LWNoYW5nZS1iZWZvcmUtdXNlISE="
	example := func(name string) string { return find(name).Example }
	for variable, name := range map[string]string{
		"DATABASE_URL=postgres://postrider:dev-only-password@postgres:5432/postrider?sslmode=disable": "DATABASE_URL",
		"DATABASE_URL=postgres://postrider@postgres:5432/postrider?password=dev-only-password":        "DATABASE_URL",
		"DATABASE_URL=postgres://postrider_app:dev-only-app@postgres:5432/postrider?sslmode=disable":  "DATABASE_URL",
		"POSTRIDER_SECRET_KEY=" + key: "POSTRIDER_SECRET_KEY",
		"POSTRIDER_SECRET_KEY=6465762d6f6e6c792d6b65792d6368616e67652d6265666f72652d7573652121":               "POSTRIDER_SECRET_KEY",
		"POSTRIDER_PAYLOAD_KEYS=" + example("POSTRIDER_PAYLOAD_KEYS"):                                         "POSTRIDER_PAYLOAD_KEYS",
		"POSTRIDER_METRICS_TOKEN=dev-only-token":                                                              "POSTRIDER_METRICS_TOKEN",
		"POSTRIDER_PAYLOAD_KEYS=a:" + testKey + "\nPOSTRIDER_CODEC_TOKEN=" + example("POSTRIDER_CODEC_TOKEN"): "POSTRIDER_CODEC_TOKEN",
	} {
		env := complete(strings.Split(variable, "\n")...)
		for _, use := range []Use{Serve, Worker, ServeWorker, Tool, Migrate} {
			_, err := Load(env, use, Checks{})
			p := problems(t, err)
			require.Len(t, p, 1, variable)
			require.Equal(t, name, p[0].Name)
			require.Contains(t, p[0].Wrong, "that everybody can read")
			require.NotContains(t, err.Error(), "dev-only-", "no secret gets into an error, published or not")
			_, err = Load(append(env, "POSTRIDER_ALLOW_PUBLISHED_SECRETS=true"), use, Checks{})
			require.NoError(t, err, variable)
		}
		_, err := Load(env, DevUse, Checks{})
		require.NoError(t, err, variable)
	}
	_, err := Load(complete("POSTRIDER_SECRET_KEY_OLD="+key), Serve, Checks{})
	require.NoError(t, err, "the way out of a published key")
}
